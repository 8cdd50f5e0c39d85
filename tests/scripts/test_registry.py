"""`registry`: all queues and their numbers of partitions."""

from __future__ import annotations

from redisq import store
from redisq.store.keys import queues_key
from tests.scripts.conftest import Orders


def test_an_empty_registry(orders: Orders) -> None:
    with orders.unchanged():
        assert orders.run(store.queues.registry(queues_key(orders.raw.settings.namespace))) == {}


def test_all_queues_are_listed(orders: Orders) -> None:
    queues = queues_key(orders.raw.settings.namespace)
    for number, name in enumerate(["orders", "in-voices", "a.b_c"], 1):
        orders.run(store.queues.register(queues, name, number))
    with orders.unchanged():
        assert orders.run(store.queues.registry(queues)) == {"orders": 1, "in-voices": 2, "a.b_c": 3}
