"""`purge`: what waits goes, what is in progress or has finished stays."""

from __future__ import annotations

from redisq import store
from redisq.errors import MessageNotFound
from redisq.store.call import BATCH
from tests.scripts.conftest import WINDOW, YEAR, Orders, new


def test_waiting_messages_go_and_no_others(orders: Orders) -> None:
    done, held = orders.deliver("done", "held")
    orders.complete(done)
    ready = orders.put("a", "b")
    later = orders.put("c", delay=YEAR)
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == 3
    stats = orders.stats()
    assert (stats.ready, stats.scheduled, stats.in_progress, stats.finished, stats.deleted) == (0, 0, 1, 1, 3)
    assert all(isinstance(outcome, MessageNotFound) for outcome in orders.get(*ready, *later))
    assert not any(isinstance(outcome, MessageNotFound) for outcome in orders.get(done.id, held.id))
    assert orders.complete(held) == [None]


def test_a_retry_that_waits_goes_too(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, delay=60.0)
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == 1
    assert orders.stats().scheduled == 0
    assert orders.claim().deliveries == []


def test_purged_ids_are_remembered_for_the_window(orders: Orders) -> None:
    message = new("a")
    orders.queue(message)
    orders.run(store.queues.purge(orders.keys, orders.limits))
    assert orders.queue(message) == [None]
    assert orders.stats().ready == 0
    orders.pass_time(WINDOW + 1)
    assert orders.queue(message) == [None]
    assert orders.stats().ready == 1


def test_one_call_removes_no_more_than_a_batch(orders: Orders) -> None:
    for first in range(0, BATCH + 10, 102):
        orders.put(*range(first, first + 102))
    left = orders.stats().ready - BATCH
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == BATCH
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == left
    with orders.unchanged():
        assert orders.run(store.queues.purge(orders.keys, orders.limits)) == 0
