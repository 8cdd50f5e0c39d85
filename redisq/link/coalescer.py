"""Calls of an asyncio client that are made at once travel together: one round trip for many callers."""

from __future__ import annotations

import asyncio
import copy
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from redisq.link.faults import is_cut
from redisq.runtime.per_loop import PerLoop
from redisq.store.call import BATCH, Argument, Call
from redisq.store.portions import Portion

T = TypeVar("T")

_AT_ONCE = 2  # calls under way: the server works on one while the next is written
_LARGE = 64  # messages of a call that goes alone
_CHUNK_BYTES = 1024 * 1024
_OF_AN_AGE = 1.0  # seconds
_MANY_LANES = 1_000
#: Calls without messages of which one serves all who make it just so at once: everybody's first call to a queue, and
#: the question of those who wait.
_FOR_ALL = frozenset({"ended", "register", "schema"})
#: Calls that may not hold a message twice: of two who delete it one shall not find it.
_ONE_OF_EACH = frozenset({"delete"})


#: Calls under way that serve all who make them, by what they say and their deadline.
_Shared: TypeAlias = "dict[tuple[Argument | float | None, ...], asyncio.Future[Any]]"


class Sender(Protocol):
    """What carries calls to the server; a call's caller waits for `deadline` seconds, and `waited` some of them."""

    def call(self, call: Call[T], deadline: float | None = None, waited: float = 0.0) -> Awaitable[T]: ...


@dataclass(slots=True, eq=False)
class _Waiter:
    """A caller whose call waits to be sent with others."""

    call: Call[Any]
    answer: asyncio.Future[Any]
    since: float


@dataclass(slots=True, eq=False)
class _Lane:
    """Calls of one script on the keys of one queue partition, whose callers wait for as long."""

    deadline: float | None
    under_way: int = 0
    waiting: deque[_Waiter] = field(default_factory=deque)
    woken: bool = False
    portion: Portion = field(default_factory=lambda: Portion(BATCH))


class _Gathering:
    """What is under way on one event loop."""

    def __init__(self) -> None:
        self.lanes: dict[tuple[str, tuple[str, ...], float | None], _Lane] = {}
        self.shared: _Shared = {}


