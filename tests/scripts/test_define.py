"""`define`: a queue's own settings, all at once."""

from __future__ import annotations

import pytest

from redisq import RedisQError, store
from tests.scripts.conftest import Orders


def test_settings_are_kept(orders: Orders) -> None:
    assert orders.define(max_length="5", lease="1000") == {"max_length": "5", "lease": "1000"}
    assert orders.define(lease="2000") == {"max_length": "5", "lease": "2000"}


def test_an_empty_value_goes_back_to_the_default(orders: Orders) -> None:
    orders.define(max_length="5", lease="1000")
    assert orders.define(max_length="", retention="7", paused="") == {"lease": "1000", "retention": "7"}
    assert orders.define(lease="", retention="") == {}
    assert orders.names() == set()


def test_a_schema_is_kept_as_it_is(orders: Orders) -> None:
    text = '{"type":"object","title":"\u00e9"}'
    assert orders.define(schema=text, lease="1000") == {"schema": text, "lease": "1000"}
    assert orders.run(store.queues.schema(orders.keys)) == text
    assert orders.define(schema="") == {"lease": "1000"}
    assert orders.run(store.queues.schema(orders.keys)) is None


@pytest.mark.parametrize("text", ["5", "[]", "{", "true", " {}", "{}x", '{"a":"' + "x" * 65_529 + '"}'])
def test_what_can_be_no_schema_is_refused(orders: Orders, text: str) -> None:
    orders.define(max_length="5")
    with orders.unchanged(), pytest.raises(RedisQError):
        orders.define(max_length="6", schema=text)


def test_only_a_schema_may_be_text(orders: Orders) -> None:
    with orders.unchanged(), pytest.raises(RedisQError):
        orders.define(lease="{}")


def test_without_changes_it_only_reads(orders: Orders) -> None:
    orders.define(max_length="5", paused="1")
    orders.put("a")
    orders.hush()
    with orders.unchanged():
        assert orders.define() == {"max_length": "5", "paused": "1"}


def test_resuming_wakes_a_worker(orders: Orders) -> None:
    for resume in ("0", ""):
        orders.define(paused="1")
        orders.put("a")
        orders.hush()
        orders.define(paused=resume)
        assert orders.rings() == 1


def test_resuming_an_empty_queue_wakes_nobody(orders: Orders) -> None:
    orders.define(paused="1")
    orders.define(paused="0")
    assert orders.rings() == 0


def test_nothing_else_rings(orders: Orders) -> None:
    orders.put("a")
    orders.hush()
    orders.define(max_length="5", paused="0")
    orders.define(paused="1")
    orders.define(max_length="")
    assert orders.rings() == 0
