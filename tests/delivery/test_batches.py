"""What goes in batches goes as if it went alone: one bad item hurts no other, a slow Redis slows its callers and fills
no memory, and a lost reply doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from redisq import (
    AsyncRedisQ,
    BatchError,
    Delivery,
    InvalidMessage,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    RedisQ,
    Reject,
    Retry,
    Settings,
    Status,
    Worker,
    store,
)
from redisq.body import codec
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, new_nonce
from redisq.store.keys import given_id, id_text, new_id
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages
from tests.support.queues.invariants import broken
from tests.support.servers.proxy import script, until
from tests.support.servers.slow_proxy import Dam
from tests.support.workers.spawned import PATIENCE, working

Client = Callable[[AsyncRedisQ], Awaitable[Any]]


@pytest.fixture
def slow(dam: Dam, below: Callable[..., Raw]) -> Settings:
    """Settings of who reaches Redis through the dam, and waits for it."""
    return below(dam, command_timeout=PATIENCE, retry_deadline=PATIENCE).settings


def run(settings: Settings, work: Client) -> Any:
    async def main() -> Any:
        async with AsyncRedisQ(settings=settings) as mq:
            return await work(mq)

    return asyncio.run(main())


def at_once(*calls: Awaitable[Any]) -> Awaitable[list[Any]]:
    return asyncio.gather(*calls, return_exceptions=True)


def kinds(outcomes: Sequence[object]) -> list[str]:
    """The names of the errors among outcomes, "" for what is none."""
    return [type(outcome).__name__ if isinstance(outcome, Exception) else "" for outcome in outcomes]


def check(raw: Raw) -> None:
    """Nothing is wrong with the queue, by the audit and by our own look at its keys."""
    with RedisQ(settings=raw.settings) as client:
        assert client.doctor(QUEUE) == []
    assert broken(raw) == []


# --- One bad item -----------------------------------------------------------------------------------------------------


def test_each_of_many_who_queue_gets_its_own_answer(dam: Dam, slow: Settings, tasks: Raw) -> None:
    """Some of them with a few messages, which travel with the others."""
    with RedisQ(settings=tasks.settings) as client:
        client.define(QUEUE, max_bytes=1_000)
        taken = client.queue_message(QUEUE, "first")

    async def work(mq: AsyncRedisQ) -> list[Any]:
        return await at_once(
            *(mq.queue_message(QUEUE, n) for n in range(20)),
            mq.queue_message(QUEUE, object()),
            mq.queue_message(QUEUE, "x" * 2_000),
            mq.queue_message(QUEUE, "second", id=taken),
            mq.queue_message(QUEUE, "first", id=taken),
            mq.queue_messages(QUEUE, ["a", {1}, "x" * 2_000, "second", "b"], ids=[*some[:3], taken, some[3]]),
            *(mq.queue_message(QUEUE, n) for n in range(20, 40)),
            mq.queue_messages(QUEUE, ["c", "d"]),
        )

    some = [id_text(new_id()) for _ in range(4)]
    outcomes = run(slow, work)
    errors = ["InvalidMessage", "MessageTooLarge", "MessageConflict", "", "BatchError"]
    assert kinds(outcomes) == [""] * 20 + errors + [""] * 21
    refused = outcomes[24]
    assert isinstance(refused, BatchError)
    assert refused.ids == [*some[:3], taken, some[3]]
    wrong = {index: type(error) for index, error in refused.errors.items()}
    assert wrong == {1: InvalidMessage, 2: MessageTooLarge, 3: MessageConflict}
    assert outcomes[23] == taken
    accepted = [*outcomes[:20], *outcomes[25:45], *outcomes[45], taken, some[0], some[3]]
    requests = [message.request for message in messages(tasks, accepted)]
    assert requests == [*range(40), "c", "d", "first", "a", "b"]
    assert len(dam.sizes("queue")) <= 4  # they did travel together
    with RedisQ(settings=tasks.settings) as client:
        assert client.stats(QUEUE).queued == client.stats(QUEUE).ready == len(accepted)
    check(tasks)


def test_each_of_many_who_look_up_or_delete_gets_its_own_answer(dam: Dam, slow: Settings, tasks: Raw) -> None:
    with RedisQ(settings=tasks.settings) as client:
        ids = client.queue_messages(QUEUE, range(40))
    nobody, damaged = id_text(new_id()), uuid.UUID(ids[7]).bytes
    sound = tasks.redis.hget(tasks.keys.messages, damaged)
    tasks.redis.hset(tasks.keys.messages, damaged, sound[:-1] + b"\xc1")

    async def look_up(mq: AsyncRedisQ) -> list[Any]:
        single = [mq.get_message(QUEUE, id) for id in [*ids, nobody, "no id"]]
        several = [[nobody, ids[0]], [ids[7], ids[1]]]
        return await at_once(*single, *(mq.get_messages(QUEUE, some) for some in several))

    async def delete(mq: AsyncRedisQ) -> list[Any]:
        single = [mq.delete_message(QUEUE, id) for id in [*ids[:20], nobody, "no id", ids[3]]]
        several = [[nobody, ids[20], ids[20]], ids[21:]]
        return await at_once(*single, *(mq.delete_messages(QUEUE, some) for some in several))

    *found, two, three = run(slow, look_up)
    assert kinds(found) == [""] * 7 + ["InvalidMessage"] + [""] * 32 + ["MessageNotFound"] * 2
    assert [message.request for message in found[:40] if not isinstance(message, Exception)] == [
        *range(7),
        *range(8, 40),
    ]
    assert [message and message.request for message in two] == [None, 0]
    assert isinstance(three, BatchError)
    assert {index: type(error) for index, error in three.errors.items()} == {0: InvalidMessage}
    assert len(dam.sizes("get")) <= 4

    *deleted, two, rest = run(slow, delete)
    assert kinds(deleted[:20] + deleted[22:]).count("MessageNotFound") == 1  # of the two who wanted one message
    assert kinds(deleted[20:22]) == ["MessageNotFound"] * 2
    assert two == [False, True, False]
    assert rest == [True] * 19
    assert len(dam.sizes("delete")) <= 5
    with RedisQ(settings=tasks.settings) as client:
        assert (client.stats(QUEUE).deleted, client.stats(QUEUE).ready) == (40, 0)
    assert broken(tasks) == []


def test_who_calls_first_or_asks_for_the_same_takes_no_call_of_its_own(dam: Dam, slow: Settings) -> None:
    """The first callers all want the queue to be registered; callers may wait for one message."""

    async def work(mq: AsyncRedisQ) -> None:
        id, *_ = await asyncio.gather(*(mq.queue_message(QUEUE, n) for n in range(300)))
        found = await asyncio.gather(*(mq.get_message(QUEUE, id) for _ in range(300)))
        assert {message.request for message in found} == {0}

    run(slow, work)
    assert dam.sizes("register") == [1]
    assert len(dam.sizes("queue")) <= 3
    assert len(dam.sizes("get")) <= 5


class Together:
    """A handler, plain or not, all of whose runs return at once when told."""

    def __init__(self, worker: Worker, plain: bool, count: int, outcome: Callable[[Delivery], Any]) -> None:
        self.started: list[Delivery] = []
        self._outcome = outcome
        self._threads = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        worker.handler(QUEUE, concurrency=count)(self._plain if plain else self._async)

    def _plain(self, delivery: Delivery) -> Any:
        self.started.append(delivery)
        self._threads.wait()
        return self._outcome(delivery)

    async def _async(self, delivery: Delivery) -> Any:
        if self._loop is None:
            self._loop, self._tasks = asyncio.get_running_loop(), asyncio.Event()
        self.started.append(delivery)
        await self._tasks.wait()
        return self._outcome(delivery)

    def go(self) -> None:
        self._threads.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tasks.set)


class Later(Retry):
    """A user's own, with what a header said."""

    def __init__(self, after: Any) -> None:
        super().__init__("later")
        self.after = after


