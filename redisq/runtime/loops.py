"""The event loop of a process of ours, and its end, which nothing that a handler does can put off.

`asyncio.run` waits at its end for every task, however often it catches its cancellation, and for every thread of
`asyncio.to_thread`, which nobody can stop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from redisq.runtime import logs, process

log = logs.logger("redisq.loops")

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


def run(main: Coroutine[Any, Any, T], factory: Factory | None = None, *, foreign: bool = False) -> T:
    """Run a coroutine on a loop of its own, as `asyncio.run` does, and return soon when it has ended.

    Signals that `process.catching` caught on the loop have no effect from then on until this returns.

    With `foreign` code of the user's runs on the loop, too, and cannot end it before the coroutine: neither by
    `loop.stop()`, nor by a SystemExit or KeyboardInterrupt in a task or callback, both of which asyncio and uvloop
    raise out of the loop.
    """
    with process.catching_to_the_end():
        loop = (factory or asyncio.new_event_loop)()
        asyncio.set_event_loop(loop)
        threads = DaemonThreads()
        loop.set_default_executor(threads)
        driver = _Driver(loop, foreign)
        try:
            return driver.run(main)
        finally:
            left = driver.wind_up()
            if left:
                log.warning("%d tasks that will not be cancelled are left behind", len(left))
                _forget(left)
            loop.set_default_executor(threads)  # a handler may have set one whose threads Python would wait for here
            asyncio.set_event_loop(None)
            loop.close()


class _Driver:
    """Runs the loop until a task is done, whatever ends it sooner, but for a Ctrl-C that nobody catches.

    Such a one cancels the main task, as in `asyncio.run`; a second one, or one during the wind-up, ends all at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, foreign: bool) -> None:
        self._loop = loop
        self._foreign = foreign
        self._main: asyncio.Task[Any] | None = None
        self._interrupts = 0
        self._at_once = False
        self._told = False

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run the main task to its end."""
        task: asyncio.Task[T] = self._loop.create_task(main)
        self._main = task
        process.on_interrupt(self._interrupted)
        try:
            return self._finish(task)
        except asyncio.CancelledError:
            if self._interrupts and task.uncancel() == 0:
                raise KeyboardInterrupt from None
            raise

    def wind_up(self) -> set[asyncio.Task[Any]]:
        """Cancel all tasks and end all generators; give those that go on."""
        return self._finish(self._loop.create_task(_wind_up(self._loop)))

    def _finish(self, task: asyncio.Task[T]) -> T:
        while not task.done():
            try:
                self._loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                if task.done() and not self._at_once:
                    break
                if self._at_once or not self._foreign or not _ends_a_loop(error):
                    raise
                self._tell(error)
        return task.result()

    def _interrupted(self) -> None:
        self._interrupts += 1
        if self._interrupts > 1 or self._main is None or self._main.done():
            self._at_once = True
            raise KeyboardInterrupt
        self._main.cancel()
        self._loop.call_soon_threadsafe(lambda: None)  # it may be waiting for descriptors

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            how = "loop.stop()" if isinstance(error, RuntimeError) else type(error).__name__
            log.error("code that a handler left on the event loop tried to end it, by %s: it goes on", how)
            log.debug("what tried to end the event loop", exc_info=error)


def _ends_a_loop(error: BaseException) -> bool:
    """Return whether what a loop raised says only that it was stopped; it may also be that it cannot run at all."""
    return not isinstance(error, RuntimeError) or str(error).startswith("Event loop stopped before")


async def _wind_up(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    for _ in range(2):  # what is cancelled may start other tasks to clean up
        if tasks := _others(loop):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_LAST_WORDS)
    generators = asyncio.ensure_future(loop.shutdown_asyncgens())
    await asyncio.wait([generators], timeout=_LAST_WORDS)
    return _others(loop)


def _others(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks(loop) - {asyncio.current_task()}


def _forget(tasks: set[asyncio.Task[Any]]) -> None:
    """Keep tasks for good: a coroutine that catches everything would catch its own end, and run on in the collector."""
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    hold = threading.Thread(target=lambda _: threading.Event().wait(), args=(tasks,), daemon=True)
    hold.name = f"{process.HANDLERS}-tasks"
    hold.start()


_Called = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`: as many as asyncio has by default, but daemons.

    A thread whose call never returns cannot keep the process from ending. The base class is there for asyncio, which
    takes no other; its own threads are never started.
    """

    def __init__(self) -> None:
        self._limit = min(32, (os.cpu_count() or 1) + 4)
        super().__init__(self._limit)
        self._calls: SimpleQueue[_Called | None] = SimpleQueue()
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
        hand: list[_Called | None] = []
        ending = False
        while not ending:
            try:
                self._serve(hand)
                ending = True
            except BaseException as thrown:  # into this thread, when what it called had returned
                for future, _ in filter(None, hand):
                    _answer(future.set_exception, thrown)
                    self._idle.release()
                hand.clear()
                ending = self._ended

    def _serve(self, hand: list[_Called | None]) -> None:
        """Call what is asked for, until told to end. What this thread has taken is in its `hand`."""
        get, source = SimpleQueue.get, (self._calls,)
        while True:
            one = map(get, source)
            hand += one  # a single step of the interpreter: an exception cannot come in between
            item = hand[0]
            if item is None:
                return
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
            hand.clear()
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
    except InvalidStateError:
        log.debug("a thread was interrupted when it had answered")
    except RuntimeError:
        log.debug("the loop that a thread worked for has ended")
