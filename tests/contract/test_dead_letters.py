"""Dead letters: how messages come to be there, and how they are listed, redriven and purged."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from redisq import BatchError, Delivery, MessageConflict, MessageNotFound, Reject, Settings, Status
from redisq.model.listing import DeadLetter, DeadPage
from redisq.operations import dead_letters as flows
from redisq.operations.caller import Caller
from redisq.operations.dead_letters import Selection
from redisq.store.call import Call
from redisq.store.keys import given_id, id_text
from tests.conftest import CREDENTIALS
from tests.contract.test_worker import Bench, bench
from tests.support.servers.proxy import Proxy, Trap, script, until

__all__ = ["bench"]
QUEUE = "orders"
HOUR = 3600.0


def die(mq: Any, hand: Any, *requests: Any, **how: Any) -> list[str]:
    """Queue messages into the empty queue, let each of them fail for good, and give their ids."""
    ids = mq.queue_messages(QUEUE, requests)
    while deliveries := hand.claim_up_to(500):
        for delivery in deliveries:
            assert hand.fail(delivery, final=True, **how) is None
    return list(ids)


def move(raw: Any, ages: dict[str, float]) -> None:
    """Let dead letters have died so many seconds ago."""
    seconds, microseconds = raw.redis.time()
    now = seconds * 1000 + microseconds // 1000
    raw.redis.zadd(raw.keys.dead, {given_id(id): now - int(age * 1000) for id, age in ages.items()})


def ids_of(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


# --- Listing ---


def test_whole_messages_the_oldest_first(mq: Any, hand: Any, raw: Any) -> None:
    first, second = die(mq, hand, {"n": 1}, {"n": 2}, text="no stock")
    move(raw, {first: 10, second: 20})
    assert ids_of(mq.dead_letters(QUEUE)) == [second, first]
    (message, _) = mq.dead_letters(QUEUE)
    assert message == mq.get_message(QUEUE, second)
    assert (message.status, message.request, message.attempts) == (Status.ERROR, {"n": 2}, 1)
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    assert [(step.event, step.attempt, step.by) for step in message.history] == [("failed", 1, hand.name)]


def test_no_queue_is_made_by_looking(mq: Any, raw: Any) -> None:
    assert mq.dead_letters(QUEUE) == []
    assert (mq.redrive(QUEUE), mq.purge_dead(QUEUE), mq.redrive(QUEUE, []), mq.purge_dead(QUEUE, [])) == (0, 0, 0, 0)
    assert raw.digest() == {}


def reasons(mq: Any, hand: Any, raw: Any) -> dict[str, str]:
    """Let a message die of each reason, and give their ids by it."""
    (failed,) = die(mq, hand, "failed")
    (rejected,) = die(mq, hand, "rejected", cause="rejected")
    lost = mq.queue_message(QUEUE, "lost")
    mq.define(QUEUE, max_lost=1)
    hand.claim()
    raw.redis.zadd(raw.keys.leases, {given_id(lost): 1})
    assert hand.claim_up_to(1) == []
    unreadable = mq.queue_message(QUEUE, "unreadable")
    raw.redis.hdel(raw.keys.messages, given_id(unreadable))
    assert hand.claim_up_to(1) == []
    expired = mq.queue_message(QUEUE, "expired", delay=0.002, expires_in=0.001)
    until(lambda: hand.claim_up_to(1) == [] and mq.get_message(QUEUE, expired).finished)
    return {"failed": failed, "rejected": rejected, "lost": lost, "unreadable": unreadable, "expired": expired}


def test_by_reason(mq: Any, hand: Any, raw: Any) -> None:
    died = reasons(mq, hand, raw)
    assert set(died) == set(flows.REASONS)
    assert set(ids_of(mq.dead_letters(QUEUE))) == set(died.values())
    for reason, id in died.items():
        (message,) = mq.dead_letters(QUEUE, reason=reason)
        assert (message.id, message.error["reason"]) == (id, reason)


def test_redriving_by_reason_leaves_the_others(mq: Any, hand: Any, raw: Any) -> None:
    died = reasons(mq, hand, raw)
    for reason, id in died.items():
        assert mq.redrive(QUEUE, reason=reason) == (reason != "unreadable")  # which has no body to be queued
        assert mq.get_message(QUEUE, id).status == (Status.PENDING if reason != "unreadable" else Status.ERROR)
    assert ids_of(mq.dead_letters(QUEUE)) == [died["unreadable"]]


def test_purging_by_reason_leaves_the_others(mq: Any, hand: Any, raw: Any) -> None:
    died = reasons(mq, hand, raw)
    for left, (reason, id) in enumerate(reversed(died.items())):
        assert mq.purge_dead(QUEUE, reason=reason) == 1
        with pytest.raises(MessageNotFound):
            mq.get_message(QUEUE, id)
        assert mq.stats(QUEUE).dead == len(died) - left - 1


def test_by_age(mq: Any, hand: Any, raw: Any) -> None:
    old, middle, young = die(mq, hand, 1, 2, 3)
    move(raw, {old: 3 * HOUR, middle: 2 * HOUR, young: 1 * HOUR})

    def found(**ages: float) -> list[str]:
        return ids_of(mq.dead_letters(QUEUE, **ages))

    assert found(min_age=1.5 * HOUR) == [old, middle]
    assert found(max_age=2.5 * HOUR) == [middle, young]
    assert found(min_age=1.5 * HOUR, max_age=2.5 * HOUR) == [middle]
    assert found(min_age=4 * HOUR) == found(max_age=0.5 * HOUR) == found(min_age=2, max_age=1) == []
    assert found(min_age=0, max_age=31_536_000) == [old, middle, young]
    assert mq.redrive(QUEUE, min_age=2.5 * HOUR) == 1
    assert mq.purge_dead(QUEUE, max_age=1.5 * HOUR) == 1
    assert ids_of(mq.dead_letters(QUEUE)) == [middle]


@pytest.mark.parametrize("same_time", [True, False], ids=["all at once", "one after the other"])
def test_pages_leave_none_out_and_repeat_none(mq: Any, hand: Any, raw: Any, same_time: bool) -> None:
    ids = die(mq, hand, *range(61))
    move(raw, {id: HOUR + (0 if same_time else n // 7) for n, id in enumerate(ids)})
    found = ids_of(mq.dead_letters(QUEUE))
    assert sorted(found) == sorted(ids)
    for limit in (1, 20, 21, 61, 62):
        assert ids_of(mq.dead_letters(QUEUE, limit=limit)) == found[:limit]
    assert sorted(ids_of(mq.dead_letters(QUEUE, max_age=2 * HOUR, reason="failed"))) == sorted(ids)


DAMAGE: dict[str, Callable[[Any, bytes], object]] = {
    "no body": lambda raw, id: raw.redis.hdel(raw.keys.messages, id),
    "no record": lambda raw, id: raw.redis.hdel(raw.keys.states, id),
    "neither": lambda raw, id: (raw.redis.hdel(raw.keys.messages, id), raw.redis.hdel(raw.keys.states, id)),
    "body": lambda raw, id: raw.redis.hset(raw.keys.messages, id, b"\xff" * 40),
    "empty body": lambda raw, id: raw.redis.hset(raw.keys.messages, id, b""),
    "newer body": lambda raw, id: raw.redis.hset(raw.keys.messages, id, b"1-1 12345678\x63\xc0"),
    "record": lambda raw, id: raw.redis.hset(raw.keys.states, id, b"\xff" * 40),
    "cut record": lambda raw, id: raw.redis.hset(raw.keys.states, id, b"E 1 n"),
    "history": lambda raw, id: raw.redis.hset(raw.keys.states, id, b"E 1 n - failed 1 1 nonsense "),
    "error": lambda raw, id: raw.redis.hset(raw.keys.states, id, b"E 1 n - failed 1 1 - \xc1"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_listed_and_can_be_purged(mq: Any, hand: Any, raw: Any, damage: str) -> None:
    id, sound = die(mq, hand, 1, 2)
    move(raw, {id: 2 * HOUR, sound: HOUR})
    DAMAGE[damage](raw, given_id(id))
    found, other = mq.dead_letters(QUEUE)
    assert (found.id, found.queue, found.status, found.request) == (id, QUEUE, Status.ERROR, None)
    assert found.finished_at is not None
    assert other.id == sound
    if damage == "no body":  # all else is known
        assert found.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    else:
        assert found.error["reason"] == "unreadable"
    assert found.to_dict()["status"] == "ERROR"
    assert mq.purge_dead(QUEUE, [id]) == 1
    assert ids_of(mq.dead_letters(QUEUE)) == [sound]


@pytest.mark.parametrize("damage", ["no body", "no record", "neither", "record", "cut record"])
def test_what_cannot_be_redriven_is_passed_over_and_refused_by_its_id(
    mq: Any, hand: Any, raw: Any, damage: str
) -> None:
    id, sound = die(mq, hand, 1, 2)
    DAMAGE[damage](raw, given_id(id))
    with pytest.raises(BatchError):
        mq.redrive(QUEUE, [id])
    assert mq.redrive(QUEUE) == 1
    assert mq.get_message(QUEUE, sound).status is Status.PENDING
    assert raw.redis.zrange(raw.keys.dead, 0, -1) == [given_id(id)]


@pytest.mark.parametrize(
    "filters",
    [
        {"reason": "bored"},
        {"reason": ""},
        {"reason": ["failed"]},
        {"min_age": -1},
        {"max_age": -0.001},
        {"min_age": float("nan")},
        {"max_age": float("inf")},
        {"min_age": True},
        {"max_age": "1h"},
        {"max_age": 31_536_001},
    ],
    ids=repr,
)
def test_a_bad_filter_is_refused(make_client: Any, trap: Trap, filters: dict[str, Any]) -> None:
    mq = make_client(Settings(url=trap.url, auth="none"))
    for operate in (mq.dead_letters, mq.redrive, mq.purge_dead):
        with pytest.raises(ValueError, match=f"{next(iter(filters))}= takes"):
            operate(QUEUE, **filters)


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 2.0, "5", None], ids=repr)
def test_a_bad_limit_is_refused(make_client: Any, trap: Trap, limit: Any) -> None:
    with pytest.raises(ValueError, match="limit= takes 1 to 10,000"):
        make_client(Settings(url=trap.url, auth="none")).dead_letters(QUEUE, limit=limit)


def test_ids_go_with_no_filters_and_come_as_a_list(make_client: Any, trap: Trap) -> None:
    mq = make_client(Settings(url=trap.url, auth="none"))
    for operate in (mq.redrive, mq.purge_dead):
        for filters in ({"reason": "failed"}, {"min_age": 0}, {"max_age": 1}):
            with pytest.raises(ValueError, match="ids= goes with none of"):
                operate(QUEUE, [str(uuid.uuid4())], **filters)
        with pytest.raises(ValueError, match="list of ids"):
            operate(QUEUE, str(uuid.uuid4()))


# --- Redriving ---


def test_redriven_it_is_tried_again_from_the_start(mq: Any, hand: Any) -> None:
    mq.define(QUEUE, max_attempts=2, backoff_base=0)
    (id,) = die(mq, hand, {"n": 1})
    assert mq.redrive(QUEUE) == 1
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.request, message.attempts) == (Status.PENDING, {"n": 1}, 1)
    assert [(step.event, step.by) for step in message.history] == [("failed", hand.name), ("redriven", CREDENTIALS.app)]
    assert hand.fail(hand.claim()) == 0  # the first of its two attempts
    hand.bring(id, "COMPLETE", "done")
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.result, message.attempts) == (Status.COMPLETE, "done", 3)
    assert [step.event for step in message.history] == ["failed", "redriven", "failed"]
    stats = mq.stats(QUEUE)
    assert (stats.redriven, stats.died, stats.dead, stats.completed) == (1, 1, 0, 1)


def test_a_redriven_one_does_not_expire_again(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1, delay=0.002, expires_in=0.001)
    until(lambda: hand.claim_up_to(1) == [] and mq.get_message(QUEUE, id).finished)
    assert mq.redrive(QUEUE, reason="expired") == 1
    assert mq.get_message(QUEUE, id).expires_at is None
    hand.bring(id, "COMPLETE")


def test_without_credentials_nobody_has_redriven_it(mq: Any, make_client: Any, hand: Any) -> None:
    (id,) = die(mq, hand, 1)
    nobody = Settings(url=mq.settings.url, namespace=mq.settings.namespace, auth="none", app_id=None, app_secret=None)
    assert make_client(nobody).redrive(QUEUE, [id]) == 1
    assert mq.get_message(QUEUE, id).history[-1].by == "-"


def test_by_ids_each_must_be_a_dead_letter(mq: Any, hand: Any) -> None:
    first, second, other = die(mq, hand, 1, 2, 3)
    waiting = mq.queue_message(QUEUE, 4)
    ids = [first, "nonsense", waiting, uuid.UUID(second), str(uuid.uuid4()), first]
    with pytest.raises(BatchError, match="3 of 6 messages were refused; the first is number 1: There is no dead") as no:
        mq.redrive(QUEUE, ids)
    assert no.value.ids == [str(id) for id in ids]
    assert {index: type(error) for index, error in no.value.errors.items()} == dict.fromkeys((1, 2, 4), MessageNotFound)
    assert {mq.get_message(QUEUE, id).status for id in (first, second)} == {Status.PENDING}
    assert ids_of(mq.dead_letters(QUEUE)) == [other]


def test_an_id_that_was_redriven_before_counts_as_done(mq: Any, hand: Any) -> None:
    (id,) = die(mq, hand, 1)
    assert mq.redrive(QUEUE, [id, uuid.UUID(id)]) == mq.redrive(QUEUE, [id]) == 1
    assert mq.stats(QUEUE).ready == 1


def many(mq: Any, hand: Any, raw: Any, count: int) -> list[str]:
    """Make many dead letters that died in the same millisecond, every hundredth of them without its body."""
    ids = sorted(die(mq, hand, *range(count)))
    move(raw, dict.fromkeys(ids, HOUR))
    for id in ids[::100]:
        raw.redis.hdel(raw.keys.messages, given_id(id))
    return ids


@pytest.mark.full(keep=1)
def test_many_are_redriven_in_pages(mq: Any, hand: Any, raw: Any) -> None:
    ids = many(mq, hand, raw, 1100)
    bodiless = ids[::100]
    assert mq.redrive(QUEUE) == len(ids) - len(bodiless)
    assert [id_text(id) for id in raw.redis.zrange(raw.keys.dead, 0, -1)] == bodiless
    assert mq.stats(QUEUE).ready == len(ids) - len(bodiless)


@pytest.mark.full(keep=1)
def test_many_are_purged_in_pages_and_by_ids(mq: Any, hand: Any, raw: Any) -> None:
    ids = many(mq, hand, raw, 1100)
    assert mq.purge_dead(QUEUE, ids[500:]) == 600
    assert mq.purge_dead(QUEUE, max_age=2 * HOUR) == 500
    assert (mq.stats(QUEUE).dead, mq.stats(QUEUE).deleted) == (0, 1100)


def test_what_dies_again_meanwhile_is_not_redriven_twice(
    mq: Any, hand: Any, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dies again as soon as it is redriven; an hour passes between two calls."""
    ids = die(mq, hand, *range(7))
    move(raw, dict.fromkeys(ids, 24 * HOUR))
    hours = iter(range(20))
    monkeypatch.setattr(flows, "time", SimpleNamespace(monotonic=lambda: next(hours) * HOUR))
    monkeypatch.setattr(flows, "BATCH", 2)

    def dying_again() -> Any:
        flow, reply = flows.redrive(Caller(mq.settings), QUEUE, None, None, Selection()), None
        while True:
            try:
                reply = raw.link.call(flow.send(reply))
            except StopIteration as end:
                return end.value
            for delivery in hand.claim_up_to(10):
                hand.fail(delivery, final=True)

    assert dying_again() == 7
    assert (mq.stats(QUEUE).redriven, mq.stats(QUEUE).dead) == (7, 7)


