"""`fail`: the next attempt after its backoff, or dead."""

from __future__ import annotations

import random

import pytest

from redisq import store
from redisq.errors import LeaseLost
from redisq.model.delivery import Failed, Failure, Receipt
from redisq.model.message import Status
from tests.scripts.conftest import ERROR, RETENTION, Orders, events


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take the whole backoff, not a random part of it."""
    monkeypatch.setattr(random, "randrange", lambda stop: stop - 1)
    return monkeypatch


def set_failures(orders: Orders, receipt: Receipt, failed: int) -> None:
    """Write into the record how often the handler has failed."""
    record = orders.record(receipt.id)
    assert record is not None
    orders.redis.hset(orders.keys.states, receipt.id, record._replace(counts=b"%d,0,0,0" % failed).text)


def test_a_failed_delivery_is_scheduled(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, delay=1.5) == [1.5]
    record = orders.record(receipt.id)
    assert record is not None
    nonce = receipt.nonce.encode()
    assert (record.status, record.attempt, record.nonce, record.cause) == (b"P", b"1", nonce, b"failed")
    assert (record.numbers, events(record)) == ((1, 0, 0, 0), [("failed", 1, "w-1")])
    assert (record.entry, record.payload) == (b"-", ERROR)
    assert orders.redis.zscore(orders.keys.scheduled, receipt.id) == int(record.at)
    assert orders.leased() == orders.ready() == []
    assert orders.counters() == {"queued": 1, "failed": 1}


def test_it_is_delivered_again_when_its_time_has_come(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, delay=60.0)
    assert orders.claim().deliveries == []
    orders.pass_time(61)
    (delivery,) = orders.claim().deliveries
    assert (delivery.receipt.id, delivery.receipt.attempt) == (receipt.id, 2)
    (message,) = orders.get(receipt.id)
    assert (message.status, message.error, message.progress) == (Status.INPROGRESS, None, None)


def test_the_last_failure_is_final(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for _ in range(orders.limits.max_attempts - 1):
        assert orders.fail(receipt, delay=0) == [0]
        (delivery,) = orders.claim().deliveries
        receipt = delivery.receipt
    assert orders.fail(receipt, delay=0) == [None]
    assert (orders.dead(), orders.finished()) == ([receipt.id], [])
    assert orders.scheduled() == orders.leased() == []
    assert orders.counters() == {"queued": 1, "failed": 3, "dead": 1}


def test_the_queues_own_max_attempts_wins(orders: Orders) -> None:
    orders.define(max_attempts="1")
    assert orders.fail(*orders.deliver("a"), delay=0) == [None]


def test_a_final_failure_allows_no_retry(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, final=True, cause="rejected") == [None]
    (message,) = orders.get(receipt.id)
    assert (message.status, message.error["reason"]) == (Status.ERROR, "rejected")


def test_the_answer_tells_how_many_failures_there_may_be(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    (second,) = orders.claim().deliveries
    call = store.deliveries.fail(orders.keys, orders.limits, [Failure(second.receipt, ERROR, delay=60.0)])
    most = orders.limits.max_attempts
    assert orders.run(call) == [Failed(60.0, 1, most)]
    ((delay, *counts),) = orders.run(call)
    assert 59 < delay <= 60
    assert counts == [1, most]


# --- Backoff ---


def test_the_backoff_doubles_up_to_its_cap(orders: Orders, jitter: pytest.MonkeyPatch) -> None:
    orders.limit(max_attempts=100, backoff_base_ms=1_000, backoff_cap_ms=5_000)
    (receipt,) = orders.deliver("a")
    delays = []
    for _ in range(5):
        delays += orders.fail(receipt)
        orders.pass_time(6)
        (delivery,) = orders.claim().deliveries
        receipt = delivery.receipt
    assert delays == [1, 2, 4, 5, 5]


def test_the_jitter_can_take_all_of_the_backoff(orders: Orders, jitter: pytest.MonkeyPatch) -> None:
    jitter.setattr(random, "randrange", lambda stop: 0)
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt) == [0]


def test_the_jitter_is_a_fraction(orders: Orders, jitter: pytest.MonkeyPatch) -> None:
    jitter.setattr(random, "randrange", lambda stop: 250_000)
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt) == [0.25]


def test_each_failure_of_a_batch_has_its_own_jitter(orders: Orders) -> None:
    assert len(set(orders.fail(*orders.deliver(*range(50))))) > 1


def test_the_queues_own_backoff_wins(orders: Orders, jitter: pytest.MonkeyPatch) -> None:
    orders.define(backoff_base="7000", backoff_cap="8000")
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt) == [7]
    orders.pass_time(8)
    (delivery,) = orders.claim().deliveries
    assert orders.fail(delivery.receipt) == [8]


@pytest.mark.parametrize(("base", "delay"), [("0", 0), ("1000", 300)])
def test_the_backoff_stays_finite_after_any_number_of_failures(
    orders: Orders, jitter: pytest.MonkeyPatch, base: str, delay: float
) -> None:
    orders.define(backoff_base=base, max_attempts="1000000")
    (receipt,) = orders.deliver("a")
    set_failures(orders, receipt, 5_000)
    assert orders.fail(receipt) == [delay]
    assert orders.scheduled() == [receipt.id]


# --- Repeats ---


def test_a_repeat_is_answered_alike_and_changes_nothing(orders: Orders) -> None:
    retried, dead = orders.deliver("a", "b")
    assert orders.fail(retried, delay=1000.0) == [1000]
    assert orders.fail(dead, final=True) == [None]
    with orders.unchanged():
        delay, none = orders.fail(retried, dead, delay=5.0)
    assert delay == pytest.approx(1000, abs=30)
    assert none is None


def test_a_repeat_after_the_retry_began_is_too_late(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, delay=0)
    orders.claim()
    with orders.unchanged():
        (outcome,) = orders.fail(receipt, delay=0)
    assert isinstance(outcome, LeaseLost)


def test_twice_in_one_batch_is_once(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, receipt, delay=5.0) == [5, 5]
    assert orders.counters()["failed"] == 1


# --- Doorbell ---


def test_a_retry_that_is_due_before_all_others_rings(orders: Orders) -> None:
    first, second, third, fourth = orders.deliver("a", "b", "c", "d")
    orders.hush()
    orders.fail(first, delay=500.0)
    assert orders.rings() == 1
    orders.hush()
    orders.fail(second, delay=1000.0)
    assert orders.rings() == 0
    orders.fail(third, delay=100.0)
    orders.fail(fourth, delay=50.0)
    assert orders.rings() == 1


def test_a_dead_message_does_not_ring(orders: Orders) -> None:
    orders.fail(*orders.deliver("a"), final=True)
    assert orders.rings() == 0


def test_failing_sweeps_up_to_four_leftovers(orders: Orders) -> None:
    *old, last = orders.deliver(*range(7))
    orders.complete(*old)
    orders.pass_time(RETENTION + 1)
    orders.fail(last, delay=5.0)
    assert orders.finished() == [old[4].id, old[5].id]
