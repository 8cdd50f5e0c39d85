"""A queue that holds one of everything, and for each script a call that has something to do there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redisq import store
from redisq.model.delivery import Failure, Receipt
from redisq.model.listing import DeadPage
from redisq.store.call import Call, new_nonce
from redisq.store.keys import apps_key, queues_key, rate_key
from tests.scripts.conftest import DEAD, ERROR, YEAR, Orders, new, sweeping_id


@dataclass(frozen=True)
class Everything:
    """What `everything` put there."""

    ready: bytes  # queued
    urgent: bytes  # queued with a priority
    hurried: Receipt  # in progress, with a priority
    due: bytes  # scheduled, and its time has come
    delayed: bytes  # scheduled for far later
    held: Receipt  # in progress; calls on it sweep
    lapsed: Receipt  # in progress, but its lease has lapsed
    done: bytes  # complete, its retention has passed
    dead: bytes  # error, its retention has passed
    gone: bytes  # deleted, the deduplication window has passed


def everything(orders: Orders) -> Everything:
    """Put one of everything into the queue, with nothing swept yet."""
    values = [new(name) for name in ("done", "dead", "gone")] + [new("held", sweeping_id()), new("lapsed")]
    assert orders.queue(*values) == [None] * 5
    done, dead, gone, held, lapsed = (delivery.receipt for delivery in orders.claim(5).deliveries)
    orders.put("hurried", priority=3)
    hurried = orders.claim(1).deliveries[0].receipt
    (due,) = orders.put("due", delay=60)
    (delayed,) = orders.put("delayed", delay=YEAR)
    assert orders.complete(done) == [None]
    assert orders.fail(dead, final=True) == [None]
    assert orders.delete(gone.id) == [None]
    orders.define(max_length="1000")
    (ready,) = orders.put("ready")
    (urgent,) = orders.put("urgent", priority=5)
    orders.pass_time(DEAD + 1)
    orders.redis.zadd(orders.keys.leases, dict.fromkeys((held.id, hurried.id), orders.now_ms() + 30_000))
    orders.redis.hset(queues_key(orders.raw.settings.namespace), "orders", 1)
    orders.redis.hset(apps_key(orders.raw.settings.namespace), mapping={"shop": "rqa1.k.old.tag", "#": "first"})
    return Everything(ready, urgent, hurried, due, delayed, held, lapsed, done.id, dead.id, gone.id)


def damaged(orders: Orders, there: Everything) -> Call[Any]:
    """Damage messages of each status, and give the call that mends them."""
    orders.redis.zrem(orders.keys.leases, there.held.id)
    orders.redis.hdel(orders.keys.messages, there.lapsed.id)
    orders.redis.zrem(orders.keys.dead, there.dead)
    for key in (orders.keys.finished, orders.keys.tombstones):
        orders.redis.xtrim(key, 0, approximate=False)
    released = orders.claim(1, lapsed_by=0).deliveries[0].receipt
    assert orders.release(released) == [None]
    orders.redis.xtrim(orders.keys.stream, 0, approximate=False)
    orders.hush()
    doubts = [(id, b"") for id in orders.redis.hkeys(orders.keys.states)]
    return store.audit.audit(orders.keys, orders.limits, "states", doubts, 1_000_000, fix=True, who="shop")


Case = Callable[[Orders, Everything], Call[Any]]

#: script -> a call that reads and writes all it can
CASES: dict[str, Case] = {
    "queue": lambda o, _: store.messages.queue(
        o.keys, o.limits, [new("now"), new("later", delay=5), new("first", priority=9)]
    ),
    "get": lambda o, e: store.messages.get(o.keys, [e.ready, e.delayed, e.held.id, e.done]),
    "ended": lambda o, _: store.messages.ended(o.keys),
    "delete": lambda o, e: store.messages.delete(
        o.keys, o.limits, [e.ready, e.urgent, e.delayed, e.held.id, e.done, e.dead], "nonce"
    ),
    "cancel": lambda o, e: store.messages.cancel(
        o.keys, o.limits, "shop", [e.ready, e.urgent, e.delayed, e.held.id, e.done, e.dead]
    ),
    "claim": lambda o, _: store.deliveries.claim(o.keys, o.limits, "w-2", new_nonce(), 2),
    "complete": lambda o, e: store.deliveries.complete(o.keys, o.limits, [(e.held, b"\xc0")]),
    "fail": lambda o, e: store.deliveries.fail(
        o.keys,
        o.limits,
        [Failure(e.held, ERROR, delay=1.0, told=("ValueError", "no, stock")), Failure(e.lapsed, ERROR, final=True)],
    ),
    "renew": lambda o, e: store.deliveries.renew(o.keys, o.limits, [(e.held, b"\xc0")]),
    "release": lambda o, e: store.deliveries.defer(
        o.keys, o.limits, [(e.held, None), (e.hurried, None), (e.lapsed, 5.0)]
    ),
    "sweep": lambda o, _: store.deliveries.sweep(o.keys, o.limits),
    "stats": lambda o, _: store.queues.stats(o.keys),
    "define": lambda o, _: store.queues.define(
        o.keys, o.limits, [("max_bytes", "1000"), ("schema", "{}"), ("max_length", "")]
    ),
    "register": lambda o, _: store.queues.register(queues_key(o.raw.settings.namespace), "invoices", 1),
    "registry": lambda o, _: store.queues.registry(queues_key(o.raw.settings.namespace)),
    "purge": lambda o, _: store.queues.purge(o.keys, o.limits),
    "drop": lambda o, _: store.queues.drop(o.keys),
    "unregister": lambda o, _: store.queues.unregister(queues_key(o.raw.settings.namespace), "orders"),
    "dead": lambda o, _: store.dead_letters.dead(o.keys, DeadPage()),
    "redrive": lambda o, e: store.dead_letters.redrive(o.keys, o.limits, "shop", [e.dead, e.ready]),
    "leave": lambda o, _: store.deliveries.leave(o.keys, o.limits, "w-1"),
    "take": lambda o, _: store.rates.take(rate_key(o.raw.settings.namespace, "tests"), 0.01, 10, 3),
    "audit": damaged,
    "look": lambda o, _: store.audit.look(o.keys, "states", b"0", 100, 1_000_000),
    "survey": lambda o, _: store.audit.survey(o.keys, o.limits),
    "page": lambda o, _: store.listing.page(o.keys, "stream", "0", 10, 1000),
    "applications": lambda o, _: store.applications.applications(apps_key(o.raw.settings.namespace)),
    "application": lambda o, _: store.applications.application(
        apps_key(o.raw.settings.namespace), "shop", b"rqa1.k.old.tag", "rqa1.k.new.tag", 1000
    ),
    "info": lambda o, _: store.audit.info(queues_key(o.raw.settings.namespace)),
    "schema": lambda o, _: store.queues.schema(o.keys),
    "scan": lambda o, _: store.audit.scan(queues_key(o.raw.settings.namespace), "*", b"0"),
}
#: scripts that a full server refuses
BRING_IN = {"queue", "define", "register"}
READING = {
    *("applications", "ended", "get", "schema", "stats", "registry", "dead", "survey", "look", "page", "info", "scan"),
}
