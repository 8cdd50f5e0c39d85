"""`redrive`: dead letters become messages again."""

from __future__ import annotations

from typing import Any

from redisq.errors import MessageNotFound
from redisq.model.message import Status
from redisq.store.keys import new_id
from tests.scripts.conftest import DEAD, Orders


def letter(orders: Orders, value: object = "a", **when: Any) -> bytes:
    """Make a dead letter of a message that failed twice."""
    (id,) = orders.put(value, **when)
    (delivery,) = orders.claim(1).deliveries
    assert orders.fail(delivery.receipt, delay=0) == [0]
    (delivery,) = orders.claim(1).deliveries
    assert orders.fail(delivery.receipt, final=True) == [None]
    return id


def test_it_is_ready_again_under_its_id_and_counted_from_zero(orders: Orders) -> None:
    id = letter(orders)
    assert orders.redrive(id) == [None]
    assert orders.dead() == []
    assert orders.ready() == [id]
    record = orders.record(id)
    assert (record.status, record.counts, record.cause) == (b"P", b"-", b"redriven")
    assert orders.counters() == {"queued": 1, "failed": 2, "dead": 1, "redriven": 1}
    (message,) = orders.get(id)
    assert (message.status, message.attempts, message.request) == (Status.PENDING, 2, "a")
    (delivery,) = orders.claim().deliveries
    assert delivery.receipt.attempt == 3
    for _ in range(2):
        assert orders.fail(delivery.receipt, delay=0) == [0]
        (delivery,) = orders.claim().deliveries
    assert orders.complete(delivery.receipt) == [None]


def test_a_repeat_succeeds_and_changes_nothing(orders: Orders) -> None:
    id = letter(orders)
    orders.redrive(id)
    with orders.unchanged():
        assert orders.redrive(id) == [None]
    (delivery,) = orders.claim().deliveries
    orders.complete(delivery.receipt)
    with orders.unchanged():
        assert orders.redrive(id) == [None]


def test_what_is_no_dead_letter_is_refused(orders: Orders) -> None:
    (waiting,) = orders.put("a")
    with orders.unchanged():
        outcomes = orders.redrive(waiting, new_id())
    assert [type(outcome) for outcome in outcomes] == [MessageNotFound, MessageNotFound]


def test_one_without_its_body_is_refused(orders: Orders) -> None:
    (id,) = orders.put("a")
    orders.redis.hdel(orders.keys.messages, id)
    orders.claim()
    with orders.unchanged():
        (outcome,) = orders.redrive(id)
    assert type(outcome) is MessageNotFound


def test_each_of_a_batch_has_its_outcome(orders: Orders) -> None:
    first, second = letter(orders, "a"), letter(orders, "b")
    outcomes = orders.redrive(first, new_id(), second)
    assert [type(outcome) for outcome in outcomes] == [type(None), MessageNotFound, type(None)]
    assert orders.ready() == [first, second]


def test_an_expired_one_may_be_delivered(orders: Orders) -> None:
    (id,) = orders.put("a", expires_in=60)
    orders.pass_time(61)
    assert orders.claim().deliveries == []
    assert orders.redrive(id) == [None]
    (message,) = orders.get(id)
    assert (message.expires_at, message.request) == (None, "a")
    (delivery,) = orders.claim().deliveries
    assert delivery.receipt.attempt == 1


def test_it_rings_for_an_idle_worker(orders: Orders) -> None:
    id = letter(orders)
    orders.hush()
    orders.redrive(id)
    assert orders.rings() == 1


def test_one_past_its_retention_is_queued_whole(orders: Orders) -> None:
    """The call sweeps what is due, and it is due itself."""
    id = letter(orders)
    orders.pass_time(DEAD + 1)
    assert orders.redrive(id) == [None]
    (delivery,) = orders.claim().deliveries
    assert delivery.receipt.id == id
    assert orders.complete(delivery.receipt) == [None]


def test_one_named_twice_is_queued_once(orders: Orders) -> None:
    id = letter(orders)
    assert orders.redrive(id, id) == [None, None]
    assert orders.ready() == [id]
