"""`stats`: what a queue holds, and its running totals."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.model.queue import QueueStats
from tests.scripts.conftest import YEAR, Orders


def test_a_queue_that_never_was_is_empty(orders: Orders) -> None:
    with orders.unchanged():
        assert orders.stats() == QueueStats("orders")


def test_each_figure(orders: Orders) -> None:
    orders.limit(max_attempts=1, max_lost=1)
    done, dead, deleted, released, lost, unreadable, *_held = orders.deliver(*range(9))
    orders.complete(done)
    orders.fail(dead)
    orders.delete(deleted.id)
    orders.redis.hdel(orders.keys.messages, unreadable.id)
    orders.lapse(lost.id, unreadable.id)
    assert orders.claim().deliveries == []
    orders.release(released)
    orders.put("a")
    orders.put("b", delay=YEAR)
    orders.pass_time(100)
    with orders.unchanged():
        stats = orders.stats()
    assert stats.oldest_age == pytest.approx(100, abs=30)
    assert stats == QueueStats(
        "orders",
        ready=2,
        scheduled=1,
        in_progress=3,
        finished=4,
        dead=3,
        oldest_age=stats.oldest_age,
        workers=1,
        queued=11,
        completed=1,
        failed=1,
        lost=2,
        released=1,
        died=3,
        unreadable=1,
        deleted=1,
    )


def test_without_a_ready_message_there_is_no_age(orders: Orders) -> None:
    orders.deliver("a")
    orders.put("b", delay=5)
    assert orders.stats().oldest_age is None


def test_workers_are_those_that_claimed_something_and_have_not_left(orders: Orders) -> None:
    orders.put("a", "b", "c")
    for worker in ("w-1", "w-2", "w-3"):
        orders.claim(1, worker)
    orders.claim(1, "w-4")  # there was nothing left for it
    orders.run(store.deliveries.leave(orders.keys, orders.limits, "w-2"))
    assert orders.stats().workers == 2


def test_a_paused_queue(orders: Orders) -> None:
    assert not orders.stats().paused
    orders.define(paused="1")
    assert orders.stats().paused


def test_totals_of_a_later_version_are_no_trouble(orders: Orders) -> None:
    orders.redis.hset(orders.keys.counters, "expired", 5)
    orders.put("a")
    assert orders.stats().queued == 1
