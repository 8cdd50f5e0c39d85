"""`complete`: the result is kept, the lease is gone, and a repeat succeeds."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.body import codec
from redisq.errors import MessageTooLarge
from redisq.model.message import Status
from tests.scripts.conftest import RETENTION, Orders, new, sweeping_id


def test_the_result_is_kept_with_the_record(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.complete(receipt, result={"price": 12}) == [None]
    ((entry, fields),) = orders.redis.xrange(orders.keys.finished)
    record = orders.record(receipt.id)
    assert record is not None
    assert fields == {b"id": receipt.id}
    assert (record.status, record.entry, record.payload) == (b"C", entry, codec.encode({"price": 12}))
    assert orders.leased() == orders.dead() == []
    assert orders.counters() == {"queued": 1, "completed": 1}


def test_a_repeat_succeeds_and_keeps_the_first_result(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.complete(receipt, result="first")
    with orders.unchanged():
        assert orders.complete(receipt, result="second") == [None]


def test_twice_in_one_batch_is_once(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.complete(receipt, receipt) == [None, None]
    assert orders.finished() == [receipt.id]
    assert orders.counters()["completed"] == 1


def test_a_result_that_is_too_large_changes_nothing(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    with orders.unchanged():
        (outcome,) = orders.complete(receipt, result="x" * orders.limits.max_bytes)
    assert isinstance(outcome, MessageTooLarge)
    assert f"{orders.limits.max_bytes:,} bytes" in str(outcome)
    assert orders.fail(receipt, final=True, cause="rejected") == [None]


def test_the_queues_own_max_bytes_wins(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.define(max_bytes="5")
    (outcome,) = orders.complete(receipt, result="123456")
    assert isinstance(outcome, MessageTooLarge)
    assert orders.complete(receipt, result="1234") == [None]


@pytest.mark.parametrize("result", [b"", bytes(range(256)), b" ", b"\n", b"T n 1 12345678"])
def test_a_result_is_opaque_bytes(orders: Orders, result: bytes) -> None:
    (receipt,) = orders.deliver("a")
    call = store.deliveries.complete(orders.keys, orders.limits, [(receipt, result)])
    assert orders.run(call) == [None]
    with orders.unchanged():
        assert orders.run(call) == [None]
    record = orders.record(receipt.id)
    assert record is not None
    assert record.payload == result


def test_progress_does_not_outlive_the_delivery(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.renew(receipt, progress=codec.encode("half"))
    orders.complete(receipt, result=None)
    (message,) = orders.get(receipt.id)
    assert (message.status, message.result, message.progress) == (Status.COMPLETE, None, None)


def test_five_hundred_at_once(orders: Orders) -> None:
    receipts = orders.deliver(*range(500))
    assert orders.complete(*receipts) == [None] * 500
    assert orders.finished() == [receipt.id for receipt in receipts]
    assert orders.leased() == []


def test_completing_sweeps_up_to_128_leftovers_in_one_call_of_32(orders: Orders) -> None:
    orders.queue(new("last", sweeping_id()))
    (last,) = orders.claim().deliveries
    *old, ordinary = orders.deliver(*range(131))
    orders.complete(*old)
    orders.pass_time(RETENTION + 1)
    orders.complete(ordinary)
    assert len(orders.finished()) == 131
    orders.complete(last.receipt)
    assert orders.finished() == [old[128].id, old[129].id, ordinary.id, last.receipt.id]
    assert orders.redis.hlen(orders.keys.messages) == 4