def misbehave(delivery: Delivery) -> Any:
    """Do what the request says."""
    match delivery.request:
        case "unencodable":
            return {"a": [object()]}
        case "too large":
            return "x" * 2_000
        case "raises":
            raise ValueError
        case "again":
            raise Retry(after=3600)
        case "rejects":
            raise Reject
        case ["later", after]:
            raise Later(float(after) if after != "word" else after)
        case other:
            return {"done": other}


BAD = {"unencodable": "rejected", "too large": "rejected", "raises": "failed", "rejects": "rejected"}
NO_DELAYS = ["-5", "nan", "inf", "1e9", "word"]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_each_of_the_outcomes_that_are_sent_together_counts_for_itself(
    dam: Dam, slow: Settings, tasks: Raw, caplog: pytest.LogCaptureFixture, plain: bool
) -> None:
    requests = ["deleted", "taken over", *BAD, "again", *(["later", text] for text in NO_DELAYS), *range(20)]
    worker = Worker(settings=slow.model_copy(update={"max_attempts": 1}))
    together = Together(worker, plain, len(requests), misbehave)
    with RedisQ(settings=tasks.settings) as client, caplog.at_level(logging.WARNING, "redisq.worker"):
        client.define(QUEUE, max_bytes=1_000, max_attempts=2, backoff_base=3600, backoff_cap=3600)
        ids = client.queue_messages(QUEUE, requests)
        with working(worker):
            until(lambda: len(together.started) == len(requests))
            delete_without_hint(tasks, ids[0])
            other = take_over(tasks, ids[1])
            together.go()
            until(lambda: client.stats(QUEUE).in_progress == 1)
            until(lambda: caplog.text.count("outcome refused") == 2)
        assert sum(dam.sizes("complete")) == 23  # of 24 that were completed all but the one that cannot be encoded
        assert plain or (len(dam.sizes("complete")), len(dam.sizes("fail"))) == (1, 1)
        refused = [record.message_id for record in caplog.records if "outcome refused" in record.getMessage()]  # type: ignore[attr-defined]
        assert sorted(refused) == sorted(ids[:2])
        with pytest.raises(MessageNotFound):
            client.get_message(QUEUE, ids[0])
        assert tasks.link.call(
            store.deliveries.complete(tasks.keys, limits_of(slow), [(other, codec.encode("other"))])
        ) == [None]
        ended = dict(zip(ids[1:], messages(tasks, ids[1:]), strict=True))
        assert ended[ids[1]].result == "other"
        for id, request in zip(ids[2:], requests[2:], strict=True):
            message = ended[id]
            if isinstance(request, int):
                assert (message.status, message.result, message.history) == (Status.COMPLETE, {"done": request}, ())
            elif BAD.get(str(request)) == "rejected":
                assert message.status is Status.ERROR
                assert message.error
                assert message.error["reason"] == "rejected"
            else:  # it waits for its next attempt
                assert message.status is Status.PENDING
                assert [step.event for step in message.history] == ["failed"]
        check(tasks)


