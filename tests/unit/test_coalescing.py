"""Which calls travel together, in what order, what each caller gets. The server is a sender that answers when told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from redisq import store
from redisq.body import codec
from redisq.errors import MessageConflict, MessageNotFound, Unavailable
from redisq.link.coalescer import Coalescer
from redisq.operations.caller import limits_of
from redisq.settings import Settings
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import new_id, partition_keys
from redisq.store.messages import NewMessage

LIMITS = limits_of(Settings(auth="none"))
KEYS = partition_keys("ns", "orders")
OTHER = partition_keys("ns", "invoices")


class Server:
    """Keeps each call until it is let go, then answers `OK` for each message, or what it is told for some."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []
        self.waited: list[float] = []
        self.deadlines: list[float | None] = []
        self.refused: dict[bytes, Any] = {}
        self.error: Exception | None = None
        self._gates: list[asyncio.Event] = []

    async def call(self, call: Call[Any], deadline: float | None = None, waited: float = 0.0) -> Any:
        gate = asyncio.Event()
        self.deadlines.append(deadline)
        self.calls.append(call)
        self.waited.append(waited)
        self._gates.append(gate)
        await gate.wait()
        if self.error is not None:
            raise self.error
        return call.decode([self.refused.get(id, b"OK") for id in ids(call)])

    def let_go(self, number: int) -> None:
        self._gates[number].set()


def ids(call: Call[Any]) -> list[Any]:
    return list(call.args[call.head :: call.size])


def queueing(*names: bytes, size: int = 1, keys: Any = KEYS) -> Call[Any]:
    body = codec.encode_request("x" * size, 10**9)
    return store.messages.queue(keys, LIMITS, [NewMessage(name, codec.digest(body), body) for name in names])


def deleting(*names: bytes) -> Call[Any]:
    return store.messages.delete(KEYS, LIMITS, names, new_nonce())


def names(count: int) -> list[bytes]:
    return [new_id() for _ in range(count)]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def begin(coalescer: Coalescer, these: Sequence[Call[Any]]) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(coalescer.call(call)) for call in these]


