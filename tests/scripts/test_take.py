"""`take`: an application's bucket of tokens, shared by all gateways, by the server's clock."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.store.keys import rate_key
from tests.scripts.conftest import Orders

SLOW = 1000.0  # seconds until a token comes: none does while a test runs


def take(orders: Orders, tokens: int, *, interval: float = SLOW, burst: int = 10) -> tuple[int, float]:
    return orders.run(store.rates.take(key_of(orders), interval, burst, tokens))


def key_of(orders: Orders) -> str:
    return rate_key(orders.raw.settings.namespace, "shop")


def age(orders: Orders, seconds: float) -> None:
    """Let time pass for the bucket."""
    full = float(orders.redis.get(key_of(orders)))
    orders.redis.set(key_of(orders), f"{full - seconds * 1000:.3f}", keepttl=True)


def test_a_bucket_begins_full_and_is_emptied(orders: Orders) -> None:
    assert take(orders, 4) == (4, 0)
    assert take(orders, 4) == (4, 0)
    assert take(orders, 4) == (2, 0)


def test_an_empty_one_gives_nothing_and_says_when(orders: Orders) -> None:
    take(orders, 10)
    with orders.unchanged():
        taken, wait = take(orders, 1)
    assert taken == 0
    assert 0 < wait <= SLOW


def test_tokens_come_back_with_time_up_to_the_burst(orders: Orders) -> None:
    take(orders, 10)
    age(orders, 3 * SLOW)
    assert take(orders, 10) == (3, 0)
    age(orders, 50 * SLOW)
    assert take(orders, 100) == (10, 0)


def test_each_application_has_its_own(orders: Orders) -> None:
    take(orders, 10)
    assert orders.run(store.rates.take(rate_key(orders.raw.settings.namespace, "mail"), SLOW, 10, 10)) == (10, 0)


def test_the_key_goes_when_the_bucket_is_full_again(orders: Orders) -> None:
    take(orders, 3)
    left = orders.redis.pttl(key_of(orders)) / 1000
    assert 2 * SLOW < left <= 3 * SLOW + 1


def test_a_rate_that_was_lowered_holds_nobody_up_longer_than_an_empty_bucket(orders: Orders) -> None:
    take(orders, 10)
    taken, wait = take(orders, 1, interval=1.0, burst=5)
    assert taken == 0
    assert wait <= 1.0


@pytest.mark.parametrize("value", [b"", b"nan", b"x", b"-1.000", b"9" * 400, b"9" * 15 + b".000", b"1e999", b"5"])
def test_what_is_no_time_begins_anew(orders: Orders, value: bytes) -> None:
    orders.redis.set(key_of(orders), value)
    taken, wait = take(orders, 1)
    assert taken == 1 or 0 < wait <= SLOW


def test_many_small_takings_add_up_exactly(orders: Orders) -> None:
    """A tenth of a millisecond has no exact form in binary; ten thousand of them shall still be ten thousand."""
    taken = sum(take(orders, 7, interval=100.0001, burst=100)[0] for _ in range(20))
    assert taken == 100


def test_a_fast_rate_is_no_faster_than_it_says(orders: Orders) -> None:
    before = orders.redis.time()
    taken = 0
    for _ in range(50):
        taken += take(orders, 1000, interval=0.0001, burst=1000)[0]
    after = orders.redis.time()
    passed = (after[0] - before[0]) + (after[1] - before[1]) / 1e6
    assert 1000 <= taken <= 1000 + (passed + 0.001) * 10_000
