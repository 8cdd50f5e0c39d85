"""The event loop of a process of ours, and its end, which nothing that a handler does can put off.

`asyncio.run` waits at its end for every task, however often it catches its cancellation, and for every thread of
`asyncio.to_thread`, which nobody can stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from redisq.runtime import process

log = logging.getLogger("redisq.loops")

T = TypeVar("T")
P = ParamSpec("P")
Factory = Callable[[], asyncio.AbstractEventLoop]

_LAST_WORDS = 1.0  # seconds for tasks to end that were cancelled, and as long again for generators


def fastest() -> Factory | None:
    """Give uvloop's factory when it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Factory = uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, T], factory: Factory | None = None) -> T:
    """Run a coroutine on a loop of its own, as `asyncio.run` does, and return soon when it has ended."""
    runner = asyncio.Runner(loop_factory=factory)
    loop = runner.get_loop()
    loop.set_default_executor(DaemonThreads())
    try:
        return runner.run(main)
    finally:
        left = loop.run_until_complete(_wind_up(loop))
        if left:
            log.warning("%d tasks that will not be cancelled are left behind", len(left))
            _forget(left)
            asyncio.set_event_loop(None)
            loop.close()
        else:
            runner.close()


async def _wind_up(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """Cancel all tasks; give those that go on."""
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=_LAST_WORDS)
    generators = asyncio.ensure_future(loop.shutdown_asyncgens())
    _, late = await asyncio.wait([generators], timeout=_LAST_WORDS)
    return {*tasks, *late}


def _forget(tasks: set[asyncio.Task[Any]]) -> None:
    """Keep tasks for good: a coroutine that catches everything would catch its own end, and run on in the collector."""
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    hold = partial(_hold, tasks, threading.Event())
    threading.Thread(target=hold, name=f"{process.HANDLERS}-tasks", daemon=True).start()


def _hold(_: object, forever: threading.Event) -> None:
    forever.wait()


class DaemonThreads(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`: as many as asyncio has by default, but daemons.

    A thread whose call never returns cannot keep the process from ending. The base class is there for asyncio, which
    takes no other; its own threads are never started.
    """

    def __init__(self) -> None:
        self._limit = min(32, (os.cpu_count() or 1) + 4)
        super().__init__(self._limit)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._starting = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread."""
        future: Future[T] = Future()
        with self._starting:
            if self._ended:
                raise RuntimeError("no thread can be had any more: the loop has ended")
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._count < self._limit:
                self._count += 1
                name = f"{process.HANDLERS}-asyncio_{self._count}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    _answer(future.set_exception, error)
                else:
                    _answer(future.set_result, result)
                    del result
            del item, future, call
            self._idle.release()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Have threads end as they get free; whatever `wait` says, wait for none."""
        with self._starting:
            self._ended = True
            for _ in range(self._count):
                self._calls.put(None)


def _answer(give: Callable[[Any], None], value: object) -> None:
    try:
        give(value)
    except RuntimeError:
        log.debug("the loop that a thread worked for has ended")
