"""`delete`: a message goes, whatever its status, and only its tombstone stays for a while."""

from __future__ import annotations

import pytest

from redisq.errors import LeaseLost, MessageNotFound
from redisq.store.keys import new_id
from tests.scripts.conftest import RETENTION, WINDOW, YEAR, Orders, new


def ready(orders: Orders) -> bytes:
    (id,) = orders.put("a")
    return id


def delayed(orders: Orders) -> bytes:
    (id,) = orders.put("a", delay=YEAR)
    return id


def in_progress(orders: Orders) -> bytes:
    (receipt,) = orders.deliver("a")
    return receipt.id


def handed_back(orders: Orders) -> bytes:
    (receipt,) = orders.deliver("a")
    assert orders.release(receipt) == [None]
    return receipt.id


def retried(orders: Orders) -> bytes:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, delay=YEAR) == [YEAR]
    return receipt.id


def complete(orders: Orders) -> bytes:
    (receipt,) = orders.deliver("a")
    assert orders.complete(receipt) == [None]
    return receipt.id


def dead(orders: Orders) -> bytes:
    (receipt,) = orders.deliver("a")
    assert orders.fail(receipt, final=True) == [None]
    return receipt.id


STATUSES = [ready, delayed, in_progress, handed_back, retried, complete, dead]


@pytest.mark.parametrize("status", STATUSES)
def test_nothing_but_a_tombstone_is_left(orders: Orders, status: object) -> None:
    id = status(orders)  # type: ignore[operator]
    assert orders.delete(id) == [None]
    assert orders.ready() == orders.scheduled() == orders.leased() == orders.finished() == orders.dead() == []
    assert orders.redis.hlen(orders.keys.messages) == 0
    assert orders.redis.hget(orders.keys.states, id).startswith(b"T ")
    assert orders.counters()["deleted"] == 1
    (outcome,) = orders.get(id)
    assert isinstance(outcome, MessageNotFound)


@pytest.mark.parametrize("status", STATUSES)
def test_the_tombstone_goes_with_the_window(orders: Orders, status: object) -> None:
    orders.delete(status(orders))  # type: ignore[operator]
    orders.pass_time(WINDOW - 60)
    assert orders.sweep() == (0, False)
    assert "tombstones" in orders.names()
    orders.pass_time(RETENTION)
    orders.sweep()
    assert orders.names() <= {"counters", "bell"}


@pytest.mark.parametrize("status", STATUSES)
def test_others_stay(orders: Orders, status: object) -> None:
    id = status(orders)  # type: ignore[operator]
    (other,) = orders.put("other")
    orders.delete(id)
    (message,) = orders.get(other)
    assert message.request == "other"
    assert orders.ready() == [other]


def test_an_unknown_message_is_not_found(orders: Orders) -> None:
    orders.put("a")
    with orders.unchanged():
        (outcome,) = orders.delete(new_id())
    assert isinstance(outcome, MessageNotFound)


def test_the_same_request_again_succeeds(orders: Orders) -> None:
    ids = orders.put("a", "b")
    assert orders.delete(*ids, nonce="n-1") == [None, None]
    with orders.unchanged():
        assert orders.delete(*ids, nonce="n-1") == [None, None]


def test_another_request_finds_nothing(orders: Orders) -> None:
    (id,) = orders.put("a")
    orders.delete(id, nonce="n-1")
    with orders.unchanged():
        (outcome,) = orders.delete(id, nonce="n-2")
    assert isinstance(outcome, MessageNotFound)


def test_an_id_twice_in_one_request_is_one_deletion(orders: Orders) -> None:
    (id,) = orders.put("a")
    for _ in range(2):
        assert orders.delete(id, id, nonce="n-1") == [None, None]
    assert orders.counters()["deleted"] == 1


def test_one_unknown_id_spoils_no_other(orders: Orders) -> None:
    first, second = orders.put("a", "b")
    a, b, c = orders.delete(first, new_id(), second)
    assert (a, c) == (None, None)
    assert isinstance(b, MessageNotFound)
    assert orders.ready() == []


@pytest.mark.parametrize("status", STATUSES)
def test_it_may_be_asked_for_dead_letters_only(orders: Orders, status: object) -> None:
    id = status(orders)  # type: ignore[operator]
    if status is not dead:
        with orders.unchanged():
            (outcome,) = orders.delete(id, letters_only=True)
        assert isinstance(outcome, MessageNotFound)
    else:
        for _ in range(2):
            assert orders.delete(id, letters_only=True, nonce="n-1") == [None]
        assert orders.dead() == []


@pytest.mark.parametrize("gone", ["body", "record", "both"])
@pytest.mark.parametrize("letters_only", [False, True])
def test_a_damaged_dead_letter_goes_too(orders: Orders, gone: str, letters_only: bool) -> None:
    id = dead(orders)
    if gone != "record":
        orders.redis.hdel(orders.keys.messages, id)
    if gone != "body":
        orders.redis.hset(orders.keys.states, id, "E nonsense")
    for _ in range(2):
        assert orders.delete(id, letters_only=letters_only, nonce="n-1") == [None]
    assert (orders.dead(), orders.counters()["deleted"]) == ([], 1)
    assert orders.redis.hlen(orders.keys.messages) == 0
    orders.pass_time(WINDOW + 1)
    orders.sweep()
    assert orders.names() <= {"counters", "bell", "workers"}


def test_its_worker_loses_the_lease(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.delete(receipt.id)
    with orders.unchanged():
        outcomes = [*orders.complete(receipt), *orders.fail(receipt), *orders.renew(receipt), *orders.release(receipt)]
    assert [type(outcome) for outcome in outcomes] == [LeaseLost] * 4


def test_a_message_past_its_retention_can_be_deleted_while_it_is_there(orders: Orders) -> None:
    id = complete(orders)
    orders.pass_time(RETENTION + 1)
    assert orders.delete(id) == [None]
    assert orders.finished() == []
    assert orders.redis.hlen(orders.keys.messages) == 0


def test_deleting_sweeps_up_to_four_leftovers(orders: Orders) -> None:
    orders.complete(*orders.deliver(*range(6)))
    orders.pass_time(RETENTION + 1)
    orders.delete(*orders.put("next"))
    assert len(orders.finished()) == 2


def test_a_deleted_id_that_is_queued_anew_is_not_swept_with_its_old_tombstone(orders: Orders) -> None:
    message = new("first")
    orders.queue(message)
    orders.delete(message.id)
    orders.pass_time(WINDOW + 1)
    again = new("second", message.id)
    orders.queue(again)
    orders.sweep()
    (found,) = orders.get(message.id)
    assert found.request == "second"
    assert orders.ready() == [message.id]