def test_the_next_page_begins_where_the_last_one_ended() -> None:
    def letters(*died: int) -> list[DeadLetter]:
        return [DeadLetter(bytes([n]) * 16, at, "failed", None) for n, at in enumerate(died)]

    first = flows._after(DeadPage(max_age=5.0, limit=3), letters(10, 20, 20), set())
    assert first == DeadPage(start=20, skip=2, limit=3)
    assert flows._after(first, letters(20, 20, 20), {b"\1" * 16}) == DeadPage(start=20, skip=4, limit=3)
    assert flows._after(first, letters(20, 20, 30), {b"\2" * 16}) == DeadPage(start=30, skip=0, limit=3)


@pytest.fixture
def cut(make_client: Any, raw_real: Any, proxy: Proxy, hand_on: Any) -> SimpleNamespace:
    """A client whose replies are cut, and another on the same server."""
    near = make_client(raw_real.settings.model_copy(update={"url": proxy.url}))
    return SimpleNamespace(mq=near, hand=hand_on(raw_real.settings), proxy=proxy)


@pytest.mark.parametrize("by", ["ids", "filter"])
@pytest.mark.parametrize(
    ("operation", "name", "count"), [("redrive", "redrive", "redriven"), ("purge_dead", "delete", "deleted")]
)
def test_a_lost_reply_costs_nothing(cut: Any, operation: str, name: str, count: str, by: str) -> None:
    ids = die(cut.mq, cut.hand, 1, 2, 3)
    cut.proxy.cut_reply(script(name))
    assert getattr(cut.mq, operation)(QUEUE, ids if by == "ids" else None) == 3
    assert cut.proxy.count(script(name)) == 2
    stats = cut.mq.stats(QUEUE)
    assert (getattr(stats, count), stats.dead) == (3, 0)


