"""Running handlers: async ones as tasks of the worker's loop, plain ones in threads. Both report to an `Owner`."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from redisq.runtime import logs, process
from redisq.worker.handlers.contexts import Contexts
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.held import Held, Unit
from redisq.worker.handlers.loop_watch import LoopWatch
from redisq.worker.handlers.shapes import is_async
from redisq.worker.handlers.verdicts import Verdict, is_awaitable, verdict_on_error, verdict_on_result

_MOMENT = 0.001  # seconds

HandlerFunction = Callable[[Delivery], Any] | Callable[[Delivery], Awaitable[Any]]
U = TypeVar("U", bound=Unit)
U_contra = TypeVar("U_contra", bound=Unit, contravariant=True)


@dataclass(frozen=True, slots=True)
class Handler:
    """A user's callable and how it shall run. `timeout` is in seconds; None is no limit.

    `policy` holds what it wants in place of the settings' defaults; a queue's own definition wins over both. `name` is
    what its author called it. With a `batch` it takes up to so many deliveries at once, which are waited for `linger`
    seconds. `around` is what runs on the loop around a plain one.
    """

    queue: str
    function: Callable[[Any], Any]
    concurrency: int
    timeout: float | None
    priority: int = 1
    policy: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    batch: int = 0
    linger: float = 0.0
    around: Sequence[Callable[..., Any]] = ()

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return is_async(self.function)


class Owner(Protocol[U_contra]):
    """Whom a runner reports to, on the loop's thread; each delivery started ends with exactly one `returned`."""

    def ended(self, held: U_contra, verdict: bytes | Verdict) -> None:
        """Take note that the handler has returned, in time, with this result; or has failed."""

    def overran(self, held: U_contra, *, thread: object = None) -> None:
        """Take note that it has not, within its timeout; with a `thread` it goes on there, and cannot be stopped.

        What is given for a thread tells it from others.
        """

    def returned(self, held: U_contra) -> None:
        """Take note that it is done, whatever has become of it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What handlers run in: each in a fresh context, and those on the loop under a watch.

    `state` is what their worker's lifespan has opened. Of what they raise `traceback_bytes` of the traceback are kept.
    """

    contexts: Contexts
    watch: LoopWatch
    state: Any = None
    traceback_bytes: int = 0

    @classmethod
    def here(cls, worker: str) -> Surroundings:
        """Make those of a worker that is started on this loop, in this context. The watch has to be started."""
        return cls(Contexts(copy_context()), LoopWatch(asyncio.get_running_loop(), worker))


class Runner(Protocol[U]):
    """Starts and cancels handlers."""

    def start(self, held: U, delivery: Any) -> None: ...
    def cancel(self, held: U) -> None: ...
    def unstarted(self) -> list[U]: ...
    def close(self) -> None: ...


class _Unfinished(NamedTuple):
    """What a plain handler returned that has to be awaited."""

    answer: Awaitable[Any]
    context: Context


