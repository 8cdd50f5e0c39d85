"""Who is charged when a lease lapses: only a message that did it without another suspect beside it."""

from __future__ import annotations

from typing import Any

import pytest

from redisq.model.delivery import Claim, Receipt
from redisq.model.message import Status
from tests.scripts.conftest import Orders


def receipts(claim: Claim) -> list[Receipt]:
    return [delivery.receipt for delivery in claim.deliveries]


def ids(claim: Claim) -> list[bytes]:
    return [receipt.id for receipt in receipts(claim)]


def numbers(orders: Orders, id: bytes) -> tuple[int, ...]:
    """How often failed, lost, released, and how suspect."""
    record = orders.record(id)
    assert record is not None
    return record.numbers


def lapse_and_claim(orders: Orders, id: bytes, **how: Any) -> Claim:
    orders.lapse(id)
    return orders.claim(worker="w-2", **how)


def test_the_first_lapse_is_free(orders: Orders) -> None:
    held = orders.deliver("a", "b", "c")
    orders.lapse(*(receipt.id for receipt in held))
    claim = orders.claim(worker="w-2")
    assert (len(claim.deliveries), claim.suspects, claim.isolated) == (3, 3, False)
    assert {numbers(orders, receipt.id) for receipt in held} == {(0, 0, 0, 1)}


def test_the_second_lapse_is_free_and_isolates(orders: Orders) -> None:
    first, second = sorted(orders.deliver("a", "b"), key=lambda receipt: receipt.id)  # the order of equal deadlines
    orders.lapse(first.id, second.id)
    orders.claim(worker="w-2")
    orders.lapse(first.id, second.id)
    claim = orders.claim(worker="w-3")
    assert (ids(claim), claim.suspects, claim.isolated) == ([first.id], 1, True)
    assert claim.wait == 0.1  # the other one waits for a worker that holds no suspect
    assert ids(orders.claim(worker="w-3", room=0, alone=False)) == []
    assert ids(orders.claim(worker="w-4")) == [second.id]
    assert {numbers(orders, id) for id in (first.id, second.id)} == {(0, 0, 0, 2)}


def test_the_third_lapse_is_charged_with_all_three(orders: Orders) -> None:
    orders.limit(max_lost=5)
    (receipt,) = orders.deliver("a")
    charged = []
    for _ in range(4):
        assert ids(lapse_and_claim(orders, receipt.id)) == [receipt.id]
        charged.append(numbers(orders, receipt.id)[1])
    assert charged == [0, 0, 3, 4]
    assert ids(lapse_and_claim(orders, receipt.id)) == []
    (message,) = orders.get(receipt.id)
    assert (message.status, message.error["reason"], message.attempts) == (Status.ERROR, "lost", 5)
    assert "5 times" in message.error["message"]


@pytest.mark.parametrize("max_lost", [1, 2, 3, 5])
def test_max_lost_is_how_many_lapses_end_a_message_that_is_alone(orders: Orders, max_lost: int) -> None:
    orders.limit(max_lost=max_lost)
    (receipt,) = orders.deliver("a")
    deliveries = 1
    while ids(lapse_and_claim(orders, receipt.id)):
        deliveries += 1
    assert deliveries == max_lost
    assert orders.dead() == [receipt.id]


def test_a_worker_takes_no_more_suspects_than_it_has_room_for(orders: Orders) -> None:
    held = orders.deliver(*range(5))
    orders.lapse(*(receipt.id for receipt in held))
    (ready,) = orders.put("new")
    claim = orders.claim(worker="w-2", room=2)
    assert [claim.suspects, len(claim.deliveries)] == [2, 3]
    assert ids(claim)[2] == ready
    assert claim.wait == 0.1
    left = set(orders.leased()) - set(ids(claim))
    assert {numbers(orders, id) for id in left} == {(0, 0, 0, 0)}  # nothing has happened to them yet
    assert ids(orders.claim(worker="w-2", room=0, alone=False)) == []
    assert set(ids(orders.claim(worker="w-3", room=3))) == left


def test_a_claim_gives_as_many_suspects_as_it_asks_for(orders: Orders) -> None:
    held = orders.deliver(*range(3))
    orders.lapse(*(receipt.id for receipt in held))
    assert len(orders.claim(3, worker="w-2", room=10).deliveries) == 3


def test_an_urgent_one_that_a_lapsed_one_left_no_room_for_keeps_its_place(orders: Orders) -> None:
    (held,) = orders.deliver("held")
    orders.lapse(held.id)
    orders.put("plain")
    (urgent,) = orders.put("urgent", priority=5)
    assert ids(orders.claim(1, worker="w-2")) == [held.id]
    assert ids(orders.claim(1, worker="w-3")) == [urgent]


