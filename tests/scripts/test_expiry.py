"""`expires_in`: a message that no worker has got by then is dead, and never delivered."""

from __future__ import annotations

import pytest

from redisq.model.message import Status
from tests.scripts.conftest import Orders, new


def test_it_is_delivered_before(orders: Orders) -> None:
    (id,) = orders.put("a", expires_in=60)
    orders.pass_time(59)
    (message,) = orders.get(id)
    assert (message.expires_at - message.queued_at).total_seconds() == pytest.approx(60, abs=0.05)
    (delivery,) = orders.claim().deliveries
    assert orders.complete(delivery.receipt) == [None]


@pytest.mark.parametrize("delay", [0, 5])
def test_it_is_dead_afterwards(orders: Orders, delay: float) -> None:
    (id,) = orders.put("a", delay=delay, expires_in=60)
    (other,) = orders.put("b", delay=delay)
    orders.pass_time(61)
    claim = orders.claim()
    assert [delivery.receipt.id for delivery in claim.deliveries] == [other]
    assert orders.ready() == orders.scheduled() == []
    assert orders.dead() == [id]
    assert orders.counters() == {"queued": 2, "dead": 1}
    (message,) = orders.get(id)
    assert (message.status, message.attempts, message.started_at) == (Status.ERROR, 0, None)
    assert (message.error["type"], message.error["reason"]) == ("Expired", "expired")
    assert [(step.event, step.attempt) for step in message.history] == [("expired", 0)]


def test_a_retry_is_not_delivered_after_it(orders: Orders) -> None:
    orders.put("a", expires_in=60)
    (delivery,) = orders.claim().deliveries
    assert orders.fail(delivery.receipt, delay=61) == [61]
    orders.pass_time(62)
    assert orders.claim().deliveries == []
    assert orders.dead() == [delivery.receipt.id]
    (message,) = orders.get(delivery.receipt.id)
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": "expired"}


def test_a_delivery_that_has_begun_may_end_after_it(orders: Orders) -> None:
    orders.put("a", expires_in=10)
    (delivery,) = orders.claim().deliveries
    orders.pass_time(20)
    assert orders.complete(delivery.receipt) == [None]


def test_it_is_no_part_of_the_message(orders: Orders) -> None:
    """The same id and body again is the same message, whatever else is asked for."""
    first = new("a", expires_in=60)
    assert orders.queue(first) == [None]
    with orders.unchanged():
        assert orders.queue(new("a", first.id)) == [None]


def test_one_that_expires_can_be_deleted(orders: Orders) -> None:
    (id,) = orders.put("a", expires_in=60)
    (later,) = orders.put("b", delay=5, expires_in=60)
    assert orders.delete(id, later) == [None, None]
    assert orders.ready() == orders.scheduled() == []
