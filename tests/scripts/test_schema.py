"""`schema`: the schema of a queue's definition, read often."""

from __future__ import annotations

from redisq import store
from tests.scripts.conftest import Orders


def test_it_is_read_as_it_is_stored(orders: Orders) -> None:
    for text in ('{"type":"object","title":"\u00e9"}', "{}"):
        orders.define(schema=text, lease="1000")
        with orders.unchanged():
            assert orders.run(store.queues.schema(orders.keys)) == text


def test_a_queue_without_one_has_none(orders: Orders) -> None:
    assert orders.run(store.queues.schema(orders.keys)) is None
    orders.define(lease="1000")
    assert orders.run(store.queues.schema(orders.keys)) is None


def test_what_another_program_stored_is_read_too(orders: Orders) -> None:
    orders.redis.hset(orders.keys.config, "schema", b"\xff")
    assert orders.run(store.queues.schema(orders.keys)) == "\\xff"
