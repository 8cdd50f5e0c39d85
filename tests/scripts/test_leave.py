"""`leave`: a worker that has ended is forgotten, and takes no ring with it."""

from __future__ import annotations

import pytest

from redisq import store
from tests.scripts.conftest import Orders


def leave(orders: Orders, worker: str) -> None:
    assert orders.run(store.deliveries.leave(orders.keys, orders.limits, worker)) is None


def test_its_last_claim_is_forgotten(orders: Orders) -> None:
    orders.put("a", "b")
    orders.claim(1, worker="w-1")
    orders.claim(1, worker="w-2")
    leave(orders, "w-1")
    assert orders.redis.hkeys(orders.keys.workers) == [b"w-2"]
    assert len(orders.leased()) == 2


def test_an_unknown_worker_may_leave(orders: Orders) -> None:
    orders.deliver("a")
    with orders.unchanged():
        leave(orders, "nobody")


@pytest.mark.parametrize(("values", "rings"), [([], 0), (["a"], 1)])
def test_a_ring_is_passed_on_while_messages_wait(orders: Orders, values: list[str], rings: int) -> None:
    orders.put(*values, "claimed")
    orders.claim(1, worker="w-1")
    orders.hush()  # this worker has taken the ring, and ends before it claims
    leave(orders, "w-1")
    assert orders.rings() == rings
    leave(orders, "w-1")
    assert orders.rings() == rings
