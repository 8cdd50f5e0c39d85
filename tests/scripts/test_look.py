"""`look`: what a page of each structure tells of where messages are, or belong; and how much one page reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redisq import store
from redisq.model.audit import Look
from redisq.operations.doctor import HASHES, LISTS
from redisq.store.keys import new_id
from tests.scripts.conftest import YEAR, Orders, place
from tests.support.queues.calls import everything

LARGE = 1_000_000
STRUCTURES = (*HASHES, *LISTS)


def look(orders: Orders, structure: str, cursor: bytes = b"0", count: int = 100, size: int = LARGE, **how: Any) -> Look:
    with orders.unchanged():
        return orders.run(store.audit.look(orders.keys, structure, cursor, count, size, **how))


def pages(orders: Orders, structure: str, **how: Any) -> Iterator[Look]:
    """All pages of a structure."""
    page = look(orders, structure, **how)
    yield page
    while page.cursor != b"0":
        page = look(orders, structure, page.cursor, **how)
        yield page


def all_told(page: Look) -> set[bytes]:
    """The ids that a page tells of."""
    return {place[-16:] for place in page.places} | set(page.doubtful) | {id for id, _ in page.tombstones}


def fill(orders: Orders, structure: str, ids: set[bytes], value: bytes) -> None:
    key = getattr(orders.keys, structure)
    for id in ids:
        match structure:
            case "states" | "messages":
                orders.redis.hset(key, id, value)
            case "stream" | "finished" | "tombstones":
                orders.redis.xadd(key, {"id": id})
            case "urgent":
                orders.redis.zadd(key, {place(b"1-1", id): 1})
            case _:
                orders.redis.zadd(key, {id: 1})


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_queue_that_never_was(orders: Orders, structure: str) -> None:
    assert look(orders, structure) == Look(b"0", [], [], [])


def test_where_messages_belong_they_are(orders: Orders) -> None:
    """Of one of everything, in each status, whatever leftovers there are."""
    there = everything(orders)
    belong = sorted(place for structure in HASHES for place in look(orders, structure).places)
    lists = [structure for structure in LISTS if structure != "tombstones"]
    assert belong == sorted(place for structure in lists for place in look(orders, structure).places)
    homes = {(place[-16:], place.split(b" ")[0]) for place in belong}
    assert homes == {
        (there.ready, b"stream"),
        (there.urgent, b"stream"),
        (there.urgent, b"urgent"),
        (there.due, b"scheduled"),
        (there.delayed, b"scheduled"),
        (there.held.id, b"leases"),
        (there.hurried.id, b"leases"),
        (there.lapsed.id, b"leases"),
        (there.done, b"finished"),
        (there.dead, b"dead"),
    }
    ((buried, at),) = look(orders, "states").tombstones
    assert (buried, at.isdigit()) == (there.gone, True)
    assert look(orders, "tombstones").places == [there.gone]
    assert [place for structure in STRUCTURES for place in look(orders, structure).doubtful] == []


def test_places_name_the_entries(orders: Orders) -> None:
    done, back = orders.deliver("done", "back")
    orders.complete(done)
    orders.release(back)
    entries = [orders.redis.xrange(key)[0][0] for key in (orders.keys.finished, orders.keys.stream)]
    assert sorted(look(orders, "states").places) == [
        b"finished " + entries[0] + b" " + done.id,
        b"stream " + entries[1] + b" " + back.id,
    ]
    assert look(orders, "messages").places == []  # their records tell
    assert look(orders, "finished").places == [b"finished " + entries[0] + b" " + done.id]
    (delayed,) = orders.put("delayed", delay=YEAR)
    assert look(orders, "messages").places == look(orders, "scheduled").places == [b"scheduled  " + delayed]


def test_what_is_doubtful_at_once(orders: Orders) -> None:
    done, dead, held, gone, damaged = orders.deliver("done", "dead", "held", "gone", "damaged")
    orders.complete(done)
    orders.fail(dead, final=True)
    orders.delete(gone.id)
    (ready, cut) = orders.put("ready", "cut")
    orders.redis.hdel(orders.keys.messages, done.id, dead.id, held.id)
    orders.redis.hset(orders.keys.messages, mapping={gone.id: "there again", cut: "cut", "job": "7"})
    orders.redis.hset(orders.keys.states, mapping={damaged.id: "damaged", "task": "8"})
    assert sorted(look(orders, "states").doubtful) == sorted([done.id, dead.id, held.id, gone.id, damaged.id, b"task"])
    assert sorted(look(orders, "messages").doubtful) == sorted([cut, b"job"])
    assert [place[-16:] for place in look(orders, "messages").places] == [ready]


def test_a_record_longer_than_its_head(orders: Orders) -> None:
    """By its payload it may be; what is longer otherwise is not read, but doubted."""
    done, odd = orders.deliver("done", "odd")
    orders.limit(max_bytes=LARGE)
    orders.complete(done, result="x" * 50_000)
    record = orders.record(odd.id)
    assert record is not None
    orders.redis.hset(orders.keys.states, odd.id, record.text.replace(record.nonce, b"n" * 50_000))
    found = look(orders, "states")
    assert [place[-16:] for place in found.places] == [done.id]
    assert found.doubtful == [odd.id]


@pytest.mark.full(keep=3)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_pages_cover_a_structure(orders: Orders, structure: str) -> None:
    """Each member is met, whatever the server's encoding of the structure is, and in one slice of several."""
    ids = {new_id() for _ in range(700)}
    fill(orders, structure, ids, b"damaged")
    met = [all_told(page) for page in pages(orders, structure, count=50)]
    assert set().union(*met) == ids
    assert len(met) > 5
    slices = [
        set().union(*map(all_told, pages(orders, structure, count=500, slices=3, slice=slice))) for slice in range(3)
    ]
    assert set().union(*slices) == ids
    assert sum(map(len, slices)) == len(ids)


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_page_is_not_much_larger_than_asked_for(orders_real: Orders, structure: str) -> None:
    """Small structures are packed, and come whole; else a page exceeds its count by chance collisions only."""
    ids = {new_id() for _ in range(3_000)}
    fill(orders_real, structure, ids, b"x" * 100)
    sizes = [len(all_told(page)) for page in pages(orders_real, structure, count=200)]
    assert max(sizes) <= 220


@pytest.mark.parametrize("structure", HASHES)
def test_large_values_make_small_pages(orders_real: Orders, structure: str) -> None:
    """What one page reads is bounded, whether all values are large or few."""
    limit, large = 50_000, b"x" * 20_000
    few, many = {new_id() for _ in range(20)}, {new_id() for _ in range(1_000)}
    fill(orders_real, structure, few, large)
    met = [all_told(page) for page in pages(orders_real, structure, size=limit)]
    assert set().union(*met) == few
    assert max(map(len, met)) <= 10  # 2.5 would reach the limit
    fill(orders_real, structure, many, b"x" * 70)
    read = [
        sum(len(large) if id in few else 70 for id in all_told(page))
        for page in pages(orders_real, structure, size=limit)
    ]
    assert max(read) <= 4 * limit
    assert len(read) > 10


def test_a_page_reads_one_value_at_least(orders: Orders) -> None:
    ids = set(orders.put(*["x" * 900] * 10))
    met = [all_told(page) for page in pages(orders, "messages", size=0)]
    assert set().union(*met) == ids
    assert all(len(page) <= 10 for page in met)