def test_all_the_lapsed_among_many_held_are_taken_in_one_claim(orders: Orders) -> None:
    held = [receipt for _ in range(10) for receipt in orders.deliver(*range(500))]
    lapsed = [receipt.id for receipt in held[1::100]]
    orders.lapse(*lapsed)
    claim = orders.claim(500, worker="w-2")
    assert sorted(ids(claim)) == sorted(lapsed)
    assert len(lapsed) == 50


def test_bodies_of_suspects_without_room_are_not_read(orders: Orders) -> None:
    """A claim of one costs what one costs, however many large ones wait for their turn."""
    held = orders.deliver(*range(100))
    orders.lapse(*(receipt.id for receipt in held))
    for receipt in held:
        orders.redis.hdel(orders.keys.messages, receipt.id)  # whoever looks ends it as unreadable
    assert orders.claim(worker="w-2", room=3).deliveries == []
    assert len(orders.dead()) == 3
    assert orders.claim(worker="w-2", room=0, alone=False).deliveries == []
    assert len(orders.leased()) == 97


def test_suspects_without_room_hide_no_others(orders: Orders) -> None:
    """An isolated one that nobody here may take stands before one that may be taken."""
    isolated, plain = orders.deliver("a", "b")
    assert ids(lapse_and_claim(orders, isolated.id)) == [isolated.id]
    orders.redis.zadd(orders.keys.leases, {isolated.id: 1, plain.id: 2})
    assert ids(orders.claim(worker="w-3", room=2, alone=False)) == [plain.id]


def test_one_that_ends_takes_no_place_of_one_that_is_delivered(orders: Orders) -> None:
    orders.limit(max_lost=3)
    guilty, other = orders.deliver("a", "b")
    for _ in range(2):
        assert ids(lapse_and_claim(orders, guilty.id)) == [guilty.id]
    orders.redis.zadd(orders.keys.leases, {guilty.id: 1, other.id: 2})
    assert ids(orders.claim(1, worker="w-3")) == [other.id]
    assert orders.dead() == [guilty.id]


@pytest.mark.parametrize("how", ["fails", "completes"])
def test_what_does_not_take_its_worker_down_is_cleared(orders: Orders, how: str) -> None:
    (receipt,) = orders.deliver("a")
    (again,) = receipts(lapse_and_claim(orders, receipt.id))
    assert numbers(orders, receipt.id) == (0, 0, 0, 1)
    if how == "fails":
        orders.fail(again, delay=0)
    else:
        orders.complete(again)
    assert numbers(orders, receipt.id)[3] == 0


def test_what_is_handed_back_is_under_suspicion_still(orders: Orders) -> None:
    """Else one that takes its workers down would live for ever where workers are often restarted."""
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    orders.claim(worker="w-2")
    (isolated,) = receipts(lapse_and_claim(orders, receipt.id))
    assert numbers(orders, receipt.id) == (0, 0, 0, 2)
    assert orders.release(isolated) == [None]
    claim = orders.claim(worker="w-3")
    assert (ids(claim), claim.suspects) == ([receipt.id], 0)  # beside any others, so not as an isolated one
    assert numbers(orders, receipt.id) == (0, 0, 1, 1)


def test_a_repeated_claim_tells_of_its_suspects_again(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.put("b")
    orders.lapse(receipt.id)
    first = orders.claim(worker="w-2", nonce="n-2")
    with orders.unchanged():
        again = orders.claim(worker="w-2", nonce="n-2")
    assert (again.suspects, again.isolated, again.deliveries) == (1, False, first.deliveries)
    orders.lapse(receipt.id)
    orders.claim(worker="w-3", nonce="n-3")
    assert orders.claim(worker="w-3", nonce="n-3").isolated is True


def test_an_expired_or_bodiless_one_ends_when_there_is_room(orders: Orders) -> None:
    (expired,) = orders.put("a", expires_in=60)
    (gone,) = orders.put("b")
    orders.claim()
    orders.redis.hdel(orders.keys.messages, gone)
    orders.pass_time(61)
    assert orders.claim(worker="w-2", room=0, alone=False).wait == 0.1
    claim = orders.claim(worker="w-2", room=2, alone=False)
    assert (claim.deliveries, claim.wait) == ([], None)
    assert sorted(orders.dead()) == sorted([expired, gone])
    assert [message.error["reason"] for message in orders.get(expired, gone)] == ["expired", "unreadable"]
