"""`release`: a message goes back, uncharged, for any worker to claim at once."""

from __future__ import annotations

from redisq.body import codec
from redisq.errors import LeaseLost
from tests.scripts.conftest import RETENTION, Orders, events


def test_a_message_is_ready_again_and_uncharged(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.release(receipt) == [None]
    ((entry, fields),) = orders.redis.xrange(orders.keys.stream)
    record = orders.record(receipt.id)
    assert record is not None
    assert fields == {b"id": receipt.id}
    assert (record.status, record.attempt, record.cause) == (b"P", b"1", b"released")
    assert (record.numbers, events(record)) == ((0, 0, 1, 0), [("released", 1, "w-1")])
    assert record.entry == entry
    assert orders.leased() == []
    assert orders.counters() == {"queued": 1, "released": 1}


def test_it_can_be_handed_back_more_often_than_it_may_fail(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for attempt in range(2, 10):
        orders.release(receipt)
        (delivery,) = orders.claim().deliveries
        receipt = delivery.receipt
        assert receipt.attempt == attempt
    assert orders.fail(receipt, delay=0) == [0]


def test_it_rings(orders: Orders) -> None:
    receipts = orders.deliver("a", "b")
    orders.release(receipts[0])
    assert orders.rings() == 1
    orders.release(receipts[1])
    assert orders.rings() == 1
    orders.hush()
    orders.release(receipts[1])  # a repeat
    assert orders.rings() == 0


def test_it_goes_to_the_end_of_the_queue(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    (next_one,) = orders.put("b")
    orders.release(receipt)
    assert orders.ready() == [next_one, receipt.id]


def test_a_repeat_succeeds_and_changes_nothing(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    with orders.unchanged():
        assert orders.release(receipt) == [None]


def test_a_repeat_after_the_next_claim_is_too_late(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    orders.claim(worker="w-2")
    with orders.unchanged():
        (outcome,) = orders.release(receipt)
    assert isinstance(outcome, LeaseLost)


def test_twice_in_one_batch_is_once(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.release(receipt, receipt) == [None, None]
    assert orders.ready() == [receipt.id]
    assert orders.counters()["released"] == 1


def test_its_progress_is_forgotten(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.renew(receipt, progress=codec.encode(10))
    orders.release(receipt)
    (message,) = orders.get(receipt.id)
    assert (message.progress, message.error) == (None, None)


def test_releasing_sweeps_up_to_four_leftovers(orders: Orders) -> None:
    *old, last = orders.deliver(*range(7))
    orders.complete(*old)
    orders.pass_time(RETENTION + 1)
    orders.release(last)
    assert orders.finished() == [old[4].id, old[5].id]
