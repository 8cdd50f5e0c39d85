"""The history of a message: what was out of the ordinary, and nothing for one that simply completes."""

from __future__ import annotations

from redisq.model.message import Transition
from tests.scripts.conftest import Orders


def history(orders: Orders, id: bytes) -> tuple[Transition, ...]:
    (message,) = orders.get(id)
    return message.history


def test_a_message_that_simply_completes_has_none(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert history(orders, receipt.id) == ()
    orders.complete(receipt)
    assert history(orders, receipt.id) == ()
    assert orders.record(receipt.id).history == b"-"


def test_each_event_tells_when_at_which_attempt_and_who(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.fail(receipt, delay=0)
    (second,) = orders.claim(worker="w-2").deliveries
    orders.release(second.receipt)
    orders.claim(worker="w-3")
    orders.lapse(receipt.id)
    (fourth,) = orders.claim(worker="w-4").deliveries
    orders.fail(fourth.receipt, final=True, cause="rejected")
    orders.redrive(receipt.id)
    (fifth,) = orders.claim(worker="w-5").deliveries
    orders.complete(fifth.receipt)
    steps = history(orders, receipt.id)
    assert [(step.event, step.attempt, step.by) for step in steps] == [
        ("failed", 1, "w-1"),
        ("released", 2, "w-2"),
        ("lost", 3, "w-3"),
        ("reclaimed", 4, "w-4"),
        ("rejected", 4, "w-4"),
        ("redriven", 4, "shop"),
    ]
    times = [step.at for step in steps]
    assert times == sorted(times)
    assert abs(times[0].timestamp() * 1000 - orders.now_ms()) < 60_000


def test_the_last_twenty_are_kept(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for _ in range(25):
        orders.release(receipt)
        (delivery,) = orders.claim().deliveries
        receipt = delivery.receipt
    assert [step.attempt for step in history(orders, receipt.id)] == list(range(6, 26))


def test_it_goes_with_the_message(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    orders.delete(receipt.id)
    assert b"released" not in orders.redis.hget(orders.keys.states, receipt.id)
