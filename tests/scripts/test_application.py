"""`application`: a record is written only in place of the one that was read; readers see that something has changed."""

from __future__ import annotations

from typing import Any

import pytest

from redisq import store
from redisq.errors import ApplicationConflict, InvalidApplication
from redisq.store.keys import apps_key
from tests.scripts.conftest import Orders


def write(orders: Orders, name: str, before: bytes, record: str, most: int = 10) -> Any:
    return orders.run(
        store.applications.application(apps_key(orders.raw.settings.namespace), name, before, record, most)
    )


def generation(orders: Orders) -> Any:
    return orders.redis.hget(apps_key(orders.raw.settings.namespace), "#")


def test_a_new_record_and_a_change_of_it(orders: Orders) -> None:
    apps = apps_key(orders.raw.settings.namespace)
    assert write(orders, "shop", b"", "one") is None
    first = generation(orders)
    assert first
    assert write(orders, "shop", b"one", "two") is None
    assert generation(orders) not in (None, first)
    assert orders.redis.hget(apps, "shop") == b"two"
    assert orders.redis.hlen(apps) == 2


def test_a_repeat_succeeds_and_changes_nothing(orders: Orders) -> None:
    write(orders, "shop", b"", "one")
    with orders.unchanged():
        assert write(orders, "shop", b"", "one") is None


@pytest.mark.parametrize(("before", "record"), [(b"", "three"), (b"one", "three"), (b"tw", "three")])
def test_another_record_than_was_read_stays(orders: Orders, before: bytes, record: str) -> None:
    write(orders, "shop", b"", "two")
    with orders.unchanged():
        assert isinstance(write(orders, "shop", before, record), ApplicationConflict)


def test_one_that_has_gone_is_not_brought_back(orders: Orders) -> None:
    with orders.unchanged():
        assert isinstance(write(orders, "shop", b"one", "two"), ApplicationConflict)


def test_there_are_so_many_at_most(orders: Orders) -> None:
    assert [write(orders, name, b"", "one", most=2) for name in ("a", "b")] == [None, None]
    with orders.unchanged():
        refused = write(orders, "c", b"", "one", most=2)
    assert isinstance(refused, InvalidApplication)
    assert "2 applications already" in str(refused)
    assert write(orders, "a", b"one", "two", most=2) is None
