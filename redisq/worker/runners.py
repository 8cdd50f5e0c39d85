"""Running handlers: async ones as tasks of the worker's loop, plain ones in threads. Both report to an `Owner`."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from redisq import process
from redisq.worker.delivery import Delivery

_MOMENT = 0.001  # seconds

HandlerFunction = Callable[[Delivery], Any] | Callable[[Delivery], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Handler:
    """A user's callable and how it shall run. `timeout` is in seconds; None is no limit.

    `policy` holds what it wants in place of the settings' defaults; a queue's own definition wins over both.
    """

    queue: str
    function: HandlerFunction
    concurrency: int
    timeout: float | None
    priority: int = 1
    policy: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return is_async(self.function)


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling this gives something to await: an `async def`, or an object whose `__call__` is one."""
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


class Owner(Protocol):
    """Whom a runner reports to, on the loop's thread; each delivery started ends with exactly one `returned`."""

    def succeeded(self, delivery: Delivery, result: Any) -> None: ...
    def failed(self, delivery: Delivery, error: BaseException) -> None: ...
    def overran(self, delivery: Delivery) -> None: ...
    def returned(self, delivery: Delivery) -> None: ...


class Runner(Protocol):
    """Starts and cancels handlers."""

    def start(self, delivery: Delivery) -> None: ...
    def cancel(self, delivery: Delivery) -> None: ...
    def unstarted(self) -> list[Delivery]: ...
    def close(self) -> None: ...


class TaskRunner:
    """Runs an async handler as one task per delivery."""

    def __init__(self, handler: Handler, owner: Owner) -> None:
        self._function = handler.function
        self._timeout = handler.timeout
        self._owner = owner
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        self._pid = process.pid

    def start(self, delivery: Delivery) -> None:
        self._tasks[delivery] = asyncio.create_task(self._run(delivery))

    def cancel(self, delivery: Delivery) -> None:
        task = self._tasks.get(delivery)
        if task is not None:
            task.cancel()

    def unstarted(self) -> list[Delivery]:
        return []

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, delivery: Delivery) -> None:
        owner, timer = self._owner, None
        if self._timeout is not None:
            timer = asyncio.get_running_loop().call_later(self._timeout, self._overrun, delivery)
        try:
            result = await self._function(delivery)
        except BaseException as error:  # SystemExit too: a handler may not end the worker
            if process.pid != self._pid:
                process.end_fork(error)
            owner.failed(delivery, error)
        else:
            if process.pid != self._pid:
                process.end_fork()
            owner.succeeded(delivery, result)
        finally:
            if timer is not None:
                timer.cancel()
            del self._tasks[delivery]
            owner.returned(delivery)

    def _overrun(self, delivery: Delivery) -> None:
        """Settle first: a handler that catches its cancellation may go on for as long as it likes, but in vain."""
        self._owner.overran(delivery)
        self.cancel(delivery)


class ThreadRunner:
    """Runs a plain handler in threads of its own, one per slot.

    Of deliveries that come together one thread is woken, which takes them one after the other: waking a thread for each
    costs more than most handlers. What it has not begun after a moment, because a handler takes its time, the other
    threads are woken for. They report through one list and wake the loop once for all that has gathered.

    The threads are daemons: one whose handler never returns cannot keep the process from ending.
    """

    def __init__(self, handler: Handler, owner: Owner) -> None:
        self._function = handler.function
        self._timeout = handler.timeout
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()  # each wakes a thread; False ends it
        self._watching = False
        self._reports: deque[tuple[Delivery, Any, BaseException | None]] = deque()
        self._woken = threading.Lock()
        self._pid = process.pid
        self._timers: dict[Delivery, asyncio.TimerHandle] = {}
        self._began: dict[Delivery, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"{process.HANDLERS}-{handler.queue}-{number}", daemon=True)
            for number in range(handler.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, delivery: Delivery) -> None:
        if self._timeout is not None:
            self._timers[delivery] = self._loop.call_later(self._timeout, self._check, delivery, self._timeout)
        self._waiting.append(delivery)
        if self._wakes.empty():
            self._wakes.put(True)
        elif not self._watching:
            self._watching = True
            self._loop.call_later(_MOMENT, self._wake_more)

    def _wake_more(self) -> None:
        self._watching = False
        for _ in range(len(self._waiting)):
            self._wakes.put(True)

    def cancel(self, delivery: Delivery) -> None:
        """Nothing: a thread cannot be stopped. Its handler may look at `delivery.cancelled`."""

    def unstarted(self) -> list[Delivery]:
        """Take back what no thread has begun."""
        taken: list[Delivery] = []
        while (delivery := self._take()) is not None:
            self._stop_timer(delivery)
            taken.append(delivery)
        return taken

    def close(self) -> None:
        for _ in self._threads:
            self._wakes.put(False)

    def _take(self) -> Delivery | None:
        try:
            return self._waiting.popleft()  # atomic, as a look before it would not be
        except IndexError:
            return None

    def _check(self, delivery: Delivery, timeout: float) -> None:
        """Look whether a handler has overrun its timeout, which counts from when a thread began with it."""
        left = self._began.get(delivery, time.monotonic()) + timeout - time.monotonic()
        if left > 0:
            self._timers[delivery] = self._loop.call_later(left, self._check, delivery, timeout)
        else:
            self._owner.overran(delivery)

    def _work(self) -> None:
        while self._wakes.get():
            while (delivery := self._take()) is not None:
                self._run(delivery)
                del delivery
                if self._woken.acquire(blocking=False):
                    try:
                        self._loop.call_soon_threadsafe(self._collect)
                    except RuntimeError:
                        return  # the loop has ended, and the worker with it

    def _run(self, delivery: Delivery) -> None:
        if self._timeout is not None:
            self._began[delivery] = time.monotonic()
        try:
            report: tuple[Delivery, Any, BaseException | None] = (delivery, self._function(delivery), None)
        except BaseException as error:  # SystemExit too: a handler may not end a thread
            report = (delivery, None, error)
        if process.pid != self._pid:
            process.end_fork(report[2])
        self._reports.append(report)

    def _collect(self) -> None:
        self._woken.release()
        while self._reports:
            delivery, result, error = self._reports.popleft()
            self._stop_timer(delivery)
            try:
                if error is None:
                    self._owner.succeeded(delivery, result)
                else:
                    self._owner.failed(delivery, error)
            finally:
                self._owner.returned(delivery)

    def _stop_timer(self, delivery: Delivery) -> None:
        timer = self._timers.pop(delivery, None)
        if timer is not None:
            timer.cancel()
        self._began.pop(delivery, None)
