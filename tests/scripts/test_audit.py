"""`audit`: judges page by page, tells each problem in one walk, mends only what is wrong at that moment.

What is called how, and what becomes of it, is told by tests/contract/test_doctor.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from redisq import calls
from redisq.doctor import WALKS
from redisq.keys import new_id
from redisq.model import AuditPage
from tests.scripts.cases import everything
from tests.scripts.conftest import YEAR, Orders


def audit(orders: Orders, walk: str, cursor: bytes = b"0", count: int = 100, **how: Any) -> AuditPage:
    return orders.run(calls.audit(orders.keys, orders.limits, walk, cursor, count, **how))


def problems(orders: Orders, **how: Any) -> dict[str, list[tuple[bytes, str, bool]]]:
    """What each walk tells."""
    return {walk: found for walk in WALKS if (found := list(audit(orders, walk, **how).problems))}


def test_a_queue_that_never_was(orders: Orders) -> None:
    for walk in (*WALKS, "tombstones", "unlisted"):
        assert audit(orders, walk, fix=True) == AuditPage(b"0", [], [])
    assert orders.names() == set()


@pytest.mark.parametrize("fix", [False, True])
def test_one_of_everything_is_sound(orders: Orders, fix: bool) -> None:
    everything(orders)
    with orders.unchanged():
        assert problems(orders, fix=fix) == {}


@pytest.mark.parametrize("walk", [*WALKS, "tombstones"])
def test_pages_cover_a_structure(orders: Orders, walk: str) -> None:
    """Each member is met, whatever the server's encoding of the structure is."""
    ids = {new_id() for _ in range(700)}
    key = getattr(orders.keys, walk)
    for id in ids:
        if walk in ("states", "messages"):
            orders.redis.hset(key, id, "damaged")
        elif walk in ("stream", "finished", "tombstones"):
            orders.redis.xadd(key, {"id": id})
        else:
            orders.redis.zadd(key, {id: 1})
    met, cursor, pages = set[bytes](), b"0", 0
    while pages == 0 or cursor != b"0":
        page = audit(orders, walk, cursor, 50)
        met |= {id for id, *_ in (*page.problems, *page.tombstones)}
        cursor, pages = page.cursor, pages + 1
    assert met == ids
    assert pages > 5


def test_a_lapsed_lease_and_an_overdue_message_are_sound(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    orders.put("b", delay=1)
    orders.pass_time(60)
    assert problems(orders) == {}


def test_each_problem_is_told_by_one_walk(orders: Orders) -> None:
    (held,) = orders.deliver("held")
    ready, orphan = orders.put("ready", "orphan")
    (delayed,) = orders.put("delayed", delay=YEAR)
    orders.redis.zrem(orders.keys.leases, held.id)
    orders.redis.xdel(orders.keys.stream, orders.redis.xrange(orders.keys.stream)[1][0])
    orders.redis.xadd(orders.keys.stream, {"id": ready})
    orders.redis.hdel(orders.keys.messages, delayed)
    assert problems(orders) == {
        "states": [(held.id, "lease-missing", False)],
        "messages": [(orphan, "orphan", False)],
        "scheduled": [(delayed, "body-missing", False)],
        "stream": [(ready, "stream-stray", False)],
    }


def test_nothing_is_taken_away_while_its_message_is_not_where_it_belongs(orders: Orders) -> None:
    """If the doctor dies before it has put that back, the stray entry is all that is left of the message."""
    (id,) = orders.put("a")
    orders.redis.delete(orders.keys.stream)
    orders.redis.xadd(orders.keys.stream, {"id": id}, id=f"{orders.now_ms()}-77")  # not the entry that it had
    orders.redis.zadd(orders.keys.scheduled, {id: orders.now_ms() + 60_000})
    with orders.unchanged():
        assert audit(orders, "stream", fix=True).problems == []
        assert audit(orders, "scheduled", fix=True).problems == []
    assert audit(orders, "messages", fix=True).problems == [(id, "orphan", True)]
    assert audit(orders, "stream", fix=True).problems == [(id, "stream-stray", True)]
    assert (orders.ready(), orders.scheduled()) == ([], [id])
    assert problems(orders) == {}


def test_what_is_put_back_rings(orders: Orders) -> None:
    orders.put("a")
    orders.redis.delete(orders.keys.stream)
    orders.hush()
    audit(orders, "messages")
    assert orders.rings() == 0
    audit(orders, "messages", fix=True)
    assert orders.rings() == 1


def test_a_lost_lease_lasts_as_long_as_the_queues_own(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.define(lease="60000")
    orders.redis.zrem(orders.keys.leases, receipt.id)
    audit(orders, "states", fix=True)
    left = orders.redis.zscore(orders.keys.leases, receipt.id) - orders.now_ms()
    assert 30_000 < left <= 60_000
    assert orders.renew(receipt) == [60.0]


def test_totals_count_what_loses_its_body(orders: Orders) -> None:
    orders.redis.hdel(orders.keys.messages, *orders.put("a", "b"))
    audit(orders, "stream", fix=True)
    assert orders.counters() == {"queued": 2, "dead": 2, "unreadable": 2}
    assert len(orders.dead()) == 2


def test_a_tombstone_that_was_made_anew_meanwhile_is_not_unlisted(orders: Orders) -> None:
    (id,) = orders.put("a")
    orders.delete(id)
    orders.pass_time(60)
    ((met, at),) = audit(orders, "states").tombstones
    assert met == id
    listed = audit(orders, "tombstones").tombstones
    assert listed == [(id, b"")]
    orders.redis.delete(orders.keys.tombstones)
    orders.pass_time(1)
    with orders.unchanged():
        assert audit(orders, "unlisted", unlisted=[(id, at)], fix=True).problems == []
    ((_, now),) = audit(orders, "states").tombstones
    assert audit(orders, "unlisted", unlisted=[(id, now)], fix=True).problems == [(id, "tombstone-missing", True)]
    assert len(audit(orders, "tombstones").tombstones) == 1


@pytest.mark.parametrize("entry", ["-", "nonsense", "1-", "99999999999999999999-1", "1-99999999999999999999"])
def test_entries_that_are_none_break_nothing(orders: Orders, entry: str) -> None:
    done, _held = orders.deliver("done", "held")
    orders.complete(done)
    record = orders.record(done.id)
    assert record is not None
    text = record.text.replace(record.entry, entry.encode())
    orders.redis.hset(orders.keys.states, done.id, text)
    assert audit(orders, "states", fix=True).problems == [(done.id, "finished-missing", True)]
    assert audit(orders, "finished", fix=True).problems == [(done.id, "finished-stray", True)]
    assert problems(orders) == {}


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300", "-5"])
def test_scores_that_are_no_times_break_nothing(orders: Orders, score: str) -> None:
    dead, held = orders.deliver("dead", "held")
    (ready,) = orders.put("ready")
    orders.fail(dead, final=True)
    orders.redis.zadd(orders.keys.dead, {dead.id: score})
    orders.redis.zadd(orders.keys.scheduled, {ready: score})
    orders.redis.delete(orders.keys.stream)
    orders.redis.hdel(orders.keys.states, dead.id)
    for walk in WALKS:
        audit(orders, walk, fix=True)
    assert problems(orders) == {}
    assert [message.status for message in orders.get(dead.id, held.id, ready)] == ["ERROR", "INPROGRESS", "PENDING"]
    assert orders.ready() == [ready]
