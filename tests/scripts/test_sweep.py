"""`sweep`: what nobody needs any more goes, and an idle queue's memory comes back."""

from __future__ import annotations

import pytest

from redisq.store.call import BATCH, CLAIM_MEMORY_MS
from tests.scripts.conftest import DEAD, RETENTION, WINDOW, YEAR, Orders


def test_a_queue_that_never_was_stays_unknown(orders: Orders) -> None:
    assert orders.sweep() == (0, False)
    assert orders.names() == set()


def test_nothing_goes_before_its_time(orders: Orders) -> None:
    done, dead, deleted, _held = orders.deliver("a", "b", "c", "d")
    orders.complete(done)
    orders.fail(dead, final=True)
    orders.delete(deleted.id)
    orders.put("e")
    orders.put("f", delay=YEAR)
    with orders.unchanged():
        assert orders.sweep() == (0, False)


def test_finished_messages_go_with_their_retention(orders: Orders) -> None:
    done, dead = orders.deliver("a", "b")
    orders.complete(done)
    orders.fail(dead, final=True)
    orders.pass_time(RETENTION - 60)
    assert orders.sweep()[0] == 1  # the worker's last claim
    orders.pass_time(61)
    assert orders.sweep() == (1, False)
    assert (orders.finished(), orders.dead()) == ([], [dead.id])
    orders.pass_time(DEAD - RETENTION - 60)
    assert orders.sweep() == (0, False)
    orders.pass_time(60)
    assert orders.sweep() == (1, False)
    assert orders.names() == {"counters"}


def test_the_queues_own_retention_of_dead_letters_wins(orders: Orders) -> None:
    orders.define(dead_retention="1000", dedup_window="1000")
    orders.fail(*orders.deliver("a"), final=True)
    orders.pass_time(2)
    assert orders.sweep() == (1, False)
    assert "states" not in orders.names()


def test_a_longer_window_leaves_a_tombstone_of_a_dead_letter(orders: Orders) -> None:
    orders.limit(dead_ms=1_000)
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, final=True)
    orders.pass_time(2)
    assert orders.sweep() == (1, False)
    assert orders.redis.hget(orders.keys.states, receipt.id).startswith(b"T - ")
    assert orders.dead() == []


def test_a_dead_entry_that_is_no_dead_letter_goes_alone(orders: Orders) -> None:
    (receipt,) = orders.deliver("in progress")
    orders.redis.zadd(orders.keys.dead, {receipt.id: 1})
    assert orders.sweep() == (1, False)
    assert (orders.dead(), orders.leased()) == ([], [receipt.id])
    assert orders.complete(receipt) == [None]


def test_the_queues_own_retention_wins(orders: Orders) -> None:
    orders.define(retention="1000", dedup_window="1000")
    orders.complete(*orders.deliver("a"))
    orders.pass_time(2)
    assert orders.sweep() == (1, False)


def test_a_longer_window_leaves_a_tombstone(orders: Orders) -> None:
    orders.limit(retention_ms=1_000)
    (receipt,) = orders.deliver("a")
    orders.complete(receipt)
    orders.pass_time(2)
    assert orders.sweep() == (1, False)
    assert orders.names() == {"counters", "workers", "states", "tombstones"}
    assert orders.redis.hget(orders.keys.states, receipt.id).startswith(b"T - ")
    orders.pass_time(WINDOW)
    assert orders.sweep() == (1, False)
    assert orders.names() == {"counters", "workers"}


@pytest.mark.parametrize("how", ["completed", "dead"])
def test_one_sweep_after_both_periods_leaves_nothing(orders: Orders, how: str) -> None:
    orders.limit(retention_ms=1_000, dead_ms=1_000)
    (receipt,) = orders.deliver("a")
    orders.complete(receipt) if how == "completed" else orders.fail(receipt, final=True)
    orders.redis.delete(orders.keys.workers)
    orders.pass_time(WINDOW + 1)
    assert orders.sweep() == (1, False)
    assert orders.names() == {"counters"}


def test_a_tombstone_goes_with_the_window(orders: Orders) -> None:
    orders.delete(*orders.put("a"))
    orders.pass_time(WINDOW - 60)
    assert orders.sweep() == (0, False)
    orders.pass_time(61)
    assert orders.sweep() == (1, False)
    assert "states" not in orders.names()


