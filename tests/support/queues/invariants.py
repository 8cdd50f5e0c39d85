"""What holds of a queue's keys at any moment, whatever went wrong: each message is in one place, on which all agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from redisq.store.record import Record
from tests.conftest import Raw

#: status -> the keys one of which lists a message with a record of that status
HOMES = {b"P": {"stream", "scheduled"}, b"I": {"leases"}, b"C": {"finished"}, b"E": {"dead"}, b"T": {"tombstones"}}
CANCELLED = {"finished"}


def is_cancelled(text: bytes) -> bool:
    """Return whether a record is that of a message that has ended as cancelled."""
    return text.startswith(b"E ") and Record.of(text).cause == b"cancelled"


def broken(raw: Raw) -> list[str]:
    """List what is wrong with the queue."""
    return list(_broken(raw))


def _broken(raw: Raw) -> Iterator[str]:
    redis, keys = raw.redis, raw.keys
    homes: dict[bytes, Counter[str]] = defaultdict(Counter)
    for name in ("stream", "finished", "tombstones"):
        for _, fields in redis.xrange(getattr(keys, name)):
            homes[fields[b"id"]][name] += 1
    for name in ("scheduled", "leases", "dead"):
        for id in redis.zrange(getattr(keys, name), 0, -1):
            homes[id][name] += 1
    urgent = [place[30:] for place in redis.zrange(keys.urgent, 0, -1)]
    for id in urgent:
        if homes[id] != {"stream": 1}:
            yield f"{id.hex()} is urgent, and in {dict(homes[id])}"
    bodies, states = redis.hgetall(keys.messages), redis.hgetall(keys.states)
    for id in homes.keys() | bodies.keys() | states.keys():
        places, text = homes[id], states.get(id)
        status = text[:1] if text else b"P"
        if sum(places.values()) != 1:
            yield f"{id.hex()}, {status!r}, is in {dict(places)}"
        elif not places.keys() <= (CANCELLED if text and is_cancelled(text) else HOMES[status]):
            yield f"{id.hex()}, {status!r}, is in {set(places)}"
        if (id in bodies) == (status == b"T"):
            yield f"{id.hex()}, {status!r}, {'has a body' if id in bodies else 'has no body'}"
        if text and status != b"T" and Record.of(text).status not in HOMES:
            yield f"{id.hex()} has a strange record"
    if redis.llen(keys.bell) > 1:
        yield "the bell holds more than one ring"