# --- Purging ---


def test_purging_touches_nothing_but_dead_letters(mq: Any, hand: Any) -> None:
    dead, other = die(mq, hand, 1, 2)
    done = mq.queue_message(QUEUE, 3)
    hand.bring(done, "COMPLETE")
    held = mq.queue_message(QUEUE, 4)
    hand.claim()
    waiting = mq.queue_message(QUEUE, 5)
    with pytest.raises(BatchError) as refused:
        mq.purge_dead(QUEUE, [waiting, dead, done, held, "x"])
    assert sorted(refused.value.errors) == [0, 2, 3, 4]
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, dead)
    left = {Status.ERROR: other, Status.COMPLETE: done, Status.INPROGRESS: held, Status.PENDING: waiting}
    assert [mq.get_message(QUEUE, id).status for id in left.values()] == list(left)
    assert mq.purge_dead(QUEUE) == 1
    assert (mq.stats(QUEUE).dead, mq.stats(QUEUE).finished) == (0, 1)


def test_one_that_is_redriven_between_listing_and_purging_stays(mq: Any, hand: Any, raw: Any) -> None:
    (id,) = die(mq, hand, 1)
    flow = flows.purge(Caller(mq.settings), QUEUE, None, None, Selection())
    delete = flow.send(raw.link.call(next(flow)))
    assert isinstance(delete, Call)
    assert mq.redrive(QUEUE) == 1
    with pytest.raises(StopIteration) as end:
        flow.send(raw.link.call(delete))
    assert end.value.value == 0
    assert mq.get_message(QUEUE, id).status is Status.PENDING


