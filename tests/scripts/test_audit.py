"""`audit`: judges messages in doubt, tells each problem once, mends only what is wrong at that moment.

Here every message is in doubt. Which are in the end, and what becomes of it, is told by tests/scripts/test_look.py and
tests/contract/test_doctor.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from redisq import RedisQ, store
from redisq.model.audit import Judgement
from redisq.operations.doctor import JUDGED
from redisq.store.keys import new_id
from tests.scripts.conftest import YEAR, Orders
from tests.support.queues.calls import everything

LARGE = 1_000_000


def audit(orders: Orders, structure: str, *doubts: tuple[bytes, bytes], size: int = LARGE, **how: Any) -> Judgement:
    """Judge some messages, or else all that a structure holds."""
    chosen = doubts or members(orders, structure)
    return orders.run(store.audit.audit(orders.keys, orders.limits, structure, chosen, size, **how))


def members(orders: Orders, structure: str) -> list[tuple[bytes, bytes]]:
    """All that a structure holds, as doubts."""
    key = getattr(orders.keys, structure)
    match orders.redis.type(key):
        case b"hash":
            return [(id, b"") for id in orders.redis.hkeys(key)]
        case b"zset" if structure == "urgent":
            places = orders.redis.zrange(key, 0, -1)
            return [(there[30:], _entry(there)) if len(there) == 46 else (there, b"") for there in places]
        case b"zset":
            return [(id, b"") for id in orders.redis.zrange(key, 0, -1)]
        case _:
            return [(next(iter(fields.values())), entry) for entry, fields in orders.redis.xrange(key)]


def _entry(there: bytes) -> bytes:
    return b"%d-%d" % (int(there[:15]), int(there[15:30]))


def problems(orders: Orders, **how: Any) -> dict[str, list[tuple[bytes, str, bool]]]:
    """What is told of those in each structure."""
    told = {}
    for structure in JUDGED:
        if structure != "tombstones" and members(orders, structure):
            told[structure] = list(audit(orders, structure, **how).problems)
    return {structure: found for structure, found in told.items() if found}


@pytest.mark.parametrize("fix", [False, True])
def test_one_of_everything_is_sound(orders: Orders, fix: bool) -> None:
    everything(orders)
    with orders.unchanged():
        assert problems(orders, fix=fix) == {}


def test_it_stops_when_it_has_read_enough(orders: Orders) -> None:
    ids = [(id, b"") for id in orders.put("x" * 900, "x" * 900, "x" * 900)]
    assert audit(orders, "messages", *ids).judged == 3
    assert audit(orders, "messages", *ids, size=0).judged == 1
    assert audit(orders, "messages", *ids, size=1_000).judged == 2


def test_what_has_moved_on_is_in_doubt_no_more(orders: Orders) -> None:
    """What was met, and is not there now, is not told of, whatever else is wrong."""
    ghost = (new_id(), b"1-1")
    for structure in JUDGED:
        for fix in (False, True):
            with orders.unchanged():
                assert audit(orders, structure, ghost, fix=fix) == Judgement(1, [])
    (receipt,) = orders.deliver("a")
    entry = orders.redis.xinfo_stream(orders.keys.stream)["last-generated-id"]
    assert audit(orders, "stream", (receipt.id, entry), fix=True) == Judgement(1, [])
    assert audit(orders, "messages", (receipt.id, b""), fix=True) == Judgement(1, [])


def test_a_lapsed_lease_and_an_overdue_message_are_sound(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    orders.put("b", delay=1)
    orders.pass_time(60)
    assert problems(orders) == {}


def test_each_problem_is_told_once(orders: Orders) -> None:
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
    at = orders.redis.hget(orders.keys.states, id).split(b" ")[2]
    orders.redis.delete(orders.keys.tombstones)
    orders.pass_time(60)
    with orders.unchanged():
        assert audit(orders, "tombstones", (id, at), fix=True).problems == []
    now = orders.redis.hget(orders.keys.states, id).split(b" ")[2]
    assert audit(orders, "tombstones", (id, now), fix=True).problems == [(id, "tombstone-missing", True)]
    assert len(members(orders, "tombstones")) == 1


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


@pytest.mark.parametrize("is_released", [False, True])
def test_a_ready_message_that_has_a_priority_gets_its_place_back(orders: Orders, is_released: bool) -> None:
    (id,) = orders.put("urgent", priority=5)
    if is_released:
        orders.release(orders.claim().deliveries[0].receipt)
    places = orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True)
    orders.redis.delete(orders.keys.urgent)
    assert audit(orders, "urgent", (id, b""), fix=True).problems == [(id, "urgent-missing", True)]
    assert orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True) == places


def test_what_is_ended_for_want_of_a_body_is_held_by_nobody(orders: Orders) -> None:
    (held,) = orders.deliver("held")
    orders.redis.hdel(orders.keys.messages, held.id)
    text = orders.redis.hget(orders.keys.states, held.id)
    assert audit(orders, "states", (held.id, text), fix=True).problems == [(held.id, "body-missing", True)]
    assert orders.leased() == []


@pytest.mark.parametrize("score", ["inf", "-inf", "1e300", "-5"])
def test_scores_that_are_no_times_break_nothing(orders: Orders, score: str) -> None:
    dead, held = orders.deliver("dead", "held")
    (ready,) = orders.put("ready")
    orders.fail(dead, final=True)
    orders.redis.zadd(orders.keys.dead, {dead.id: score})
    orders.redis.zadd(orders.keys.scheduled, {ready: score})
    orders.redis.delete(orders.keys.stream)
    orders.redis.hdel(orders.keys.states, dead.id)
    problems(orders, fix=True)
    assert problems(orders) == {}
    assert [message.status for message in orders.get(dead.id, held.id, ready)] == ["ERROR", "INPROGRESS", "PENDING"]
    assert orders.ready() == [ready]


@pytest.mark.parametrize("end", ["leased", "finished", "dead"])
def test_a_message_whose_record_is_written_anew_is_urgent_no_more(orders: Orders, end: str) -> None:
    """By its body it is ready where it once was; one run mends both."""
    (id,) = orders.put("a", priority=5)
    places = orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True)
    (delivery,) = orders.claim(1).deliveries
    if end == "finished":
        orders.complete(delivery.receipt)
    elif end == "dead":
        orders.fail(delivery.receipt, final=True)
    orders.redis.hdel(orders.keys.states, id)
    orders.redis.zadd(orders.keys.urgent, dict(places))
    with RedisQ(settings=orders.raw.settings) as mq:
        assert "record-missing" in [finding.code for finding in mq.doctor("orders", fix=True) if finding.fixed]
        assert [finding.code for finding in mq.doctor("orders") if finding.fixable] == []
    assert orders.urgent() == ([id] if end == "leased" else []) == orders.ready()