class TaskRunner(Generic[U]):
    """Runs an async handler as one task per delivery. What it returns is awaited, too, if it is something to await."""

    def __init__(self, handler: Handler, owner: Owner[U], surroundings: Surroundings) -> None:
        self._function = handler.function
        self._timeout = handler.timeout
        self._owner = owner
        self._contexts = surroundings.contexts
        self._watch = surroundings.watch
        self._traceback_bytes = surroundings.traceback_bytes
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[U, asyncio.Task[None]] = {}
        self._pid = process.pid
        self._watch.over(f"queue {handler.queue}: its handler", self._tasks)

    def start(self, held: U, delivery: Any) -> None:
        self._start(held, self._run(held, delivery), self._contexts.fresh())

    def go_on(self, held: U, unfinished: _Unfinished) -> None:
        """Await what a plain handler returned, in the context that it ran in; its timeout goes on."""
        self._start(held, self._run(held, unfinished), unfinished.context)

    def _start(self, held: U, run: Coroutine[Any, Any, None], context: Context) -> None:
        task = self._loop.create_task(run, context=context)
        if not task.done():  # as an eager one may be
            self._tasks[held] = task
        self._watch.wake()

    def cancel(self, held: U) -> None:
        task = self._tasks.get(held)
        if task is not None:
            self._loop.call_soon(task.cancel)  # after its first step: one that has not begun would report nothing

    def unstarted(self) -> list[U]:
        return []

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, held: U, work: Any) -> None:
        """Run the handler and report. Whatever goes wrong, in our own steps too, the delivery comes back."""
        owner, timeout, timer = self._owner, self._timeout, None
        end, late = math.inf, False
        try:
            if isinstance(held, Held):
                logs.handled.set(held)
            if not held.began:
                held.began = time.monotonic()
            if timeout is not None:
                now = time.monotonic()
                end = held.began + timeout
                timer = self._loop.call_later(max(0.0, end - now), self._overrun, held)
            try:
                result = await (work.answer if isinstance(work, _Unfinished) else self._function(work))
                while is_awaitable(result):
                    result = await result
                if process.pid != self._pid:
                    process.end_fork()
                late = timer is not None and time.monotonic() >= end  # it kept the loop: the timer could not say so
                verdict = verdict_on_result(result)
            except BaseException as error:  # SystemExit too: a handler may not end the worker
                if process.pid != self._pid:
                    process.end_fork(error)
                late = timer is not None and time.monotonic() >= end
                verdict = verdict_on_error(error, self._traceback_bytes)
            if late:
                owner.overran(held)
            else:
                owner.ended(held, verdict)
        finally:
            if timer is not None:
                timer.cancel()
            self._tasks.pop(held, None)
            owner.returned(held)

    def _overrun(self, held: U) -> None:
        """Settle first: a handler that catches its cancellation may go on for as long as it likes, but in vain."""
        self._owner.overran(held)
        self.cancel(held)


#: What a thread says of a delivery, and whether its handler has overrun its timeout.
_Report = tuple[U, bytes | Verdict | _Unfinished, bool]


