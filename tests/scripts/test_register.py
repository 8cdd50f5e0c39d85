"""`register`: a queue's number of partitions is fixed before its first message."""

from __future__ import annotations

from redisq import store
from redisq.store.keys import queues_key
from tests.scripts.conftest import Orders


def test_the_first_number_of_partitions_stays(orders: Orders) -> None:
    queues = queues_key(orders.raw.settings.namespace)
    assert orders.run(store.queues.register(queues, "orders", 1)) == 1
    with orders.unchanged():
        assert orders.run(store.queues.register(queues, "orders", 8)) == 1
    assert orders.run(store.queues.register(queues, "invoices", 8)) == 8
    assert orders.redis.hgetall(queues) == {b"orders": b"1", b"invoices": b"8"}
