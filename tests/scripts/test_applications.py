"""`applications`: all records, or nothing when the caller has them."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.errors import Unavailable
from redisq.model.application import Records
from redisq.store.keys import apps_key
from tests.scripts.conftest import Orders


def test_an_empty_registry_has_a_generation_too(orders: Orders) -> None:
    apps = apps_key(orders.raw.settings.namespace)
    assert orders.run(store.applications.applications(apps)) == Records(b"", {})
    assert orders.run(store.applications.applications(apps, b"")) is None


def test_what_is_known_is_not_sent_again(orders: Orders) -> None:
    apps = apps_key(orders.raw.settings.namespace)
    orders.redis.hset(apps, mapping={"shop": b"record\xff", "billing": "another", "#": "word"})
    records = Records(b"word", {"shop": b"record\xff", "billing": b"another"})
    with orders.unchanged():
        assert orders.run(store.applications.applications(apps)) == records
        assert orders.run(store.applications.applications(apps, b"earlier")) == records
        assert orders.run(store.applications.applications(apps, b"word")) is None


def test_a_foreign_value_is_refused(orders: Orders) -> None:
    apps = apps_key(orders.raw.settings.namespace)
    orders.redis.set(apps, "theirs")
    with orders.unchanged(), pytest.raises(Unavailable, match="not redisq's"):
        orders.run(store.applications.applications(apps))
