"""`schema`: the schema of a queue's definition, read often."""

from __future__ import annotations

import pytest

from redisq import store
from tests.scripts.conftest import Orders


def test_it_is_read_as_it_is_stored(orders: Orders) -> None:
    for text in ('{"type":"object","title":"\u00e9"}', "{}"):
        orders.define(schema=text, lease="1000")
        with orders.unchanged():
            assert orders.run(store.queues.schema(orders.keys)) == text


@pytest.mark.parametrize("stored", ['{"type":"object"}', '{ "type":"object"}'])
@pytest.mark.parametrize(("checked", "read"), [("1", '{ "type":"object"}'), ("0", '{"type":"object"}')])
def test_it_tells_whether_formats_are_checked(orders: Orders, stored: str, checked: str, read: str) -> None:
    orders.redis.hset(orders.keys.config, mapping={"schema": stored, "check_formats": checked})
    assert orders.run(store.queues.schema(orders.keys)) == read


def test_a_queue_without_one_has_none(orders: Orders) -> None:
    assert orders.run(store.queues.schema(orders.keys)) is None
    orders.define(lease="1000")
    assert orders.run(store.queues.schema(orders.keys)) is None


def test_what_another_program_stored_is_read_too(orders: Orders) -> None:
    orders.redis.hset(orders.keys.config, "schema", b"\xff")
    assert orders.run(store.queues.schema(orders.keys)) == "\\xff"
