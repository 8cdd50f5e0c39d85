"""A stored message that another program has damaged beyond its first space: refused or ended, never half-handled."""

from __future__ import annotations

import pytest

from redisq.body import codec
from redisq.errors import InvalidMessage
from tests.scripts.conftest import Orders


@pytest.fixture(params=[b"", b"x", b"1-1", b" "], ids=repr)
def damaged(request: pytest.FixtureRequest, orders: Orders) -> bytes:
    """The id of a ready message whose stored text is damaged."""
    (id,) = orders.put("a")
    orders.redis.hset(orders.keys.messages, id, request.param)
    return id


def test_it_can_be_looked_up(orders: Orders, damaged: bytes) -> None:
    (outcome,) = orders.get(damaged)
    assert isinstance(outcome, InvalidMessage)


def test_it_can_be_claimed_by_a_worker_that_cannot_read_it(orders: Orders, damaged: bytes) -> None:
    (delivery,) = orders.claim().deliveries
    with pytest.raises(InvalidMessage):
        codec.decode_request(delivery.body)
    assert orders.fail(delivery.receipt, cause="unreadable", final=True) == [None]
    assert orders.dead() == [damaged]
    orders.limit(dead_ms=0)
    assert orders.sweep()[1] is False
    assert orders.dead() == orders.finished() == []


def test_it_can_be_deleted_in_a_batch(orders: Orders, damaged: bytes) -> None:
    (sound,) = orders.put("b")
    assert orders.delete(damaged, sound) == [None, None]
    assert orders.redis.hlen(orders.keys.messages) == 0
    assert orders.counters()["deleted"] == 2
