"""`release` with a time: a message is put off, uncharged, and nobody gets it before."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.body import codec
from redisq.errors import LeaseLost
from redisq.model.delivery import Receipt
from redisq.model.message import Status
from tests.scripts.conftest import Orders, events


def again(orders: Orders) -> Receipt:
    """Claim the deferred message when it is due."""
    orders.pass_time(61)
    (delivery,) = orders.claim().deliveries
    return delivery.receipt


def test_a_message_waits_uncharged(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.defer(receipt, after=60) == [None]
    record = orders.record(receipt.id)
    assert record is not None
    assert (record.status, record.attempt, record.cause, record.entry) == (b"P", b"1", b"deferred", b"-")
    assert (record.numbers, events(record)) == ((0, 0, 1, 0), [("deferred", 1, "w-1")])
    assert orders.scheduled() == [receipt.id]
    assert abs(int(record.at) - orders.now_ms() - 60_000) < 10_000
    assert orders.leased() == orders.ready() == []
    assert orders.claim().deliveries == []
    assert orders.counters() == {"queued": 1, "released": 1}
    second = again(orders)
    assert (second.id, second.attempt) == (receipt.id, 2)


def test_it_is_deferred_more_often_than_it_may_fail_and_then_fails_as_often(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for _ in range(30):
        assert orders.defer(receipt) == [None]
        receipt = again(orders)
    assert receipt.attempt == 31
    (claimed,) = orders.get(receipt.id)
    assert [(step.event, step.attempt, step.count) for step in claimed.history] == [("deferred", 30, 30)]
    assert orders.fail(receipt, delay=0) == [0]


def test_deferrals_in_a_row_are_one_entry(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for how in ("fail", "defer", "defer", "defer", "release", "defer", "defer", "fail"):
        if how == "fail":
            orders.fail(receipt, delay=1)
        elif how == "defer":
            orders.defer(receipt)
        else:
            orders.release(receipt)
        receipt = again(orders)
    (message,) = orders.get(receipt.id)
    assert [(step.event, step.attempt, step.count, step.by) for step in message.history] == [
        ("failed", 1, 1, "w-1"),
        ("deferred", 4, 3, "w-1"),
        ("released", 5, 1, "w-1"),
        ("deferred", 7, 2, "w-1"),
        ("failed", 8, 1, "w-1"),
    ]
    times = [step.at for step in message.history]
    assert times == sorted(times)


def test_the_entry_keeps_its_place_among_twenty(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for how in (*[orders.release] * 25, orders.defer, orders.defer):
        how(receipt)
        receipt = again(orders)
    (message,) = orders.get(receipt.id)
    assert [step.attempt for step in message.history] == [*range(7, 26), 27]


@pytest.mark.parametrize("odd", [b"deferred*", b"deferred*0", b"deferred*%b" % (b"9" * 400)], ids=len)
def test_another_programs_count_does_no_harm(orders: Orders, odd: bytes) -> None:
    (receipt,) = orders.deliver("a")
    text = orders.redis.hget(orders.keys.states, receipt.id)
    fields = text.split(b" ", 8)
    fields[7] = odd + b",1,1,w-1"
    orders.redis.hset(orders.keys.states, receipt.id, b" ".join(fields))
    assert orders.defer(receipt) == [None]
    (message,) = orders.get(receipt.id)
    (step,) = message.history
    assert (step.event, 1 <= step.count <= 1_000_000_001) == ("deferred", True)


def test_it_expires_when_it_is_due_too_late(orders: Orders) -> None:
    orders.put("a", expires_in=30)
    (delivery,) = orders.claim().deliveries
    assert orders.defer(delivery.receipt) == [None]
    orders.pass_time(61)
    assert orders.claim().deliveries == []
    (message,) = orders.get(delivery.receipt.id)
    assert (message.status, message.error["reason"]) == (Status.ERROR, "expired")
    assert [step.event for step in message.history] == ["deferred", "expired"]


def test_its_priority_stays(orders: Orders) -> None:
    orders.put("a", priority=5)
    (delivery,) = orders.claim().deliveries
    orders.defer(delivery.receipt)
    plain = orders.put("b")
    orders.pass_time(61)
    assert [one.receipt.id for one in orders.claim().deliveries] == [delivery.receipt.id, *plain]


def test_it_rings_when_it_is_due_before_the_others(orders: Orders) -> None:
    first, second, third = orders.deliver("a", "b", "c")
    orders.hush()
    orders.defer(first, after=60)
    assert orders.rings() == 1
    orders.hush()
    orders.defer(second, after=120)
    assert orders.rings() == 0
    orders.defer(third, after=5)
    assert orders.rings() == 1


def test_a_suspect_is_cleared(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    (delivery,) = orders.claim(worker="w-2").deliveries
    orders.defer(delivery.receipt)
    record = orders.record(receipt.id)
    assert record is not None
    assert record.numbers == (0, 0, 1, 0)


def test_its_progress_is_forgotten(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.renew(receipt, progress=codec.encode(10))
    orders.defer(receipt)
    (message,) = orders.get(receipt.id)
    assert (message.status, message.progress, message.error) == (Status.PENDING, None, None)


def test_a_repeat_succeeds_and_changes_nothing(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.defer(receipt)
    with orders.unchanged():
        assert orders.defer(receipt) == [None]
        assert orders.release(receipt) == [None]
    second = again(orders)
    with orders.unchanged():
        assert [type(outcome) for outcome in orders.defer(receipt)] == [LeaseLost]
    orders.complete(second)
    with orders.unchanged():
        assert [type(outcome) for outcome in orders.defer(second)] == [LeaseLost]


def test_some_may_be_deferred_and_others_not(orders: Orders) -> None:
    first, second, third = orders.deliver("a", "b", "c")
    deferred = [(first, 60.0), (second, None), (third, 0.0)]
    assert orders.run(store.deliveries.defer(orders.keys, orders.limits, deferred)) == [None] * 3
    assert (orders.ready(), sorted(orders.scheduled())) == ([second.id], sorted([first.id, third.id]))
    assert {one.receipt.id for one in orders.claim().deliveries} == {second.id, third.id}
