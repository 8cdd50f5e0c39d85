"""Running handlers: async ones as tasks of the worker's loop, plain ones in threads. Both report to an `Owner`."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from redisq.runtime import process
from redisq.worker.handlers.contexts import Contexts
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.loop_watch import LoopWatch
from redisq.worker.handlers.shapes import is_async
from redisq.worker.handlers.verdicts import Verdict, is_awaitable, verdict_on_error, verdict_on_result

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


class Owner(Protocol):
    """Whom a runner reports to, on the loop's thread; each delivery started ends with exactly one `returned`."""

    def ended(self, delivery: Delivery, verdict: bytes | Verdict) -> None:
        """The handler has returned, in time, and this is its result; or it has failed."""

    def overran(self, delivery: Delivery, *, holds_thread: bool) -> None:
        """It has not within its timeout; with `holds_thread` it still goes on, and cannot be stopped."""

    def returned(self, delivery: Delivery) -> None:
        """It is done, whatever has become of the delivery."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What handlers run in: each in a fresh context, and those on the loop under a watch."""

    contexts: Contexts
    watch: LoopWatch

    @classmethod
    def here(cls, worker: str) -> Surroundings:
        """Make those of a worker that is started on this loop, in this context. The watch has to be started."""
        return cls(Contexts(copy_context()), LoopWatch(asyncio.get_running_loop(), worker))


class Runner(Protocol):
    """Starts and cancels handlers."""

    def start(self, delivery: Delivery) -> None: ...
    def cancel(self, delivery: Delivery) -> None: ...
    def unstarted(self) -> list[Delivery]: ...
    def close(self) -> None: ...


class TaskRunner:
    """Runs an async handler as one task per delivery. What it returns is awaited, too, if it is something to await."""

    def __init__(self, handler: Handler, owner: Owner, surroundings: Surroundings) -> None:
        self._function = handler.function
        self._timeout = handler.timeout
        self._owner = owner
        self._contexts = surroundings.contexts
        self._watch = surroundings.watch
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}
        self._pid = process.pid
        self._watch.over(f"queue {handler.queue}: its handler", self._tasks)

    def start(self, delivery: Delivery) -> None:
        self._start(delivery, self._function, None, self._contexts.fresh())

    def go_on(self, delivery: Delivery, answer: Awaitable[Any], began: float, context: Context) -> None:
        """Await what a plain handler returned, in the context that it ran in; its timeout counts from `began`."""
        self._start(delivery, lambda _: answer, began, context)

    def _start(
        self, delivery: Delivery, call: Callable[[Delivery], Any], began: float | None, context: Context
    ) -> None:
        task = asyncio.create_task(self._run(delivery, call, began), context=context)
        if not task.done():  # as an eager one may be
            self._tasks[delivery] = task
        self._watch.wake()

    def cancel(self, delivery: Delivery) -> None:
        task = self._tasks.get(delivery)
        if task is not None:
            self._loop.call_soon(task.cancel)  # after its first step: one that has not begun would report nothing

    def unstarted(self) -> list[Delivery]:
        return []

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, delivery: Delivery, call: Callable[[Delivery], Any], began: float | None) -> None:
        owner, timeout, timer = self._owner, self._timeout, None
        end = math.inf
        if timeout is not None:
            now = time.monotonic()
            end = (now if began is None else began) + timeout
            timer = self._loop.call_later(max(0.0, end - now), self._overrun, delivery)
        late = False
        try:
            result = await call(delivery)
            while is_awaitable(result):
                result = await result
            if process.pid != self._pid:
                process.end_fork()
            late = timer is not None and time.monotonic() >= end  # it kept the loop, so that the timer could not say so
            verdict = verdict_on_result(result)
        except BaseException as error:  # SystemExit too: a handler may not end the worker
            if process.pid != self._pid:
                process.end_fork(error)
            late = timer is not None and time.monotonic() >= end
            verdict = verdict_on_error(error)
        try:
            if late:
                owner.overran(delivery, holds_thread=False)
            else:
                owner.ended(delivery, verdict)
        finally:
            if timer is not None:
                timer.cancel()
            self._tasks.pop(delivery, None)
            owner.returned(delivery)

    def _overrun(self, delivery: Delivery) -> None:
        """Settle first: a handler that catches its cancellation may go on for as long as it likes, but in vain."""
        self._owner.overran(delivery, holds_thread=False)
        self.cancel(delivery)


