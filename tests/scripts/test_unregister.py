"""`unregister`: one name leaves the registry."""

from __future__ import annotations

from redisq import store
from redisq.store.keys import queues_key
from tests.scripts.conftest import Orders


def test_only_the_named_queue_goes(orders: Orders) -> None:
    registry = queues_key(orders.raw.settings.namespace)
    for name in ("orders", "invoices"):
        orders.run(store.queues.register(registry, name, 1))
    orders.run(store.queues.unregister(registry, "orders"))
    assert orders.run(store.queues.registry(registry)) == {"invoices": 1}
    with orders.unchanged():
        orders.run(store.queues.unregister(registry, "orders"))
