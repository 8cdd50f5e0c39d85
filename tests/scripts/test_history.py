"""The history of a message: what was out of the ordinary, and nothing for one that simply completes."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.errors import RedisQError
from redisq.model.delivery import Failure
from redisq.model.message import Transition
from tests.scripts.conftest import ERROR, Orders


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


ODD = [
    "a, b; c|d % 20%41 e\tf\ng\0h\x7f",
    "failed,1,2,w-1;redriven,2,3,shop",
    "\u0085\u00a0\u2028\U0001f4e6 Größe",
    "%s%d %% %2C",
    "",
]


@pytest.mark.parametrize("text", ODD)
def test_a_failed_attempt_tells_its_error(orders: Orders, text: str) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, delay=0, told=("Odd,; |%Error", text)) == [0]
    (second,) = orders.claim().deliveries
    assert orders.fail(second.receipt, delay=0) == [0]
    (third,) = orders.claim().deliveries
    orders.complete(third.receipt)
    assert [(step.event, step.by, step.error) for step in history(orders, receipt.id)] == [
        ("failed", "w-1", {"type": "Odd,; |%Error", "message": text}),
        ("failed", "w-1", None),
    ]


def test_a_long_error_is_cut_and_stays_within_what_the_script_takes(orders: Orders) -> None:
    for kind, text in (("K" * 500, "\U0001f4e6" * 500), ("\U0001f4e6" * 500, " " * 500)):
        (receipt,) = orders.deliver("a")
        assert orders.fail(receipt, final=True, told=(kind, text)) == [None]
        (step,) = history(orders, receipt.id)
        assert step.error == {"type": kind[:150], "message": text[:300]}
        orders.delete(receipt.id)


@pytest.mark.parametrize("told", [b"|a b", b"|a,b", b"|a;b", b"|a\n", b"|\0", b"|" + b"x" * 2048])
def test_what_would_end_a_field_is_refused_and_changes_nothing(orders_real: Orders, told: bytes) -> None:
    orders = orders_real
    (receipt,) = orders.deliver("a")
    before = orders.record(receipt.id)
    call = store.deliveries.fail(orders.keys, orders.limits, [Failure(receipt, ERROR)])
    with pytest.raises(RedisQError, match=r"bad argument \(told\)"):
        orders.run(call._replace(args=[*call.args[:-1], told]))
    assert orders.record(receipt.id) == before
    assert orders.leased() == [receipt.id]


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