class _Unfinished(NamedTuple):
    """What a plain handler returned that has to be awaited. `began` is when it was called, by the monotonic clock."""

    answer: Awaitable[Any]
    began: float
    context: Context


#: What a thread says of a delivery, and whether its handler has overrun its timeout.
_Report = tuple[Delivery, bytes | Verdict | _Unfinished, bool]


class ThreadRunner:
    """Runs a plain handler in threads of its own, one per slot. What it returns to be awaited is awaited on the loop.

    Of deliveries that come together one thread is woken, which takes them one after the other: waking a thread for each
    costs more than most handlers. What it has not begun after a moment, because a handler takes its time, the other
    threads are woken for. They report through one list and wake the loop once for all that has gathered.

    The threads are daemons: one whose handler never returns cannot keep the process from ending.
    """

    def __init__(self, handler: Handler, owner: Owner, surroundings: Surroundings) -> None:
        self._function = handler.function
        self._timeout = math.inf if handler.timeout is None else handler.timeout
        self._owner = owner
        self._contexts = surroundings.contexts
        self._tasks = TaskRunner(handler, owner, surroundings)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()  # each wakes a thread; False ends it
        self._watching = False
        self._reports: deque[_Report] = deque()
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
        if self._timeout < math.inf:
            self._timers[delivery] = self._loop.call_later(self._timeout, self._check, delivery)
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
        """Cancel what is awaited. A thread cannot be stopped: its handler may look at `delivery.cancelled`."""
        self._tasks.cancel(delivery)

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
        self._tasks.close()

    def _take(self) -> Delivery | None:
        try:
            return self._waiting.popleft()  # atomic, as a look before it would not be
        except IndexError:
            return None

    def _check(self, delivery: Delivery) -> None:
        """Look whether a handler has overrun its timeout, which counts from when a thread began with it."""
        began = self._began.get(delivery, time.monotonic())
        left = began + self._timeout - time.monotonic()
        if began == math.inf:  # it has returned, and the report of that is on its way
            return
        if left > 0:
            self._timers[delivery] = self._loop.call_later(left, self._check, delivery)
        else:
            self._owner.overran(delivery, holds_thread=True)

    def _work(self) -> None:
        while self._wakes.get():
            while (delivery := self._take()) is not None:
                context = self._contexts.fresh()
                context.run(self._run, delivery, context)
                del delivery, context
                if self._woken.acquire(blocking=False):
                    try:
                        self._loop.call_soon_threadsafe(self._collect)
                    except RuntimeError:
                        return  # the loop has ended, and the worker with it

    def _run(self, delivery: Delivery, context: Context) -> None:
        began, late = 0.0, False
        if self._timeout < math.inf:
            began = self._began[delivery] = time.monotonic()
        outcome: bytes | Verdict | _Unfinished
        try:
            result = self._function(delivery)
            if process.pid != self._pid:
                process.end_fork()
            if is_awaitable(result):
                outcome = _Unfinished(result, began, context)
            else:
                late = self._is_late(delivery, began)
                outcome = verdict_on_result(result)
        except BaseException as error:  # SystemExit too: a handler may not end a thread
            if process.pid != self._pid:
                process.end_fork(error)
            late = self._is_late(delivery, began)
            outcome = verdict_on_error(error)
        self._reports.append((delivery, outcome, late))

    def _is_late(self, delivery: Delivery, began: float) -> bool:
        if self._timeout == math.inf:
            return False
        self._began[delivery] = math.inf
        return time.monotonic() >= began + self._timeout

    def _collect(self) -> None:
        self._woken.release()
        while self._reports:
            delivery, outcome, late = self._reports.popleft()
            self._stop_timer(delivery)
            if isinstance(outcome, _Unfinished):
                self._tasks.go_on(delivery, *outcome)
                if delivery.cancelled:
                    self._tasks.cancel(delivery)
                continue
            try:
                if late:
                    self._owner.overran(delivery, holds_thread=False)
                else:
                    self._owner.ended(delivery, outcome)
            finally:
                self._owner.returned(delivery)

    def _stop_timer(self, delivery: Delivery) -> None:
        timer = self._timers.pop(delivery, None)
        if timer is not None:
            timer.cancel()
        self._began.pop(delivery, None)
