"""All keys of a queue as they are at one moment: to compare, to judge, and to put back, in one round trip each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from redisq.store.keys import apps_key, queues_key, rate_key
from tests.scripts.conftest import Orders

Command = tuple[Any, ...]

#: of a queue's keys, of the registries and of the rate of the application "tests", by name
TYPES = {
    **dict.fromkeys(("stream", "finished", "tombstones"), "stream"),
    **dict.fromkeys(("messages", "states", "workers", "counters", "config", "queues", "apps"), "hash"),
    **dict.fromkeys(("scheduled", "leases", "dead", "urgent"), "zset"),
    "bell": "list",
    "rate": "string",
}
#: for each type there is: a command that makes a key hold another program's value
FOREIGN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "string": ("SET", ("another program's",)),
    "list": ("RPUSH", ("another", "program's")),
    "set": ("SADD", ("another", "program's")),
    "hash": ("HSET", ("another", "program's")),
    "zset": ("ZADD", ("1", "another program's")),
    "stream": ("XADD", ("*", "another", "program's")),
}
#: commands that leave a real server no memory, and all of it again
FULL, ROOMY = ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")

#: The number of all keys tells of one that nobody expected: these servers are this process's own.
_FREEZE = """
local dumps = {redis.call('DBSIZE')}
for i = 1, #KEYS do dumps[i + 1] = redis.call('DUMP', KEYS[i]) end
return dumps
"""
_READ: Mapping[str, tuple[Any, ...]] = {
    "hash": ("HGETALL",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
    "list": ("LRANGE", 0, -1),
    "string": ("GET",),
}
#: What scripts write: numbers are whole and have up to 15 digits; an attempt may be the next one.
_WELL_FORMED = {
    "states": re.compile(
        rb"[PICE] \d{1,16} \S+ (-|\d{1,15}(,\d{1,15}){3}(,[1-9])?) \S+ \d{1,15} \S+ \S+ .*|T \S+ \d{1,15} .*", re.S
    ),
    "messages": re.compile(rb"[\d-]+(;\d{1,15}(;[1-9])?)? .{8}.*", re.S),
    "workers": re.compile(rb"\S+ \d{1,15} .*", re.S),
    "counters": re.compile(rb"\d{1,15}"),
    "config": re.compile(rb"\d{1,15}|\{.*\}", re.S),
    "queues": re.compile(rb"\d{1,15}"),
    "rate": re.compile(rb"\d{1,15}\.\d{3}"),
    "apps": re.compile(rb".+", re.S),  # what a record says its tag proves
}


@dataclass(frozen=True)
class Frozen:
    """What each key holds, as the server writes it down; `size` counts the keys of the whole server."""

    size: int
    dumps: tuple[bytes | None, ...]


class Freezer:
    """Takes the keys of one queue, and the registries, and puts them back as they were."""

    def __init__(self, orders: Orders) -> None:
        namespace = orders.raw.settings.namespace
        others = {
            "queues": queues_key(namespace),
            "apps": apps_key(namespace),
            "rate": rate_key(namespace, "tests"),
        }
        self.keys = {name: others.get(name) or getattr(orders.keys, name) for name in TYPES}
        self._redis = orders.redis
        self._script = orders.redis.script_load(_FREEZE)

    def run(self, *commands: Command) -> list[Any]:
        """Run commands in one trip; none may fail."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute()

    def freeze(self, *before: Command, after: tuple[Command, ...] = ()) -> Frozen:
        """Take the keys; on the same trip run commands before that, and after."""
        keys = self.keys.values()
        size, *dumps = self.run(*before, ("EVALSHA", self._script, len(keys), *keys), *after)[len(before)]
        return Frozen(size, tuple(dumps))

    def thaw(self, frozen: Frozen, *keys: str) -> tuple[Command, ...]:
        """Give the commands that put these keys back, or all."""
        wanted = [pair for pair in zip(self.keys.values(), frozen.dumps, strict=True) if not keys or pair[0] in keys]
        there = [("RESTORE", key, 0, dump) for key, dump in wanted if dump is not None]
        return (("DEL", *(key for key, _ in wanted)), *there)

    def values(self) -> dict[tuple[str, bytes], Any]:
        """Read what the keys hold, of a queue whose keys have their types: by key's name and field, member or entry."""
        replies = self.run(*((_READ[TYPES[name]][0], key, *_READ[TYPES[name]][1:]) for name, key in self.keys.items()))
        found: dict[tuple[str, bytes], Any] = {}
        for name, reply in zip(self.keys, replies, strict=True):
            found.update({(name, field): value for field, value in _held(TYPES[name], reply)})
        return found

    def assert_same(self, found: Frozen, before: Frozen, told: object) -> None:
        """Check that no key was changed. A hash that grows may be written down in another order: then values tell."""
        if found == before:
            return
        self.run(*self.thaw(found))
        values = {name: self._value(key) for name, key in self.keys.items()}
        self.run(*self.thaw(before))
        assert values == {name: self._value(key) for name, key in self.keys.items()}, told
        assert found.size == before.size, f"{told}: another key came or went"

    def _value(self, key: str) -> Any:
        kind = self._redis.type(key).decode()
        if kind in ("none", "string", "set"):
            return {"none": lambda _: None, "string": self._redis.get, "set": self._redis.smembers}[kind](key)
        return kind, self.run((_READ[kind][0], key, *_READ[kind][1:]))


def _held(kind: str, reply: Any) -> Iterator[tuple[Any, Any]]:
    match kind:
        case "hash":
            yield from reply.items()
        case "zset":
            yield from zip(reply[::2], map(float, reply[1::2]), strict=True)
        case "stream":
            yield from reply
        case "string":
            yield from [(0, reply)] if reply is not None else []
        case _:
            yield from enumerate(reply)


def malformed(before: Mapping[tuple[str, bytes], Any], now: Mapping[tuple[str, bytes], Any]) -> Iterator[object]:
    """Find what was written meanwhile and is not what scripts write."""
    for place, value in now.items():
        name = place[0]
        if before.get(place) == value:
            continue
        if name in _WELL_FORMED and not _WELL_FORMED[name].fullmatch(value):
            yield place, value
        if TYPES[name] == "zset" and not (isfinite(value) and 0 <= value < 1e16 and value == int(value)):
            yield place, value
