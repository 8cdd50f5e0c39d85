"""`unregister`: one name leaves the registry."""

from __future__ import annotations

from redisq.store import calls
from redisq.store.keys import queues_key
from tests.scripts.conftest import Orders


def test_only_the_named_queue_goes(orders: Orders) -> None:
    registry = queues_key(orders.raw.settings.namespace)
    for name in ("orders", "invoices"):
        orders.run(calls.register(registry, name, 1))
    orders.run(calls.unregister(registry, "orders"))
    assert orders.run(calls.registry(registry)) == {"invoices": 1}
    with orders.unchanged():
        orders.run(calls.unregister(registry, "orders"))