class Coalescer:
    """Sends the calls of one client, whose calls of a script differ in their messages alone.

    A caller alone has its call sent at once. While calls are under way further ones of the same script and keys gather,
    and are sent as one as soon as there is room. What waits is bounded by the number of callers, as each awaits its
    answer. Each gets its own outcomes; when all fail it gets an error of its own. A caller that is cancelled takes its
    call back as long as that was not sent.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._gatherings = PerLoop(_Gathering)
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, call: Call[T], deadline: float | None = None) -> T:
        """Run one call, alone or with others of the same deadline; raises what the sender does."""
        gathering = self._gatherings.get()
        if call.script.name in _FOR_ALL:
            return await self._share(call, deadline, gathering.shared)
        if call.size == 0 or len(call.args) - call.head > _LARGE * call.size:
            return await self._sender.call(call, deadline)
        lane = _lane(call, deadline, gathering)
        if lane.under_way or lane.waiting:
            return cast(T, await self._join(lane, call))
        lane.under_way = 1
        try:
            return await self._sender.call(call, deadline)
        finally:
            self._ended(lane)

    async def _share(self, call: Call[T], deadline: float | None, shared: _Shared) -> T:
        """Run a call, or take the answer to the same one under way, which goes on when a caller is cancelled."""
        name = call.script.name, deadline, *call.keys, *call.args
        task = shared.get(name)
        if task is None:
            task = shared[name] = asyncio.ensure_future(self._sender.call(call, deadline))
            task.add_done_callback(lambda done: (shared.pop(name), done.cancelled() or done.exception()))
        await asyncio.wait((task,))
        if not task.cancelled() and (error := task.exception()) is not None:
            raise _own(error)
        return cast(T, task.result())

    async def _join(self, lane: _Lane, call: Call[Any]) -> Any:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(call, loop.create_future(), time.monotonic())
        lane.waiting.append(waiter)
        if lane.under_way < _AT_ONCE and not lane.woken:
            lane.woken = True
            loop.call_soon(self._send_waiting, lane)  # with all who come in this turn of the loop
        return await waiter.answer

    def _ended(self, lane: _Lane) -> None:
        lane.under_way -= 1
        if not lane.woken:
            self._send_waiting(lane)

    def _send_waiting(self, lane: _Lane) -> None:
        lane.woken = False
        while lane.under_way < _AT_ONCE and (waiters := _take(lane.waiting, lane.portion.most)):
            lane.under_way += 1
            task = asyncio.create_task(self._send(lane, waiters))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, lane: _Lane, waiters: list[_Waiter]) -> None:
        try:
            waited = time.monotonic() - waiters[0].since
            outcomes = await self._sender.call(_joined(waiters), lane.deadline, waited)
        except BaseException as error:
            if len(waiters) > 1 and isinstance(error, Exception) and is_cut(error):
                lane.portion.cut(sum(map(_count, (waiter.call for waiter in waiters))))
                lane.waiting.extendleft(reversed(waiters))  # to go again, fewer at once
                return
            for waiter in waiters:
                if not waiter.answer.done():
                    _fail(waiter.answer, error)
            if not isinstance(error, Exception):
                raise
        else:
            lane.portion.passed()
            first = 0
            for waiter in waiters:
                end = first + _count(waiter.call)
                if not waiter.answer.done():  # else its caller was cancelled
                    waiter.answer.set_result(outcomes[first:end])
                first = end
        finally:
            self._ended(lane)


def _lane(call: Call[Any], deadline: float | None, gathering: _Gathering) -> _Lane:
    name, lanes = (call.script.name, call.keys, deadline), gathering.lanes
    lane = lanes.get(name)
    if lane is None:
        if len(lanes) >= _MANY_LANES:
            gathering.lanes = lanes = {name: lane for name, lane in lanes.items() if lane.under_way or lane.waiting}
        lane = lanes[name] = _Lane(deadline)
    return lane


def _count(call: Call[Any]) -> int:
    return (len(call.args) - call.head) // call.size


def _take(waiting: deque[_Waiter], most: int) -> list[_Waiter]:
    """Take what is sent as one: as many messages as may be, at `most` so many, about a megabyte of callers who came
    within a second.

    What the first has waited counts for all: see `Sender`.
    """
    taken: list[_Waiter] = []
    messages: set[Argument] = set()
    count = size = 0
    while waiting:
        waiter = waiting[0]
        call = waiter.call
        mine = call.args[call.head :: call.size] if call.script.name in _ONE_OF_EACH else ()
        count += _count(call)
        for argument in call.args[call.head :]:
            if type(argument) is bytes:
                size += len(argument)
        if taken and (
            count > min(call.most, most)
            or size > _CHUNK_BYTES
            or not messages.isdisjoint(mine)
            or waiter.since > taken[0].since + _OF_AN_AGE
        ):
            break
        waiting.popleft()
        if not waiter.answer.done():  # else its caller was cancelled
            taken.append(waiter)
            messages.update(mine)
    return taken


def _joined(waiters: Sequence[_Waiter]) -> Call[list[Any]]:
    """Make one call of several. What is the call's own, as a delete's nonce, is the first one's."""
    if len(waiters) == 1:
        return waiters[0].call
    first = waiters[0].call
    args: list[Argument] = [*first.args[: first.head]]
    for waiter in waiters:
        args += waiter.call.args[first.head :]

    def decode(reply: Sequence[Any]) -> list[Any]:
        outcomes: list[Any] = []
        for waiter in waiters:
            start = len(outcomes)
            outcomes += waiter.call.decode(reply[start : start + _count(waiter.call)])
        return outcomes

    parts = sum(waiter.call.parts for waiter in waiters)
    return Call(first.script, first.keys, args, decode, first.head, first.size, first.most, parts)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
    else:
        answer.set_exception(_own(error))


def _own(error: BaseException) -> BaseException:
    """Return a caller an error of its own: a traceback belongs to one."""
    try:
        own = copy.copy(error)
        own.__cause__ = error.__cause__
    except Exception:  # none of redisq's, and its own constructor wants more
        return error
    return own