def on_a_loop(function: Callable[[Server, Coalescer], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on a loop of its own."""

    def run() -> None:
        async def main() -> None:
            server = Server()
            await function(server, Coalescer(server))

        asyncio.run(main())

    return run


@on_a_loop
async def test_a_caller_alone_is_sent_at_once_as_it_is(server: Server, coalescer: Coalescer) -> None:
    call = queueing(new_id())
    (task,) = begin(coalescer, [call])
    await turns(1)
    assert server.calls == [call]
    server.let_go(0)
    assert await task == [None]


@on_a_loop
async def test_who_comes_meanwhile_travels_together(server: Server, coalescer: Coalescer) -> None:
    some = names(10)
    tasks = begin(coalescer, [queueing(name) for name in some])
    await turns()
    assert [ids(call) for call in server.calls] == [some[:1], some[1:]]
    later = names(3)
    tasks += begin(coalescer, [queueing(name) for name in later])
    await turns()
    assert len(server.calls) == 2  # one is under way, one is written: the next waits
    server.let_go(0)
    await turns()
    assert ids(server.calls[2]) == later
    server.let_go(1)
    server.let_go(2)
    assert await asyncio.gather(*tasks) == [[None]] * 13


@on_a_loop
async def test_each_gets_its_own_outcomes(server: Server, coalescer: Coalescer) -> None:
    first, *some = names(4)
    server.refused = {some[1]: [b"MESSAGE_CONFLICT"]}
    tasks = begin(coalescer, [queueing(first), queueing(some[0]), queueing(*some[1:])])
    await turns()
    server.let_go(0)
    server.let_go(1)
    assert await tasks[1] == [None]
    conflict, fine = await tasks[2]
    assert isinstance(conflict, MessageConflict)
    assert fine is None


@on_a_loop
async def test_other_scripts_and_queues_go_their_own_ways(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [queueing(new_id()), queueing(new_id(), keys=OTHER), deleting(new_id())])
    tasks += begin(
        coalescer, [store.messages.get(KEYS, [new_id()]), store.queues.stats(KEYS), store.queues.stats(KEYS)]
    )
    await turns()
    assert [call.script.name for call in server.calls] == ["queue", "queue", "delete", "get", "stats", "stats"]
    for task in tasks:
        task.cancel()


@on_a_loop
async def test_one_deletes_a_message_and_the_other_does_not_find_it(server: Server, coalescer: Coalescer) -> None:
    """Together, both would be told that they had."""
    first, second = names(2)
    tasks = begin(coalescer, [deleting(first), deleting(second), deleting(second)])
    await turns()
    server.let_go(1)
    await turns()
    assert [ids(call) for call in server.calls] == [[first], [second], [second]]
    server.refused = {second: [b"MESSAGE_NOT_FOUND"]}
    server.let_go(0)
    server.let_go(2)
    assert await tasks[1] == [None]
    assert isinstance((await tasks[2])[0], MessageNotFound)


@on_a_loop
async def test_a_deletes_repeat_is_the_same_call(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [deleting(name) for name in names(3)])
    await turns()
    together = server.calls[1]
    assert len(ids(together)) == 2
    assert together.args[: together.head] == [*deleting(new_id()).args[:3], together.args[3], 0, together.args[5]]
    for task in tasks:
        task.cancel()


@on_a_loop
async def test_a_batch_is_bounded_in_number_and_bytes(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [queueing(name) for name in names(BATCH + 11)])
    await turns()
    server.let_go(0)
    await turns()
    assert [len(ids(call)) for call in server.calls] == [1, BATCH, 10]
    large = begin(coalescer, [queueing(name, size=400_000, keys=OTHER) for name in names(5)])
    await turns()
    server.let_go(3)
    await turns()
    assert [len(ids(call)) for call in server.calls[3:]] == [1, 2, 2]
    for task in tasks + large:
        task.cancel()


@on_a_loop
async def test_fewer_travel_together_whose_replies_may_be_large(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [store.messages.get(KEYS, [name]) for name in names(250)])
    await turns()
    server.let_go(0)
    server.let_go(1)
    await turns(1)
    for task in tasks:
        task.cancel()
    assert [len(ids(call)) for call in server.calls[:2]] == [1, store.messages.LOOKED_UP]


@on_a_loop
async def test_who_came_much_later_does_not_pay_for_the_first(server: Server, coalescer: Coalescer) -> None:
    """What the first has waited counts for all who travel with it, so they are of an age."""
    first, *others = begin(coalescer, [queueing(name) for name in names(3)])
    await turns()
    with pytest.MonkeyPatch.context() as patch:
        later = time.monotonic() + 9
        begin_now = begin(coalescer, [queueing(new_id())])
        await turns()
        patch.setattr("redisq.link.coalescer.time.monotonic", lambda: later)
        tasks = begin(coalescer, [queueing(new_id())])
        await turns()
        server.let_go(0)
        server.let_go(1)
        await turns()
    assert [len(ids(call)) for call in server.calls] == [1, 2, 1, 1]
    assert server.waited[2] > 8
    assert server.waited[3] == 0
    for task in [first, *others, *begin_now, *tasks]:
        task.cancel()


class Fussy(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


@on_a_loop
async def test_an_error_that_cannot_be_copied_reaches_all(server: Server, coalescer: Coalescer) -> None:
    server.error = Fussy("so", "so")
    tasks = begin(coalescer, [queueing(name) for name in names(4)])
    await turns()
    server.let_go(0)
    server.let_go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [Fussy] * 4


@on_a_loop
async def test_a_large_call_goes_alone(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [queueing(new_id()), queueing(*names(400)), queueing(new_id())])
    await turns()
    assert sorted(len(ids(call)) for call in server.calls) == [1, 1, 400]
    for task in tasks:
        task.cancel()


@on_a_loop
async def test_when_a_batch_fails_each_gets_an_error_of_its_own(server: Server, coalescer: Coalescer) -> None:
    server.error = Unavailable("Redis is away.")
    tasks = begin(coalescer, [queueing(name) for name in names(4)])
    await turns()
    server.let_go(0)
    server.let_go(1)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {str(error) for error in errors} == {"Redis is away."}
    assert len({id(error) for error in errors}) == 4
    server.error = None
    (task,) = begin(coalescer, [queueing(new_id())])
    await turns()
    server.let_go(2)
    assert await task == [None]


@on_a_loop
async def test_who_is_cancelled_before_it_is_sent_is_not_sent(server: Server, coalescer: Coalescer) -> None:
    first, second, third, fourth = names(4)
    tasks = begin(coalescer, [queueing(first), queueing(second)])
    await turns()
    tasks += begin(coalescer, [queueing(third), queueing(fourth)])
    await turns()
    tasks[2].cancel()
    server.let_go(0)
    await turns()
    assert ids(server.calls[2]) == [fourth]
    server.let_go(1)
    server.let_go(2)
    assert [task.cancelled() for task in tasks] == [False, False, True, False]
    assert await tasks[3] == [None]


@on_a_loop
async def test_who_is_cancelled_under_way_takes_no_other_along(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [queueing(name) for name in names(3)])
    await turns()
    tasks[0].cancel()
    tasks[1].cancel()
    await turns()
    server.let_go(1)
    assert await tasks[2] == [None]


@on_a_loop
async def test_the_time_a_caller_waited_counts(server: Server, coalescer: Coalescer) -> None:
    tasks = begin(coalescer, [queueing(name) for name in names(2)])
    await turns()
    tasks += begin(coalescer, [queueing(new_id())])
    await asyncio.sleep(0.01)
    server.let_go(0)
    await turns()
    assert server.waited[0] == 0
    assert server.waited[2] > 0
    for task in tasks:
        task.cancel()


def test_it_serves_one_loop_after_another() -> None:
    server = Server()
    coalescer = Coalescer(server)

    async def abandon() -> None:
        begin(coalescer, [queueing(name) for name in names(5)])
        await turns()

    async def use() -> list[Any]:
        (task,) = begin(coalescer, [queueing(new_id())])
        await turns()
        server.let_go(-1)
        return await task

    asyncio.run(abandon())
    assert asyncio.run(use()) == [None]


@pytest.mark.parametrize("count", [1, 7])
def test_what_is_idle_is_forgotten(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redisq.link.coalescer._MANY_LANES", 3)

    async def main() -> int:
        server = Server()
        coalescer = Coalescer(server)
        for number in range(count):
            (task,) = begin(coalescer, [queueing(new_id(), keys=partition_keys("ns", f"q{number}"))])
            await turns()
            server.let_go(number)
            await task
        return len(coalescer._gatherings.get().lanes)

    assert asyncio.run(main()) <= 3


@on_a_loop
async def test_only_who_waits_for_as_long_travels_together(server: Server, coalescer: Coalescer) -> None:
    calls = [queueing(new_id()) for _ in range(6)]
    tasks = [asyncio.ensure_future(coalescer.call(call, [0.5, 10.0][number % 2])) for number, call in enumerate(calls)]
    await turns()
    assert [len(ids(call)) for call in server.calls] == [1, 1, 2, 2]
    assert server.deadlines == [0.5, 10.0, 0.5, 10.0]
    for number in range(4):
        server.let_go(number)
    assert await asyncio.gather(*tasks) == [[None]] * 6