def test_one_call_is_bounded_and_tells_of_more(orders: Orders) -> None:
    for count in (BATCH, 20):
        orders.complete(*orders.deliver(*range(count)))
    orders.redis.delete(orders.keys.workers)
    orders.pass_time(RETENTION + 1)
    assert orders.sweep() == (BATCH, True)
    assert orders.sweep() == (20, False)
    assert orders.names() == {"counters"}


def test_old_claims_are_forgotten(orders: Orders) -> None:
    orders.put("a", "b")
    orders.claim(1, worker="old")
    orders.pass_time(CLAIM_MEMORY_MS / 1000 + 1)
    orders.claim(1, worker="new", lapsed_by=0)
    assert orders.sweep() == (1, False)
    assert orders.redis.hkeys(orders.keys.workers) == [b"new"]


def test_an_unreadable_claim_is_forgotten(orders: Orders) -> None:
    orders.redis.hset(orders.keys.workers, "w-1", "what is this")
    assert orders.sweep() == (1, False)
    assert orders.names() == set()


def test_streams_with_entries_stay(orders: Orders) -> None:
    done, deleted = orders.deliver("a", "b")
    orders.complete(done)
    orders.delete(deleted.id)
    orders.put("c")
    orders.sweep()
    assert {"stream", "finished", "tombstones"} <= orders.names()


def test_empty_streams_go(orders: Orders) -> None:
    """Redis itself keeps a stream whose last entry has gone."""
    orders.limit(retention_ms=0, window_ms=0)
    orders.delete(*orders.put("a"))
    orders.complete(*orders.deliver("b"))
    assert {"stream", "finished", "tombstones"} & orders.names()
    orders.sweep()
    assert orders.names() == {"counters", "workers"}


def test_an_entry_that_is_not_the_messages_own_goes_alone(orders: Orders) -> None:
    (receipt,) = orders.deliver("in progress")
    (pending,) = orders.put("pending")
    for number, id in enumerate([receipt.id, pending], 1000):
        orders.redis.xadd(orders.keys.finished, {"id": id}, id=f"{number}-0")
    assert orders.sweep() == (2, False)
    assert [message.request for message in orders.get(receipt.id, pending)] == ["in progress", "pending"]
    assert orders.complete(receipt) == [None]


def test_memory_comes_back(orders: Orders) -> None:
    """Whatever happened to the messages: two calls after all times have passed, one key of totals is left."""
    done, dead, deleted, retried, released, lost = orders.deliver(*range(6))
    orders.complete(done)
    orders.fail(dead, final=True)
    orders.delete(deleted.id)
    orders.fail(retried, delay=0)
    orders.release(released)
    orders.lapse(lost.id)
    orders.put("later", delay=60)
    orders.pass_time(61)
    orders.complete(*(delivery.receipt for delivery in orders.claim().deliveries))
    assert orders.claim().deliveries == []
    orders.pass_time(DEAD + WINDOW)
    while orders.sweep()[1]:
        pass
    assert orders.names() == {"counters"}
    assert orders.sweep() == (0, False)


def test_it_tells_when_the_next_can_be_due(orders: Orders) -> None:
    shortest = min(RETENTION, WINDOW, DEAD)
    assert orders.next_sweep() == shortest  # whatever ends now
    done, dead, gone = orders.deliver("done", "dead", "gone")
    orders.complete(done)
    orders.fail(dead, final=True)
    assert orders.next_sweep() == shortest
    orders.delete(gone.id)
    orders.pass_time(WINDOW - 100)
    assert 0 < orders.next_sweep() <= 100  # the tombstone
    orders.pass_time(RETENTION - WINDOW)
    assert 0 < orders.next_sweep() <= 100  # the complete one
    orders.define(dedup_window=str(int(DEAD * 1000)), retention=str(int(DEAD * 1000)))
    orders.sweep()
    orders.pass_time(DEAD - RETENTION)
    assert 0 < orders.next_sweep() <= 100  # the dead letter
    orders.pass_time(100)
    assert orders.next_sweep() >= 0.001