def delete_without_hint(raw: Raw, id: str) -> None:
    """Delete a message so that its worker does not hear of it."""
    call = store.messages.delete(raw.keys, limits_of(raw.settings), [given_id(id)], new_nonce())
    args = [b"elsewhere" if arg == raw.keys.hints else arg for arg in call.args]
    assert raw.link.call(call._replace(args=args)) == [None]


def take_over(raw: Raw, id: str) -> Any:
    """Let a lease lapse, and another worker take it over; give its receipt."""
    raw.redis.zadd(raw.keys.leases, {given_id(id): 1})
    claim = store.deliveries.claim(raw.keys, limits_of(raw.settings), "other", new_nonce(), 1)
    (claimed,) = raw.link.call(claim).deliveries
    assert claimed.receipt.id == given_id(id)
    return claimed.receipt


# --- Lost replies -----------------------------------------------------------------------------------------------------

CALLERS = 200
lost = pytest.mark.parametrize(
    "lose", [Dam.cut_reply, Dam.swallow_reply, Dam.swallow_request, Dam.reset], ids=lambda lose: lose.__name__
)


@pytest.fixture
def shaky(dam: Dam, below: Callable[..., Raw]) -> Settings:
    """Settings of who reaches Redis through the dam, and asks again soon."""
    return below(dam, command_timeout=0.3, retry_deadline=PATIENCE).settings


