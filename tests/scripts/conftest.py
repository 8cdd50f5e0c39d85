"""The queue `orders` from below: its scripts' calls, its keys, and a way to let time pass without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from redisq import store
from redisq.body import codec
from redisq.model.delivery import Claim, Failed, Failure, Receipt, Renewal
from redisq.model.listing import DeadLetter, DeadPage
from redisq.store.call import Call, Limits, new_nonce
from redisq.store.keys import new_id
from redisq.store.messages import NewMessage
from redisq.store.record import Record
from tests.conftest import Raw

LIMITS = Limits(
    lease_ms=30_000,
    retention_ms=86_400_000,
    window_ms=300_000,
    dead_ms=172_800_000,
    max_attempts=3,
    max_lost=3,
    backoff_base_ms=1_000,
    backoff_cap_ms=300_000,
    max_bytes=1_000,
    max_length=0,
)
RETENTION = LIMITS.retention_ms / 1000
WINDOW = LIMITS.window_ms / 1000
DEAD = LIMITS.dead_ms / 1000
YEAR = 31_536_000.0
ERROR = codec.encode({"type": "ValueError", "message": "no stock"})


def new(value: object = "hello", id: bytes | None = None, **when: float) -> NewMessage:
    """Make a message as the clients do, under an id whose calls do not sweep unless there is more to decide."""
    body = codec.encode_request(value, 64 * 1024 * 1024)
    return NewMessage(id or b"\xff" + new_id()[1:], codec.digest(body), body, **when)


def sweeping_id() -> bytes:
    """Make the id of a message whose calls sweep, as those of one in 32 do."""
    return b"\0" + new_id()[1:]


def place(entry: bytes, id: bytes) -> bytes:
    """A place among the urgent ones, as lib/priority.lua has it."""
    ms, _, sequence = entry.partition(b"-")
    return b"%015d%015d" % (int(ms), int(sequence)) + id


def events(record: Record) -> list[tuple[str, int, str]]:
    """What happened out of the ordinary: event, attempt, who."""
    return [(one.event, one.attempt, one.by) for one in record.transitions]


class Orders:
    """The queue `orders` on one server. `limits` are the client's defaults; a test may change them with `limit`."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.redis = raw.redis
        self.keys = raw.keys
        self.limits = LIMITS

    # --- Calls ---

    def run(self, call: Call[Any]) -> Any:
        return self.raw.link.call(call)

    def limit(self, **values: int) -> None:
        self.limits = replace(self.limits, **values)

    def queue(self, *messages: NewMessage) -> list[Any]:
        return self.run(store.messages.queue(self.keys, self.limits, messages))

    def put(self, *values: object, **when: float) -> list[bytes]:
        """Queue messages, all of which must be accepted, and give their ids."""
        messages = [new(value, **when) for value in values]
        assert self.queue(*messages) == [None] * len(messages)
        return [message.id for message in messages]

    def claim(self, count: int = 10, worker: str = "w-1", nonce: str | None = None, **how: Any) -> Claim:
        nonce = nonce or new_nonce()
        return self.run(store.deliveries.claim(self.keys, self.limits, worker, nonce, count, **how))

    def deliver(self, *values: object) -> list[Receipt]:
        """Queue messages into the empty queue, claim them, and give their receipts."""
        ids = self.put(*values)
        receipts = [delivery.receipt for delivery in self.claim(len(ids)).deliveries]
        assert [receipt.id for receipt in receipts] == ids
        return receipts

    def complete(self, *receipts: Receipt, result: object = "done") -> list[Any]:
        encoded = codec.encode(result)
        return self.run(store.deliveries.complete(self.keys, self.limits, [(receipt, encoded) for receipt in receipts]))

    def fail(self, *receipts: Receipt, **how: Any) -> list[Any]:
        """Fail deliveries, and give the delay until each one's next attempt."""
        failures = [Failure(receipt, ERROR, **how) for receipt in receipts]
        outcomes = self.run(store.deliveries.fail(self.keys, self.limits, failures))
        return [outcome.delay if isinstance(outcome, Failed) else outcome for outcome in outcomes]

    def renewals(self, *receipts: Receipt, progress: bytes = b"") -> list[Any]:
        return self.run(store.deliveries.renew(self.keys, self.limits, [(receipt, progress) for receipt in receipts]))

    def renew(self, *receipts: Receipt, progress: bytes = b"") -> list[Any]:
        """Renew leases, and give what is told of their lengths alone."""
        outcomes = self.renewals(*receipts, progress=progress)
        return [outcome.lease if isinstance(outcome, Renewal) else outcome for outcome in outcomes]

    def release(self, *receipts: Receipt) -> list[Any]:
        return self.run(store.deliveries.release(self.keys, self.limits, receipts))

    def defer(self, *receipts: Receipt, after: float | None = 60.0) -> list[Any]:
        deferred = [(receipt, after) for receipt in receipts]
        return self.run(store.deliveries.defer(self.keys, self.limits, deferred))

    def get(self, *ids: bytes) -> list[Any]:
        return self.run(store.messages.get(self.keys, ids))

    def delete(self, *ids: bytes, nonce: str | None = None, letters_only: bool = False) -> list[Any]:
        nonce = nonce or new_nonce()
        return self.run(store.messages.delete(self.keys, self.limits, ids, nonce, letters_only=letters_only))

    def cancel(self, *ids: bytes) -> list[Any]:
        return self.run(store.messages.cancel(self.keys, self.limits, "shop", ids))

    def redrive(self, *ids: bytes) -> list[Any]:
        return self.run(store.dead_letters.redrive(self.keys, self.limits, "shop", ids))

    def letters(self, **page: Any) -> list[DeadLetter]:
        return self.run(store.dead_letters.dead(self.keys, DeadPage(**page)))

    def sweep(self) -> tuple[int, bool]:
        count, more, _ = self.run(store.deliveries.sweep(self.keys, self.limits))
        return count, more

    def next_sweep(self) -> float:
        """Sweep, and give in how many seconds the next leftover can be due."""
        _, _, wait = self.run(store.deliveries.sweep(self.keys, self.limits))
        return wait

    def stats(self) -> Any:
        return self.run(store.queues.stats(self.keys))

    def define(self, **changes: str) -> dict[str, str]:
        return self.run(store.queues.define(self.keys, self.limits, list(changes.items())))

    # --- Looking ---

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Check that what happens inside changes no key."""
        before = self.raw.digest()
        yield
        assert self.raw.digest() == before

    def names(self) -> set[str]:
        """The names of the keys that there are."""
        return {key.decode().rpartition(":")[2] for key in self.raw.digest()}

    def record(self, id: bytes) -> Record | None:
        """A message's record, None when it has none."""
        text = self.redis.hget(self.keys.states, id)
        return Record.of(text) if text is not None else None

    def counters(self) -> dict[str, int]:
        return {name.decode(): int(value) for name, value in self.redis.hgetall(self.keys.counters).items()}

    def ready(self) -> list[bytes]:
        """The ids in the stream, in order."""
        return [fields[b"id"] for _, fields in self.redis.xrange(self.keys.stream)]

    def scheduled(self) -> list[bytes]:
        return self.redis.zrange(self.keys.scheduled, 0, -1)

    def urgent(self) -> list[bytes]:
        """The ids of ready messages that have a priority, in the order of delivery."""
        return [there[30:] for there in self.redis.zrange(self.keys.urgent, 0, -1)]

    def leased(self) -> list[bytes]:
        return self.redis.zrange(self.keys.leases, 0, -1)

    def finished(self) -> list[bytes]:
        return [fields[b"id"] for _, fields in self.redis.xrange(self.keys.finished)]

    def dead(self) -> list[bytes]:
        return self.redis.zrange(self.keys.dead, 0, -1)

    def rings(self) -> int:
        return self.redis.llen(self.keys.bell)

    def hush(self) -> None:
        """Take the ring off the bell, as a worker that waits for it does."""
        self.redis.delete(self.keys.bell)

    def now_ms(self) -> int:
        seconds, microseconds = self.redis.time()
        return seconds * 1000 + microseconds // 1000

    # --- Time ---

    def lapse(self, *ids: bytes) -> None:
        """Let leases lapse: their deadlines are a second ago."""
        past = self.now_ms() - 1000
        self.redis.zadd(self.keys.leases, dict.fromkeys(ids, past))

    def pass_time(self, seconds: float) -> None:
        """Move all that the queue holds into the past, as if it had happened so many seconds earlier."""
        ms = int(seconds * 1000)
        for key in (self.keys.stream, self.keys.finished, self.keys.tombstones):
            entries = self.redis.xrange(key)
            self.redis.delete(key)
            for entry, fields in entries:
                self.redis.xadd(key, fields, id=_earlier(entry, ms))
        for there, score in self.redis.zrange(self.keys.urgent, 0, -1, withscores=True):
            self.redis.zrem(self.keys.urgent, there)
            self.redis.zadd(self.keys.urgent, {b"%015d" % (int(there[:15]) - ms) + there[15:]: score})
        for key in (self.keys.scheduled, self.keys.leases, self.keys.dead):
            for member, score in self.redis.zrange(key, 0, -1, withscores=True):
                self.redis.zadd(key, {member: score - ms})
        self._rewrite(self.keys.messages, lambda text: _shift_prefix(text, ms))
        self._rewrite(
            self.keys.states,
            lambda text: _shift(text, (2,), 3, ms) if text[:1] == b"T" else _shift_record(text, ms),
        )
        self._rewrite(self.keys.workers, lambda text: _shift(text, (1,), 2, ms))

    def _rewrite(self, key: str, change: Any) -> None:
        for field, text in self.redis.hgetall(key).items():
            self.redis.hset(key, field, change(text))


