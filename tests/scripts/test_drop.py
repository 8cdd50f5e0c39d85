"""`drop`: nothing of a queue is left, and its deliveries are void."""

from __future__ import annotations

from redisq import store
from redisq.errors import LeaseLost, MessageNotFound
from tests.scripts.conftest import Orders
from tests.support.queues.calls import everything


def test_nothing_is_left(orders: Orders) -> None:
    put = everything(orders)
    orders.run(store.queues.drop(orders.keys))
    assert orders.names() == {"queues", "apps"}
    with orders.unchanged():
        (refusal,) = orders.complete(put.held)
        assert isinstance(refusal, LeaseLost)
        assert isinstance(orders.get(put.ready)[0], MessageNotFound)
        orders.run(store.queues.drop(orders.keys))


def test_the_queue_begins_anew(orders: Orders) -> None:
    orders.put("a", "b")
    orders.run(store.queues.drop(orders.keys))
    (id,) = orders.put("c")
    assert [delivery.receipt.id for delivery in orders.claim().deliveries] == [id]
    assert orders.stats().queued == 1