@pytest.mark.full(keep=1)
@lost
def test_callers_whose_call_is_lost_get_their_own_answers(
    dam: Dam, shaky: Settings, tasks: Raw, lose: Callable[[Dam, bytes, int], None]
) -> None:
    """The one call of all who did not come first is lost twice."""
    ids = [id_text(new_id()) for _ in range(CALLERS)]
    nobody = id_text(new_id())

    async def queue(mq: AsyncRedisQ) -> list[Any]:
        again = [mq.queue_message(QUEUE, n, id=ids[n]) for n in range(10)]
        other = [mq.queue_message(QUEUE, "other", id=id) for id in ids[:3]]
        return await at_once(*(mq.queue_message(QUEUE, n, id=id) for n, id in enumerate(ids)), *again, *other)

    async def look_up(mq: AsyncRedisQ) -> list[Any]:
        return await at_once(*(mq.get_message(QUEUE, id) for id in [*ids, nobody, *ids[:10]]))

    async def delete(mq: AsyncRedisQ) -> list[Any]:
        return await at_once(*(mq.delete_message(QUEUE, id) for id in [*ids, nobody, *ids[:10]]))

    lose(dam, given_id(ids[20]), 2)
    outcomes = run(shaky, queue)
    assert outcomes[: CALLERS + 10] == [*ids, *ids[:10]]
    assert kinds(outcomes[CALLERS + 10 :]) == ["MessageConflict"] * 3

    lose(dam, given_id(ids[20]), 2)
    found = run(shaky, look_up)
    assert kinds(found) == [""] * CALLERS + ["MessageNotFound"] + [""] * 10
    requests = [message.request for message in found[:CALLERS] + found[CALLERS + 1 :]]
    assert requests == [*range(CALLERS), *range(10)]

    lose(dam, given_id(ids[20]), 2)
    deleted = run(shaky, delete)
    assert kinds(deleted[10 : CALLERS + 1]) == [""] * (CALLERS - 10) + ["MessageNotFound"]
    for one, other in zip(deleted[:10], deleted[CALLERS + 1 :], strict=True):
        assert sorted(kinds([one, other])) == ["", "MessageNotFound"]  # of two who delete it one finds it
    check_that_nothing_was_doubled(dam, tasks, CALLERS)


@pytest.mark.full(keep=2)
@lost
def test_a_batch_whose_calls_are_lost_is_answered_for_each(
    dam: Dam, make_client: Any, shaky: Settings, tasks: Raw, lose: Callable[..., None]
) -> None:
    """The first call of a batch is lost, and one of the next."""
    mq, count = make_client(shaky), 2 * BATCH + 10

    def lose_two(name: str) -> None:
        lose(dam, script(name), times=1)
        lose(dam, script(name), times=1, skip=1)

    ids, nobody = [id_text(new_id()) for _ in range(count)], id_text(new_id())
    ids[BATCH + 7] = ids[3]
    bodies: list[Any] = [*range(BATCH + 1), {1}, *range(BATCH + 2, count)]
    lose_two("queue")
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, bodies, ids=ids)
    assert {index: type(error) for index, error in caught.value.errors.items()} == {
        BATCH + 1: InvalidMessage,
        BATCH + 7: MessageConflict,
    }
    there = [n for n in range(count) if n not in (BATCH + 1, BATCH + 7)]
    asked = [*(ids[n] for n in there), nobody, ids[3]]
    lose_two("get")
    found = mq.get_messages(QUEUE, asked)
    assert [message and message.request for message in found] == [*there, None, 3]
    lose_two("delete")
    assert mq.delete_messages(QUEUE, asked) == [True] * len(there) + [False] * 2
    check_that_nothing_was_doubled(dam, tasks, len(there))


def check_that_nothing_was_doubled(dam: Dam, raw: Raw, count: int) -> None:
    """Calls did go twice and more; each message came and went once."""
    assert all(sum(dam.sizes(name)) > count + 20 for name in ("queue", "get", "delete"))
    with RedisQ(settings=raw.settings) as client:
        stats = client.stats(QUEUE)
    assert (stats.queued, stats.deleted, stats.ready) == (count, count, 0)
    check(raw)