def _shift_prefix(text: bytes, ms: int) -> bytes:
    prefix, space, body = text.partition(b" ")
    entry, *terms = prefix.split(b";")
    if terms and terms[0] != b"0":
        terms[0] = _earlier(terms[0], ms)
    return b";".join((_earlier(entry, ms), *terms)) + space + body


def _shift_record(text: bytes, ms: int) -> bytes:
    record = Record.of(text)
    entry = record.entry if record.status == b"I" else _earlier(record.entry, ms)
    lines = [line.split(b",") for line in record.history.split(b";") if line != b"-"]
    history = b";".join(b",".join((event, n, _earlier(at, ms), who)) for event, n, at, who in lines) or b"-"
    return record._replace(at=_earlier(record.at, ms), entry=entry, history=history).text


def _shift(text: bytes, times: tuple[int, ...], fields: int, ms: int) -> bytes:
    """Subtract from the fields that are times; there are `fields` of them before the opaque rest."""
    parts = text.split(b" ", fields)
    for index in times:
        parts[index] = _earlier(parts[index], ms)
    return b" ".join(parts)


def _earlier(time: bytes, ms: int) -> bytes:
    """Subtract from milliseconds, or from a stream entry's id; `-` and 0 are no times and stay."""
    if time in (b"-", b"0"):
        return time
    head, dash, sequence = time.partition(b"-")
    return b"%d" % (int(head) - ms) + dash + sequence


@pytest.fixture
def orders(raw: Raw) -> Orders:
    """The queue `orders` on each server."""
    return Orders(raw)


@pytest.fixture
def orders_real(raw_real: Raw) -> Orders:
    """The queue `orders` on each real server."""
    return Orders(raw_real)
