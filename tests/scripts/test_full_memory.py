"""A Redis at its maxmemory: nothing comes in, everything else goes on, so that the queue can be drained."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from redisq import embedded, store
from redisq.errors import QueueFull
from redisq.model.message import Status
from redisq.store.keys import apps_key, queues_key, rate_key
from tests.conftest import REAL_SERVERS, start
from tests.scripts.conftest import RETENTION, Orders, new
from tests.support.queues.calls import CASES, Everything, everything

NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]


@pytest.fixture(scope="module", params=REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def server(request: pytest.FixtureRequest) -> Iterator[embedded.EmbeddedServer]:
    """A server of this module's own: no other test shall find it full."""
    with start(request.param) as mine:
        yield mine


@pytest.fixture
def fill(orders: Orders) -> Iterator[Callable[[], object]]:
    """Fill the memory: from the call on there is less of it than is used."""
    yield lambda: orders.redis.config_set("maxmemory", 1)
    orders.redis.config_set("maxmemory", 0)


Fill = Callable[[], object]


@pytest.mark.parametrize("script", ["queue", "define", "register"])
def test_what_brings_data_in_is_refused_whole(orders: Orders, fill: Fill, script: str) -> None:
    call = CASES[script](orders, everything(orders))
    fill()
    with orders.unchanged(), pytest.raises(QueueFull, match="out of memory"):
        orders.run(call)


def test_queueing_one_more_of_many_is_refused_whole(orders: Orders, fill: Fill) -> None:
    orders.put("a")
    fill()
    with orders.unchanged(), pytest.raises(QueueFull, match="out of memory"):
        orders.queue(*(new(n) for n in range(100)))


def test_a_repeat_of_what_is_queued_succeeds(orders: Orders, fill: Fill) -> None:
    message = new()
    orders.queue(message)
    fill()
    with orders.unchanged():
        assert orders.queue(message) == [None]


def test_a_registered_queue_stays_registered(orders: Orders, fill: Fill) -> None:
    queues = queues_key(orders.raw.settings.namespace)
    orders.run(store.queues.register(queues, "orders", 1))
    fill()
    with orders.unchanged():
        assert orders.run(store.queues.register(queues, "orders", 1)) == 1
    assert orders.run(store.queues.registry(queues)) == {"orders": 1}
    assert orders.define() == {}


def test_a_new_application_is_refused_whole(orders: Orders, fill: Fill) -> None:
    everything(orders)
    fill()
    with orders.unchanged(), pytest.raises(QueueFull, match="out of memory"):
        orders.run(
            store.applications.application(
                apps_key(orders.raw.settings.namespace), "billing", b"", "rqa1.k.new.tag", 1000
            )
        )


def test_a_definition_goes_back_to_its_defaults(orders: Orders, fill: Fill) -> None:
    orders.define(max_length="5")
    fill()
    assert orders.define(max_length="") == {}


WENT_ON: dict[str, Callable[[Orders, Everything], None]] = {
    "complete": lambda o, e: _is(o, e.held.id, Status.COMPLETE),
    "fail": lambda o, e: _is(o, e.held.id, Status.PENDING),
    "release": lambda o, e: _is(o, e.held.id, Status.PENDING),
    "renew": lambda o, e: _is(o, e.held.id, Status.INPROGRESS),
    "delete": lambda o, e: _gone(o, e.ready),
    "sweep": lambda o, e: _gone(o, e.done),
    "leave": lambda o, _: _no_claims(o),
    "get": lambda o, e: _is(o, e.ready, Status.PENDING),
    "stats": lambda o, _: _counts(o),
    "audit": lambda o, e: _is(o, e.lapsed.id, Status.ERROR),
    "survey": lambda o, _: _counts(o),
    "application": lambda o, _: _revoked(o),
    "take": lambda o, _: _taken(o),
}


def _is(orders: Orders, id: bytes, status: Status) -> None:
    (message,) = orders.get(id)
    assert message.status is status


def _gone(orders: Orders, id: bytes) -> None:
    assert not orders.redis.hexists(orders.keys.messages, id)


def _no_claims(orders: Orders) -> None:
    assert orders.redis.hlen(orders.keys.workers) == 0


def _revoked(orders: Orders) -> None:
    assert orders.redis.hget(apps_key(orders.raw.settings.namespace), "shop") == b"rqa1.k.new.tag"


def _taken(orders: Orders) -> None:
    assert orders.redis.exists(rate_key(orders.raw.settings.namespace, "tests"))


def _counts(orders: Orders) -> None:
    assert orders.stats().ready == 2


@pytest.mark.parametrize("script", WENT_ON)
def test_everything_else_goes_on(orders: Orders, fill: Fill, script: str) -> None:
    there = everything(orders)
    call = CASES[script](orders, there)
    fill()
    reply = orders.run(call)
    assert not [outcome for outcome in (reply if isinstance(reply, list) else []) if isinstance(outcome, Exception)]
    WENT_ON[script](orders, there)


def test_a_full_queue_can_be_drained(orders: Orders, fill: Fill) -> None:
    everything(orders)
    orders.put(*range(50))
    orders.define(max_length="")
    fill()
    delivered = 0
    while deliveries := orders.claim(20).deliveries:
        receipts = [delivery.receipt for delivery in deliveries]
        assert all(isinstance(lease, float) for lease in orders.renew(*receipts, progress=b"\x01"))
        assert orders.release(receipts[0]) == [None]
        (again,) = orders.claim(1).deliveries
        assert orders.fail(again.receipt, final=True) == [None]
        assert orders.complete(*receipts[1:]) == [None] * len(receipts[1:])
        delivered += len(receipts)
    assert delivered == 50 + len(["ready", "urgent", "due", "lapsed"])
    assert orders.stats().ready == 0


def test_memory_comes_back_when_all_is_done(orders: Orders, fill: Fill) -> None:
    orders.complete(*orders.deliver(*range(20)))
    orders.pass_time(RETENTION + 1)
    fill()
    assert orders.sweep() == (20 + len(["the worker's last claim"]), False)
    assert orders.names() == {"counters"}
