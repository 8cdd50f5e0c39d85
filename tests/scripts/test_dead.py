"""`dead`: the list of dead letters."""

from __future__ import annotations

from redisq.model.message import Status
from tests.scripts.conftest import Orders


def letters(orders: Orders, *ages: float) -> list[bytes]:
    """Let messages die, each so many seconds ago, the oldest first."""
    assert list(ages) == sorted(ages, reverse=True)
    ids: list[bytes] = []
    for age, next_age in zip(ages, [*ages[1:], 0], strict=True):
        ids += orders.put(f"died {age} s ago")
        (delivery,) = orders.claim().deliveries
        orders.fail(delivery.receipt, final=True, cause="rejected")
        orders.pass_time(age - next_age)
    return ids


def test_oldest_first_with_all_that_is_known(orders: Orders) -> None:
    first, second = letters(orders, 200, 100)
    with orders.unchanged():
        found = orders.letters()
    assert [letter.id for letter in found] == [first, second]
    assert {letter.reason for letter in found} == {"rejected"}
    assert found == sorted(found, key=lambda letter: letter.died)
    message = found[0].message
    assert message is not None
    assert (message.status, message.request, message.error["reason"]) == (Status.ERROR, "died 200 s ago", "rejected")


def test_by_age(orders: Orders) -> None:
    old, middle, young = letters(orders, 300, 200, 100)

    def found(**page: float) -> list[bytes]:
        return [letter.id for letter in orders.letters(**page)]

    assert found(min_age=150) == [old, middle]
    assert found(max_age=250) == [middle, young]
    assert found(min_age=150, max_age=250) == [middle]
    assert found(min_age=400) == found(max_age=50) == []


def test_by_pages(orders: Orders) -> None:
    ids = letters(orders, 300, 200, 100)
    (first,) = orders.letters(limit=1)
    assert [letter.id for letter in orders.letters(start=first.died, skip=1)] == ids[1:]
    assert [letter.id for letter in orders.letters(start=first.died)] == ids


def test_without_bodies(orders: Orders) -> None:
    letters(orders, 100)
    (letter,) = orders.letters(bodies=False)
    assert letter.message is not None
    assert letter.message.request is None


def test_one_without_body_or_record_is_listed(orders: Orders) -> None:
    bodiless, unknown = letters(orders, 200, 100)
    orders.redis.hdel(orders.keys.messages, bodiless)
    orders.redis.hdel(orders.keys.states, unknown)
    first, second = orders.letters()
    assert (first.id, first.reason, second.id, second.reason) == (bodiless, "rejected", unknown, "unreadable")
    assert first.message is not None
    assert first.message.request is None
    assert second.message is None
