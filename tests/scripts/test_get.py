"""`get`: each status as it stands, and nothing changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from redisq.body import codec
from redisq.errors import MessageNotFound
from redisq.model.message import Message, Status
from redisq.store.keys import id_text, new_id
from tests.scripts.conftest import Orders, new


def look(orders: Orders, id: bytes) -> Message:
    """Look a message up, which must change nothing."""
    with orders.unchanged():
        (message,) = orders.get(id)
    assert isinstance(message, Message)
    assert (message.id, message.queue) == (id_text(id), "orders")
    return message


def instant(ms: int | str | bytes) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(ms))


def test_an_unknown_message_is_not_found(orders: Orders) -> None:
    with orders.unchanged():
        (outcome,) = orders.get(new_id())
    assert isinstance(outcome, MessageNotFound)


def test_pending(orders: Orders) -> None:
    (id,) = orders.put({"sku": "A-1"})
    ((entry, _),) = orders.redis.xrange(orders.keys.stream)
    message = look(orders, id)
    queued_at = instant(entry.partition(b"-")[0])
    assert message == Message(
        id_text(id), "orders", Status.PENDING, {"sku": "A-1"}, queued_at=queued_at, available_at=queued_at
    )


def test_delayed(orders: Orders) -> None:
    (id,) = orders.put("later", delay=5)
    message = look(orders, id)
    assert message.status is Status.PENDING
    assert message.queued_at is not None
    assert message.available_at == message.queued_at + timedelta(seconds=5)


def test_in_progress(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    message = look(orders, receipt.id)
    assert (message.status, message.attempts, message.progress) == (Status.INPROGRESS, 1, None)
    assert message.started_at is not None
    assert message.queued_at is not None
    assert message.started_at >= message.queued_at
    assert (message.available_at, message.finished_at) == (None, None)
    orders.renew(receipt, progress=codec.encode({"percent": 50}))
    assert look(orders, receipt.id).progress == {"percent": 50}


def test_complete(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.complete(receipt, result=[1, 2])
    ((entry, _),) = orders.redis.xrange(orders.keys.finished)
    message = look(orders, receipt.id)
    assert (message.status, message.request, message.result) == (Status.COMPLETE, "a", [1, 2])
    assert message.finished_at == instant(entry.partition(b"-")[0])
    assert message.started_at is not None
    assert message.started_at <= message.finished_at


def test_waiting_for_its_retry(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, delay=60.0)
    due = orders.redis.zscore(orders.keys.scheduled, receipt.id)
    message = look(orders, receipt.id)
    assert message.status is Status.PENDING
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    assert message.available_at == instant(due)
    assert message.attempts == 1


@pytest.mark.parametrize("cause", ["failed", "rejected"])
def test_dead(orders: Orders, cause: str) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, final=True, cause=cause)
    message = look(orders, receipt.id)
    assert message.status is Status.ERROR
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": cause}
    assert message.finished_at is not None


def test_dead_from_lost_leases(orders: Orders) -> None:
    orders.limit(max_lost=1)
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    orders.claim()
    message = look(orders, receipt.id)
    assert message.status is Status.ERROR
    assert message.error is not None
    assert (message.error["type"], message.error["reason"]) == ("LeaseLost", "lost")
    assert "lapsed 1 times" in message.error["message"]


def test_unreadable(orders: Orders) -> None:
    (id,) = orders.put("a")
    orders.redis.hdel(orders.keys.messages, id)
    orders.claim()
    message = look(orders, id)
    assert (message.status, message.request, message.queued_at) == (Status.ERROR, None, None)
    assert message.error is not None
    assert message.error["reason"] == "unreadable"


def test_handed_back(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    message = look(orders, receipt.id)
    assert (message.status, message.error, message.attempts) == (Status.PENDING, None, 1)
    assert message.available_at is not None


def test_a_tombstone_is_no_message(orders: Orders) -> None:
    deleted, swept = orders.put("a", "b")
    orders.delete(deleted)
    orders.complete(orders.claim().deliveries[0].receipt)
    orders.limit(retention_ms=0)
    orders.pass_time(1)
    orders.sweep()
    assert {text[:2] for text in orders.redis.hmget(orders.keys.states, deleted, swept)} == {b"T "}
    outcomes = orders.get(deleted, swept)
    assert [type(outcome) for outcome in outcomes] == [MessageNotFound, MessageNotFound]


def test_a_batch_answers_in_order(orders: Orders) -> None:
    first, second = orders.put("first", "second")
    unknown = new_id()
    a, b, c, d = orders.get(second, unknown, first, second)
    assert (a.request, c.request, d.request) == ("second", "first", "second")
    assert isinstance(b, MessageNotFound)


def test_five_hundred_at_once(orders: Orders) -> None:
    ids = orders.put(*range(500))
    assert [message.request for message in orders.get(*ids)] == list(range(500))


def test_a_body_of_another_version_is_an_error_of_that_message_alone(orders: Orders) -> None:
    good, bad = orders.put("good", "bad")
    orders.redis.hset(orders.keys.messages, bad, b"1-1 " + b"d" * 8 + b"\xff" + new().body)
    fine, broken = orders.get(good, bad)
    assert fine.request == "good"
    assert not isinstance(broken, Message)
