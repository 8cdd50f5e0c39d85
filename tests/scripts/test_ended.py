"""`ended`: who waits learns from it that it is worth looking."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisq import store
from redisq.model.delivery import Receipt
from redisq.store.call import BATCH
from tests.scripts.conftest import Orders


def ended(orders: Orders) -> bytes | None:
    found: bytes | None = orders.run(store.messages.ended(orders.keys))
    return found


def test_nothing_is_told_of_a_queue_that_never_was_or_was_dropped(orders: Orders) -> None:
    assert ended(orders) is None
    orders.put("a")
    assert ended(orders) == b"0 0 0 0"
    orders.run(store.queues.drop(orders.keys))
    assert ended(orders) is None


def test_what_does_not_end_a_message_changes_nothing(orders: Orders) -> None:
    first, second = orders.deliver("first", "second")
    before = ended(orders)
    orders.put("third")
    assert orders.release(first) == [None]
    orders.fail(second)
    orders.claim()
    assert ended(orders) == before


def _expire(orders: Orders, held: Receipt) -> None:
    orders.limit(max_lost=1)
    orders.lapse(held.id)
    orders.claim()


@pytest.mark.parametrize(
    "end",
    [
        lambda orders, held: orders.complete(held),
        lambda orders, held: orders.fail(held, final=True),
        lambda orders, held: orders.delete(held.id),
        lambda orders, held: (orders.cancel(held.id), orders.release(held)),
        _expire,
    ],
    ids=["completed", "failed", "deleted", "cancelled", "lost"],
)
def test_each_way_to_end_is_told(orders: Orders, end: Callable[[Orders, Receipt], object]) -> None:
    (held,) = orders.deliver("a")
    before = ended(orders)
    end(orders, held)
    after = ended(orders)
    assert None is not after != before


def test_a_purge_is_told(orders: Orders) -> None:
    orders.put("a")
    before = ended(orders)
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) < BATCH
    assert ended(orders) != before


def test_totals_that_another_program_broke_tell_nothing(orders: Orders) -> None:
    orders.put("a")
    orders.redis.hset(orders.keys.counters, "completed", "many")
    assert ended(orders) is None