def test_a_purged_id_is_remembered(mq: Any, hand: Any) -> None:
    (id,) = die(mq, hand, {"n": 1})
    assert mq.purge_dead(QUEUE, [id]) == 1
    assert mq.queue_message(QUEUE, {"n": 1}, id=id) == id
    with pytest.raises(MessageConflict):
        mq.queue_message(QUEUE, {"n": 2}, id=id)
    assert mq.stats(QUEUE).ready == 0


# --- With a worker ---


def test_a_day_in_the_life_of_a_dead_letter(bench: Bench) -> None:
    """The handler has a fault; it is corrected, and what died of it is redriven."""
    repaired = False

    @bench.worker.handler(QUEUE)
    def handle(delivery: Delivery) -> int:
        if delivery.request == "junk":
            raise Reject("nobody can handle this")
        if not repaired:
            raise KeyError("price")
        return len(delivery.request)

    junk, *ids = bench.client.queue_messages(QUEUE, ["junk", "a", "bb"])
    bench.finish(junk, *ids)
    assert ids_of(bench.client.dead_letters(QUEUE, reason="rejected")) == [junk]
    found = bench.client.dead_letters(QUEUE, reason="failed")
    assert sorted(ids_of(found)) == sorted(ids)
    assert {(message.attempts, message.error["type"]) for message in found} == {(3, "KeyError")}
    repaired = True
    assert bench.client.redrive(QUEUE, reason="failed") == 2
    bench.worker = type(bench.worker)(settings=bench.settings)
    bench.worker.handler(QUEUE)(handle)
    assert [message.result for message in bench.finish(*ids)] == [1, 2]
    message = bench.client.get_message(QUEUE, ids[0])
    assert [step.event for step in message.history] == ["failed"] * 3 + ["redriven"]
    assert bench.client.purge_dead(QUEUE) == 1
    assert bench.client.stats(QUEUE).dead == 0
