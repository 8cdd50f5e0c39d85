"""Handlers of many messages at once: their deliveries are gathered, run together, and judged one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from redisq.worker.handlers import shapes
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.error_text import type_name
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.hop import single_runner
from redisq.worker.handlers.runners import Handler, Owner, Runner, Surroundings
from redisq.worker.handlers.verdicts import Verdict, is_awaitable, verdict_on_error, verdict_on_result

_TICK = 0.001  # seconds that a loop's timer may be early
_WANTED = "a handler with batch= takes one argument, a list of deliveries"


class Batch(list[Delivery]):
    """Deliveries that one call of a handler works on: a list, with their `queue` and the worker's `state`."""

    __slots__ = ("_held", "queue", "state")

    def __init__(self, deliveries: Iterable[Delivery], queue: str, state: Any = None) -> None:
        super().__init__(deliveries)
        self.queue = queue
        #: what the worker's lifespan has yielded; None without one
        self.state: Any = state
        self._held: _Together | None = None


def check(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """Check that something can be a handler of batches, and return it.

    Raises:
        InvalidHandler: it cannot.
    """
    with shapes.looking_at(function):
        shapes.check_callable(function, "a handler")
        parameters = shapes.parameters_of(function, "a handler")
        if parameters is None:
            return function
        first, required = shapes.first_of(parameters), shapes.required_of(parameters)
        if first is None or len(required) > 1:
            raise shapes.refusal(function, f"it takes {len(required)} arguments, and {_WANTED}.")
        annotation = shapes.annotation_of(first, function)
        if first.kind is not first.VAR_POSITIONAL and not shapes.takes_list(annotation, Batch, Delivery):
            named = shapes.annotated(annotation)
            raise shapes.refusal(function, f"its argument {first.name} is annotated with {named}, and {_WANTED}.")
    return function


def runner_of(handler: Handler, owner: Owner[Held], surroundings: Surroundings) -> Runner[Held]:
    """Return what runs a handler: each message by itself, or many together."""
    return BatchRunner(handler, owner, surroundings) if handler.batch else single_runner(handler, owner, surroundings)


class _Together:
    """The deliveries of one call. It is cancelled when all of them are."""

    def __init__(self, members: Sequence[Held]) -> None:
        self.members = members
        self.verdicts: list[bytes | Verdict] = []
        self.reported = False

    @property
    def began(self) -> float:
        return self.members[0].began

    @began.setter
    def began(self, now: float) -> None:
        for held in self.members:
            held.began = now

    @property
    def cancelled(self) -> bool:
        return all(held.cancelled for held in self.members)


class _Waiting(NamedTuple):
    """A delivery that waits for others since `at`, by the loop's clock."""

    held: Held
    delivery: Delivery
    at: float


class BatchRunner:
    """Gathers what is started, `batch` of them or what comes within `linger` seconds, and runs that as one.

    At most so many calls run at once as full batches fit into the handler's slots; what comes meanwhile gathers. A
    suspect runs alone, as else nobody would know whom to charge. One of a batch cannot be cancelled: its delivery says
    that it is in vain.
    """

    def __init__(self, handler: Handler, owner: Owner[Held], surroundings: Surroundings) -> None:
        self._queue = handler.queue
        self._size = min(handler.batch, handler.concurrency)
        self._most = handler.concurrency // self._size
        self._linger = handler.linger
        self._owner = owner
        self._state = surroundings.state
        self._loop = asyncio.get_running_loop()
        self._gathered: deque[_Waiting] = deque()
        self._suspects: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._running: dict[Held, _Together] = {}
        self._calls = 0
        together = replace(handler, concurrency=self._most)
        self._runner: Runner[_Together] = single_runner(
            together, self, surroundings, partial(_judged, traceback_bytes=surroundings.traceback_bytes)
        )

    def start(self, held: Held, delivery: Delivery) -> None:
        waiting = self._suspects if held.suspicion else self._gathered
        waiting.append(_Waiting(held, delivery, self._loop.time()))
        if held.suspicion or len(self._gathered) >= self._size:
            self._begin()
        elif self._timer is None:
            self._wait()  # even if that is for no time at all: others may come from the same claim

    def cancel(self, held: Held) -> None:
        together = self._running.get(held)
        if together is None:
            self._drop(held)
        elif together.cancelled:
            self._runner.cancel(together)

    def _drop(self, held: Held) -> None:
        """End one that waits for others, as if its handler were cancelled: nobody shall work on it any more."""
        for waits in (self._suspects, self._gathered):
            for waiting in waits:
                if waiting.held is held:
                    waits.remove(waiting)
                    self._owner.ended(held, verdict_on_error(asyncio.CancelledError()))
                    self._owner.returned(held)
                    return

    def unstarted(self) -> list[Held]:
        found = [waiting.held for waiting in (*self._suspects, *self._gathered)]
        self._suspects.clear()
        self._gathered.clear()
        for together in self._runner.unstarted():
            self._forget(together)
            found += together.members
        return found

    def close(self) -> None:
        self._stop_timer()
        self._runner.close()

    # --- What is run ---

    def _begin(self) -> None:
        """Begin what is due, as far as calls may run."""
        while self._calls < self._most and (self._suspects or self._is_ready()):
            waiting, count = (self._suspects, 1) if self._suspects else (self._gathered, self._size)
            self._run([waiting.popleft() for _ in range(min(count, len(waiting)))])
        if self._gathered and self._timer is None:
            self._wait()

    def _wait(self) -> None:
        if self._calls < self._most:  # else it is begun when one returns
            self._timer = self._loop.call_at(self._gathered[0].at + self._linger, self._lingered)

    def _is_ready(self) -> bool:
        if len(self._gathered) >= self._size:
            return True
        return bool(self._gathered) and self._loop.time() >= self._gathered[0].at + self._linger - _TICK

    def _lingered(self) -> None:
        self._timer = None
        self._begin()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _run(self, taken: list[_Waiting]) -> None:
        """Run some as one; not those that have been lost meanwhile."""
        for waiting in taken:
            if waiting.held.settled:
                self._owner.returned(waiting.held)
        members = [waiting for waiting in taken if not waiting.held.settled]
        if not members:
            return
        together = _Together([waiting.held for waiting in members])
        batch = Batch((waiting.delivery for waiting in members), self._queue, self._state)
        batch._held = together
        self._calls += 1
        self._running.update(dict.fromkeys(together.members, together))
        self._runner.start(together, batch)

    def _forget(self, together: _Together) -> None:
        self._calls -= 1
        for held in together.members:
            del self._running[held]

    # --- What the runner of calls reports; see runners.Owner ---

    def ended(self, held: _Together, verdict: bytes | Verdict) -> None:
        verdicts = held.verdicts if isinstance(verdict, bytes) else [verdict] * len(held.members)
        for member, one in zip(held.members, verdicts, strict=True):
            self._owner.ended(member, one)

    def overran(self, held: _Together, *, thread: object = None) -> None:
        for member in held.members:
            self._owner.overran(member, thread=thread)

    def returned(self, held: _Together) -> None:
        self._forget(held)
        for member in held.members:
            self._owner.returned(member)
        self._begin()


def _judged(function: Callable[[Any], Any], traceback_bytes: int) -> Callable[[Any], Any]:
    """Return a function that calls one of batches, and notes what becomes of each delivery."""

    async def judge_later(together: _Together, result: Any) -> None:
        while is_awaitable(result):
            result = await result
        together.verdicts = _verdicts_on(result, len(together.members), traceback_bytes)

    async def judge_async(batch: Any) -> None:
        await judge_later(batch._held, await function(batch))

    def judge(batch: Any) -> Any:
        result = function(batch)
        if is_awaitable(result):
            return judge_later(batch._held, result)
        batch._held.verdicts = _verdicts_on(result, len(batch._held.members), traceback_bytes)
        return None

    return judge_async if shapes.is_async(function) else judge


def _verdicts_on(results: Any, count: int, traceback_bytes: int) -> list[bytes | Verdict]:
    """Judge what a handler of batches returned: nothing, or as many results or exceptions as it got. Raises nothing."""
    if results is None:
        return [verdict_on_result(None)] * count
    given = ""
    if type(results) in (list, tuple):
        if len(results) == count:
            return [_verdict_on(one, traceback_bytes) for one in results]
        given = f" of {len(results)}"
    text = (
        f"$: the handler returned {type_name(results)}{given} for {count} deliveries; with batch= it returns None, or "
        "a list of as many results or exceptions as it got."
    )
    said = "its result cannot be stored: InvalidMessage"
    return [Verdict({"type": "InvalidMessage", "message": text}, "rejected", said)] * count


def _verdict_on(one: Any, traceback_bytes: int) -> bytes | Verdict:
    if issubclass(type(one), BaseException):
        return verdict_on_error(one, traceback_bytes)
    return verdict_on_result(one)