class ThreadRunner(Generic[U]):
    """Runs a plain handler in threads of its own, one per slot. What it returns to be awaited is awaited on the loop.

    Of deliveries that come together one thread is woken, which takes them one after the other: waking a thread for each
    costs more than most handlers. What it has not begun after a moment, because a handler takes its time, the other
    threads are woken for. They report through one list and wake the loop once for all that has gathered.

    The threads are daemons: one whose handler never returns cannot keep the process from ending. Nor does one end that
    an exception is thrown into, as timeouts for threads do: what comes when the handler has returned hits our own code.
    """

    def __init__(self, handler: Handler, owner: Owner[U], surroundings: Surroundings) -> None:
        self._function = handler.function
        self._timeout = math.inf if handler.timeout is None else handler.timeout
        self._owner = owner
        self._contexts = surroundings.contexts
        self._traceback_bytes = surroundings.traceback_bytes
        self._tasks: TaskRunner[U] = TaskRunner(handler, owner, surroundings)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[U, Any]] = deque()
        self._closed = False
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()  # each wakes a thread; False ends it
        self._watching = False
        self._reports: deque[_Report[U]] = deque()
        self._woken = threading.Lock()
        self._pid = process.pid
        self._timers: dict[U, asyncio.TimerHandle] = {}
        self._began: dict[U, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"{process.HANDLERS}-{handler.queue}-{number}", daemon=True)
            for number in range(handler.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, held: U, delivery: Any) -> None:
        if self._timeout < math.inf:
            self._timers[held] = self._loop.call_later(self._timeout, self._check, held)
        self._waiting.append((held, delivery))
        if self._wakes.empty():
            self._wakes.put(True)
        elif not self._watching:
            self._watching = True
            self._loop.call_later(_MOMENT, self._wake_more)

    def _wake_more(self) -> None:
        self._watching = False
        for _ in range(len(self._waiting)):
            self._wakes.put(True)

    def cancel(self, held: U) -> None:
        """Cancel what is awaited. A thread cannot be stopped: its handler may look at `delivery.cancelled`."""
        self._tasks.cancel(held)

    def unstarted(self) -> list[U]:
        """Take back what no thread has begun."""
        taken: list[U] = []
        while (waiting := self._take()) is not None:
            self._stop_timer(waiting[0])
            taken.append(waiting[0])
        return taken

    def close(self) -> None:
        self._closed = True
        for _ in self._threads:
            self._wakes.put(False)
        self._tasks.close()

    def _take(self) -> tuple[U, Any] | None:
        try:
            return self._waiting.popleft()  # atomic, as a look before it would not be
        except IndexError:
            return None

    def _check(self, held: U) -> None:
        """Look whether a handler has overrun its timeout, which counts from when a thread began with it."""
        began = self._began.get(held, time.monotonic())
        left = began + self._timeout - time.monotonic()
        if began == math.inf:  # it has returned, and the report of that is on its way
            return
        if left > 0:
            self._timers[held] = self._loop.call_later(left, self._check, held)
        else:
            self._owner.overran(held, thread=held)

    def _work(self) -> None:
        hand: list[tuple[U, Any]] = []
        thrown: BaseException | None = None
        while not self._closed:
            try:
                if thrown is not None:
                    self._recover(hand, thrown)
                    thrown = None
                self._serve(hand)
                return
            except BaseException as error:
                thrown = error

    def _serve(self, hand: list[tuple[U, Any]]) -> None:
        """Run what waits, until told to end. What this thread has taken is in its `hand` until that is reported."""
        take, source = deque.popleft, (self._waiting,)
        while self._wakes.get():
            while True:
                one = map(take, source)
                try:
                    hand += one  # a single step of the interpreter: an exception cannot come in between
                except IndexError:
                    break
                context = self._contexts.fresh()
                context.run(self._run, *hand[0], context)
                del context
                hand.clear()
                if self._woken.acquire(blocking=False):
                    try:
                        self._loop.call_soon_threadsafe(self._collect)
                    except RuntimeError:
                        return  # the loop has ended, and the worker with it

    def _recover(self, hand: list[tuple[U, Any]], thrown: BaseException) -> None:
        """Report what was in hand, if only for safety, and take up what was about to be done: a report, a wake-up."""
        if process.pid != self._pid:
            process.end_fork(thrown)
        for held, _ in hand:
            self._reports.append((held, verdict_on_error(thrown, self._traceback_bytes), False))
        hand.clear()
        self._wakes.put(True)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._collect)

    def _run(self, held: U, delivery: Any, context: Context) -> None:
        late, limited = False, self._timeout < math.inf
        if isinstance(held, Held):
            logs.handled.set(held)
        began = held.began = time.monotonic()
        if limited:
            self._began[held] = began
        outcome: bytes | Verdict | _Unfinished
        try:
            result = self._function(delivery)
            if process.pid != self._pid:
                process.end_fork()
            if is_awaitable(result):
                outcome = _Unfinished(result, context)
            else:
                late = limited and self._is_late(held, began)
                outcome = verdict_on_result(result)
        except BaseException as error:  # SystemExit too: a handler may not end a thread
            if process.pid != self._pid:
                process.end_fork(error)
            late = limited and self._is_late(held, began)
            outcome = verdict_on_error(error, self._traceback_bytes)
        self._reports.append((held, outcome, late))

    def _is_late(self, held: U, began: float) -> bool:
        self._began[held] = math.inf
        return time.monotonic() >= began + self._timeout

    def _collect(self) -> None:
        if self._woken.locked():  # as it is, unless a thread has recovered
            self._woken.release()
        while self._reports:
            held, outcome, late = self._reports.popleft()
            if held.reported:  # by a thread that recovered, and had reported it
                continue
            held.reported = True
            self._stop_timer(held)
            if isinstance(outcome, _Unfinished):
                self._tasks.go_on(held, outcome)
                if held.cancelled:
                    self._tasks.cancel(held)
                continue
            try:
                if late:
                    self._owner.overran(held)
                else:
                    self._owner.ended(held, outcome)
            finally:
                self._owner.returned(held)

    def _stop_timer(self, held: U) -> None:
        timer = self._timers.pop(held, None)
        if timer is not None:
            timer.cancel()
        self._began.pop(held, None)
