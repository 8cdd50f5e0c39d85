"""Receipts: a worker that no longer holds a message changes nothing, whatever it tries, and is told so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from redisq.errors import LeaseLost
from redisq.model.delivery import Receipt
from redisq.store.keys import new_id
from tests.scripts.conftest import RETENTION, WINDOW, YEAR, Orders, new

OPERATIONS: dict[str, Callable[[Orders, Receipt], list[Any]]] = {
    "complete": lambda orders, receipt: orders.complete(receipt),
    "fail": lambda orders, receipt: orders.fail(receipt),
    "fail for good": lambda orders, receipt: orders.fail(receipt, final=True),
    "renew": lambda orders, receipt: orders.renew(receipt, progress=b"\x01"),
    "release": lambda orders, receipt: orders.release(receipt),
}


def _held(orders: Orders) -> Receipt:
    (receipt,) = orders.deliver("a")
    return receipt


def unknown(orders: Orders) -> Receipt:
    return replace(_held(orders), id=new_id())


def another_nonce(orders: Orders) -> Receipt:
    return replace(_held(orders), nonce="other")


def another_attempt(orders: Orders) -> Receipt:
    return replace(_held(orders), attempt=2)


def never_claimed(orders: Orders) -> Receipt:
    (id,) = orders.put("a")
    return Receipt(id, 0, "-")


def reclaimed(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.lapse(receipt.id)
    assert len(orders.claim(worker="w-2").deliveries) == 1
    return receipt


def released_and_claimed(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.release(receipt)
    assert len(orders.claim(worker="w-2").deliveries) == 1
    return receipt


def failed_and_claimed(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.fail(receipt, delay=0)
    assert len(orders.claim(worker="w-2").deliveries) == 1
    return receipt


def deleted(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.delete(receipt.id)
    return receipt


def deleted_and_queued_anew(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.delete(receipt.id)
    orders.pass_time(WINDOW + 1)
    orders.queue(new("b", receipt.id))
    assert len(orders.claim(worker="w-2").deliveries) == 1
    return receipt


def swept(orders: Orders) -> Receipt:
    receipt = _held(orders)
    orders.complete(receipt)
    orders.pass_time(RETENTION + 1)
    orders.sweep()
    return receipt


STALE = [
    unknown,
    another_nonce,
    another_attempt,
    never_claimed,
    reclaimed,
    released_and_claimed,
    failed_and_claimed,
    deleted,
    deleted_and_queued_anew,
    swept,
]


@pytest.mark.full(keep=20)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("stale", STALE)
def test_a_stale_receipt_changes_nothing(orders: Orders, operation: str, stale: Callable[[Orders], Receipt]) -> None:
    receipt = stale(orders)
    with orders.unchanged():
        (outcome,) = OPERATIONS[operation](orders, receipt)
    assert isinstance(outcome, LeaseLost)


def _end(orders: Orders, how: str) -> Receipt:
    receipt = _held(orders)
    if how == "completed":
        assert orders.complete(receipt) == [None]
    elif how == "dead":
        assert orders.fail(receipt, final=True) == [None]
    elif how == "retried":
        assert orders.fail(receipt, delay=YEAR) == [YEAR]
    elif how == "released":
        assert orders.release(receipt) == [None]
    return receipt


#: how the holder ended its delivery -> what it cannot do any more with the same receipt
OVER = {
    "completed": ["fail", "fail for good", "renew", "release"],
    "dead": ["complete", "renew", "release"],
    "retried": ["complete", "renew"],
    "released": ["complete", "renew"],
}


@pytest.mark.parametrize(("how", "operation"), [(how, operation) for how in OVER for operation in OVER[how]])
def test_a_delivery_ends_once(orders: Orders, how: str, operation: str) -> None:
    receipt = _end(orders, how)
    with orders.unchanged():
        (outcome,) = OPERATIONS[operation](orders, receipt)
    assert isinstance(outcome, LeaseLost)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_lapsed_lease_that_nobody_took_is_still_good(orders: Orders, operation: str) -> None:
    receipt = _held(orders)
    orders.lapse(receipt.id)
    (outcome,) = OPERATIONS[operation](orders, receipt)
    assert not isinstance(outcome, LeaseLost)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_stale_receipt_spoils_no_other(orders: Orders, operation: str) -> None:
    first, second = orders.deliver("a", "b")
    run = {
        "complete": orders.complete,
        "fail": orders.fail,
        "fail for good": lambda *receipts: orders.fail(*receipts, final=True),
        "renew": orders.renew,
        "release": orders.release,
    }[operation]
    a, lost, b = run(first, replace(first, nonce="other"), second)
    assert isinstance(lost, LeaseLost)
    assert not isinstance(a, LeaseLost)
    assert not isinstance(b, LeaseLost)
