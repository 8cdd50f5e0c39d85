"""`survey`: a queue as a whole."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.model.audit import Survey
from tests.scripts.conftest import DEAD, RETENTION, YEAR, Orders

HOUR = 3600.0


def survey(orders: Orders) -> Survey:
    with orders.unchanged():
        return orders.run(store.audit.survey(orders.keys, orders.limits))


def test_a_queue_that_never_was(orders: Orders) -> None:
    found = survey(orders)
    assert set(found.types.values()) == {"none"}
    assert found == Survey(found.types, True)


def test_a_queue_in_use(orders: Orders) -> None:
    orders.deliver("held")
    orders.put("a", "b")
    orders.define(lease="60000")
    found = survey(orders)
    assert {name for name, kind in found.types.items() if kind != "none"} == orders.names()
    assert (found.held, found.recorded) == (3, 1)
    assert (found.rings, found.lapsed, found.due, found.leftover, found.forgotten) == (1, 0, 0, 0, 0)
    assert found.config == {"lease": "60000"}


def test_what_time_should_have_done(orders: Orders) -> None:
    done, dead, _held = orders.deliver("done", "dead", "held")
    orders.complete(done)
    orders.fail(dead, final=True)
    orders.put("due", delay=60)
    orders.put("later", delay=YEAR)
    orders.pass_time(2 * HOUR)
    found = survey(orders)
    assert found.lapsed == pytest.approx(2 * HOUR - 30, abs=30)
    assert found.due == pytest.approx(2 * HOUR - 60, abs=30)
    assert (found.leftover, found.forgotten) == (0, 1)
    orders.pass_time(RETENTION)
    assert survey(orders).leftover == pytest.approx(2 * HOUR, abs=30)
    orders.redis.delete(orders.keys.finished)
    orders.pass_time(DEAD - RETENTION)
    assert survey(orders).leftover == pytest.approx(2 * HOUR, abs=30)


def test_a_clock_that_was_set_back(orders: Orders) -> None:
    orders.put("a")
    assert survey(orders).ahead <= 1
    orders.pass_time(-HOUR)
    assert survey(orders).ahead == pytest.approx(HOUR, abs=30)


def test_a_key_of_another_program_is_named(orders: Orders) -> None:
    orders.put("a")
    orders.redis.set(orders.keys.leases, "7")
    found = survey(orders)
    assert not found.sound
    assert (found.types["leases"], found.types["stream"], found.types["dead"]) == ("string", "stream", "none")
