"""`renew`: a lease lasts on, and tells how far its handler is."""

from __future__ import annotations

from redisq.body import codec
from tests.scripts.conftest import Orders


def deadline(orders: Orders, id: bytes) -> int:
    return int(orders.redis.zscore(orders.keys.leases, id))


def test_the_lease_begins_anew(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.pass_time(20)
    before = orders.now_ms()
    assert orders.renew(receipt) == [30.0]
    assert before <= deadline(orders, receipt.id) - 30_000 <= orders.now_ms()


def test_the_queues_own_lease_wins(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.define(lease="90000")
    before = orders.now_ms()
    assert orders.renew(receipt) == [90.0]
    assert deadline(orders, receipt.id) >= before + 90_000


def test_a_lapsed_lease_that_nobody_took_is_renewed(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    assert orders.renew(receipt) == [30.0]
    assert orders.claim(worker="w-2").deliveries == []


def test_only_the_deadline_changes(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    before = orders.raw.digest()
    orders.renew(receipt)
    after = orders.raw.digest()
    leases = orders.keys.leases.encode()
    assert {key for key in after if after[key] != before[key]} <= {leases}
    assert after.keys() == before.keys()


def test_progress_can_be_looked_up(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.renew(receipt, progress=codec.encode(10))
    orders.renew(receipt, progress=codec.encode(20))
    orders.renew(receipt)  # leaves it
    (message,) = orders.get(receipt.id)
    assert message.progress == 20


def test_progress_does_not_reach_the_next_delivery(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.renew(receipt, progress=codec.encode(10))
    orders.lapse(receipt.id)
    orders.claim(worker="w-2")
    (message,) = orders.get(receipt.id)
    assert message.progress is None


def test_twice_in_one_batch_is_fine(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.renew(receipt, receipt) == [30.0, 30.0]
    assert orders.leased() == [receipt.id]


def test_five_hundred_at_once(orders: Orders) -> None:
    receipts = orders.deliver(*range(500))
    assert orders.renew(*receipts, progress=b"\x01") == [30.0] * 500
    assert len(orders.leased()) == 500
