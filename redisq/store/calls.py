"""Operations as values: each function builds the `Call` of one script, with how to read its reply. Pure.

The only place where seconds become milliseconds. A batch's reply is a list with one outcome per message: its value, or
the RedisQError that refused it, so that one bad message spoils no other.
"""

from __future__ import annotations

import base64
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from redisq.model.application import Records
from redisq.model.audit import Judgement, Look, Survey
from redisq.model.delivery import Claim, Failure, Receipt
from redisq.model.listing import DeadLetter, DeadPage, Page
from redisq.model.message import Message
from redisq.model.queue import QueueStats
from redisq.store import replies, scripts
from redisq.store.keys import PartitionKeys
from redisq.store.replies import Outcome

T = TypeVar("T")
Argument = bytes | str | int

#: Messages per call at most: Lua's unpack and the server's latency bound it, and every script's loops.
BATCH = 500
#: Messages in one reply of many, each of which may take a megabyte and more.
LOOKED_UP = 100
#: Of bodies that one claim hands out, about: while the server copies them nobody else is served.
CLAIM_BYTES = 8 * 1024 * 1024
#: A worker's last claim is remembered this long; a repeat comes within seconds, or after an outage within minutes.
CLAIM_MEMORY_MS = 3_600_000
_FAR_AHEAD = 1e11  # seconds since 1970


class Call(NamedTuple, Generic[T]):
    """One round trip: a script, its keys and arguments, and how to decode the reply. Safe to send again.

    A call of a client that has a `size` may travel together with others of the same script and keys: after the first
    `head` arguments, which say the same in each, its messages follow with `size` arguments each, and its reply is a
    list with one outcome per message. `most` messages may travel together.

    `parts` is into how many calls its caller can divide it: when there are several, an answer that is lost again and
    again is reported before the time for retries is over, as it may have been too large for the server to send.
    """

    script: scripts.Script
    keys: tuple[str, ...]
    args: Sequence[Argument]
    decode: Callable[[Any], T]
    head: int = 0
    size: int = 0
    most: int = BATCH
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The client's defaults for what a queue may define itself; times in milliseconds."""

    lease_ms: int
    retention_ms: int
    window_ms: int
    dead_ms: int
    max_attempts: int
    max_lost: int
    backoff_base_ms: int
    backoff_cap_ms: int
    max_bytes: int
    max_length: int


class NewMessage(NamedTuple):
    """A message to queue: 16-byte id, digest and bytes of its encoded body, delay in seconds.

    `expires_in` is in seconds, too: a message that no worker has got by then is dead. None is never. `priority` is 0 to
    9, the larger first. A tuple, as one is made for each message: a frozen dataclass takes four times as long.
    """

    id: bytes
    digest: bytes
    body: bytes
    delay: float = 0.0
    expires_in: float | None = None
    priority: int = 0


#: The same without the names, which take as long to give as a small message to encode.
Plain = tuple[bytes, bytes, bytes, float, float | None, int]


def milliseconds(seconds: float) -> int:
    """Convert seconds, rounded up so that nothing is due early (but 0.1 s stays 100 ms)."""
    return math.ceil(round(seconds * 1000, 5))  # a year in milliseconds as a float is off by up to 4e-6


def new_nonce() -> str:
    """Make 72 random bits as 12 characters, for a claim's receipts or a delete's request."""
    return base64.urlsafe_b64encode(os.urandom(9)).decode("ascii")


def _done(reply: Sequence[Any]) -> list[Outcome[None]]:
    return replies.outcomes(replies.nothing, reply)


def _periods(limits: Limits) -> tuple[int, int, int]:
    return limits.retention_ms, limits.window_ms, limits.dead_ms


def _call(
    name: str,
    keys: PartitionKeys,
    args: Sequence[Argument],
    decode: Callable[[Any], T],
    head: int = 0,
    size: int = 0,
    most: int = BATCH,
    parts: int = 0,
) -> Call[T]:
    script, keys_of = _script(name)
    return Call(script, keys_of(keys), args, decode, head, size, most, parts)


@cache
def _script(name: str) -> tuple[scripts.Script, Callable[[PartitionKeys], tuple[str, ...]]]:
    """Give a script and what picks its keys, of which there are several."""
    script = scripts.load(name)
    return script, attrgetter(*script.keys)


def queue(keys: PartitionKeys, limits: Limits, messages: Iterable[NewMessage | Plain]) -> Call[list[Outcome[None]]]:
    """Queue up to BATCH messages; a repeat with the same id and body succeeds and changes nothing."""
    return _call("queue", keys, _queue_args(limits, messages), _done, head=5, size=3)


def put(keys: PartitionKeys, limits: Limits, message: NewMessage) -> Call[list[Outcome[bool]]]:
    """Queue one message, as `queue` does. The only outcome says whether it is new: False for a repeat."""
    decode = partial(replies.outcomes, replies.is_new)
    return _call("queue", keys, _queue_args(limits, (message,)), decode, head=5, size=3)


def _queue_args(limits: Limits, messages: Iterable[NewMessage | Plain]) -> list[Argument]:
    args: list[Argument] = [limits.max_length, limits.max_bytes, *_periods(limits)]
    for message in messages:
        id, digest, body, delay, expires_in, priority = message
        terms = ""
        if delay or expires_in or priority:
            terms = f"{milliseconds(delay)} {milliseconds(expires_in or 0)} {priority}"
        args += (id, digest + body, terms)
    return args


def get(keys: PartitionKeys, ids: Sequence[bytes]) -> Call[list[Outcome[Message]]]:
    """Look up to BATCH messages up."""
    decode = partial(replies.messages, keys.queue, ids)
    return _call("get", keys, ids, decode, size=1, most=LOOKED_UP, parts=len(ids))


def ended(keys: PartitionKeys) -> Call[bytes | None]:
    """Ask how much has ended so far: what is the same as before while no message ends; None when that is not known."""
    return Call(scripts.load("ended"), (keys.counters,), (), lambda reply: reply)


def delete(
    keys: PartitionKeys, limits: Limits, ids: Sequence[bytes], nonce: str, *, letters_only: bool = False
) -> Call[list[Outcome[None]]]:
    """Delete up to BATCH messages; the same call sent again finds its own deletions and succeeds."""
    args: list[Argument] = [*_periods(limits), nonce, int(letters_only), *ids]
    return _call("delete", keys, args, _done, head=5, size=0 if letters_only else 1)


def claim(
    keys: PartitionKeys,
    limits: Limits,
    worker: str,
    nonce: str,
    count: int,
    *,
    lapsed_by: float = math.inf,
    room: int = BATCH,
    alone: bool = True,
    skip: int = 0,
) -> Call[Claim]:
    """Claim up to `count` (<= BATCH) messages; the same call sent again gets the same deliveries.

    A repeat with a smaller `count` gets so many of them, those after the first `skip`.

    It gives fewer when their bodies come to more than about CLAIM_BYTES together, but one at least.
    `room` is how many suspects more the worker may hold, `alone` whether it holds none; see `redisq.claims.suspects`.
    Of lapsed leases it takes over those that had lapsed by `lapsed_by`, a time of the server's in seconds; 0 is none.
    """
    defaults = (limits.lease_ms, limits.max_lost, *_periods(limits))
    lapsed_ms = round(min(lapsed_by, _FAR_AHEAD) * 1000)
    args: list[Argument] = [*defaults, worker, nonce, count, lapsed_ms, room, int(alone), CLAIM_BYTES]
    if skip:
        args.append(skip)
    return _call("claim", keys, tuple(args), partial(replies.claim, nonce))


def complete(
    keys: PartitionKeys, limits: Limits, results: Sequence[tuple[Receipt, bytes]]
) -> Call[list[Outcome[None]]]:
    """Complete up to BATCH deliveries with their encoded results."""
    args: list[Argument] = [limits.max_bytes, *_periods(limits)]
    for receipt, result in results:
        args += (receipt.id, receipt.attempt, receipt.nonce, result)
    return _call("complete", keys, args, _done)


def fail(keys: PartitionKeys, limits: Limits, failures: Sequence[Failure]) -> Call[list[Outcome[float | None]]]:
    """Fail up to BATCH deliveries. Each outcome is the delay in seconds until the next attempt, None for no more."""
    args: list[Argument] = [
        limits.max_attempts,
        limits.backoff_base_ms,
        limits.backoff_cap_ms,
        *_periods(limits),
    ]
    for failure in failures:
        delay_ms = -2 if failure.final else -1 if failure.delay is None else milliseconds(failure.delay)
        jitter = random.randrange(1_000_001)
        receipt = failure.receipt
        args += (receipt.id, receipt.attempt, receipt.nonce, delay_ms, jitter, failure.cause, failure.error)
    return _call("fail", keys, args, partial(replies.outcomes, replies.retry_delay))


def renew(keys: PartitionKeys, limits: Limits, leases: Sequence[tuple[Receipt, bytes]]) -> Call[list[Outcome[float]]]:
    """Renew up to BATCH leases, each with its encoded progress or b"". Each outcome is the lease in seconds."""
    args: list[Argument] = [limits.lease_ms, *_periods(limits)]
    for receipt, progress in leases:
        args += (receipt.id, receipt.attempt, receipt.nonce, progress)
    return _call("renew", keys, args, partial(replies.outcomes, replies.seconds))


def release(keys: PartitionKeys, limits: Limits, receipts: Sequence[Receipt]) -> Call[list[Outcome[None]]]:
    """Hand up to BATCH deliveries back, uncharged."""
    args: list[Argument] = [*_periods(limits)]
    for receipt in receipts:
        args += (receipt.id, receipt.attempt, receipt.nonce)
    return _call("release", keys, args, _done)


def sweep(keys: PartitionKeys, limits: Limits) -> Call[tuple[int, bool, float]]:
    """Forget up to BATCH of each kind of leftover.

    Gives how many went, whether more may be due, and in how many seconds the next can be.
    """
    args = (*_periods(limits), CLAIM_MEMORY_MS, BATCH)
    return _call("sweep", keys, args, lambda reply: (reply[0], reply[1] == 1, reply[2] / 1000))


def stats(keys: PartitionKeys) -> Call[QueueStats]:
    """Count what one partition holds, and its running totals."""
    return _call("stats", keys, (), partial(replies.stats, keys.queue))


def define(keys: PartitionKeys, limits: Limits, changes: Sequence[tuple[str, str]]) -> Call[dict[str, str]]:
    """Change a definition: names and stored values, "" to go back to a default. Gives the whole definition."""
    args: list[Argument] = [*_periods(limits), *(part for change in changes for part in change)]
    return _call("define", keys, args, replies.pairs)


def schema(keys: PartitionKeys) -> Call[str | None]:
    """Read the schema of a queue's definition, as it is stored."""
    return Call(scripts.load("schema"), (keys.config,), (), replies.text)


def purge(keys: PartitionKeys, limits: Limits) -> Call[int]:
    """Remove up to BATCH waiting messages. Gives how many: fewer than BATCH when none is left."""
    return _call("purge", keys, (*_periods(limits), BATCH), int)


def drop(keys: PartitionKeys) -> Call[None]:
    """Remove a queue with all that it holds."""
    return _call("drop", keys, (), replies.nothing)


def dead(keys: PartitionKeys, page: DeadPage) -> Call[list[DeadLetter]]:
    """List up to BATCH dead letters, oldest first."""
    max_age = -1 if page.max_age is None else milliseconds(page.max_age)
    min_age = math.floor(page.min_age * 1000)
    args = (page.start, page.skip, min_age, max_age, page.limit, int(page.bodies))
    return _call("dead", keys, args, partial(replies.dead_letters, keys.queue), parts=page.limit)


def page(keys: PartitionKeys, structure: str, cursor: str, limit: int, short: int) -> Call[Page]:
    """List up to `limit` (<= BATCH) messages of a structure, with bodies and records of up to `short` bytes."""
    return _call("page", keys, (structure, cursor, limit, short), replies.page, parts=limit)


def redrive(keys: PartitionKeys, limits: Limits, who: str, ids: Sequence[bytes]) -> Call[list[Outcome[None]]]:
    """Queue up to BATCH dead letters anew; a repeat succeeds and changes nothing. `who` goes into their history."""
    return _call("redrive", keys, (*_periods(limits), who, *ids), _done)


def unregister(queues: str, queue_name: str) -> Call[None]:
    """Take a queue off the registry."""
    return Call(scripts.load("unregister"), (queues,), (queue_name,), replies.nothing)


def register(queues: str, queue_name: str, partitions: int) -> Call[int]:
    """Enter a queue in the registry. Gives its number of partitions."""
    return Call(scripts.load("register"), (queues,), (queue_name, partitions), int)


def registry(queues: str) -> Call[dict[str, int]]:
    """List all queues with their numbers of partitions."""
    return Call(scripts.load("registry"), (queues,), (), replies.numbers)


def applications(apps: str, generation: bytes | None = None) -> Call[Records | None]:
    """Read the records of all applications; None when they are those of this generation, if one is given."""
    known = new_nonce() if generation is None else generation  # one that could be guessed might be put there
    return Call(scripts.load("applications"), (apps,), (known,), replies.records)


def application(apps: str, name: str, before: bytes, record: str, most: int) -> Call[Outcome[None]]:
    """Write an application's record, if the one there is `before`, b"" for none; a repeat succeeds.

    There may be `most` applications.
    """
    args = (name, before, record, new_nonce(), most)
    return Call(scripts.load("application"), (apps,), args, replies.outcome)


def take(rate: str, interval: float, burst: int, tokens: int) -> Call[tuple[int, float]]:
    """Take up to `tokens` out of a bucket that holds `burst` and gets one each `interval` seconds.

    Gives how many were taken and, when none, in how many seconds there will be one. When the reply is lost and the call
    sent again, those of the first are lost.
    """
    args = (max(1, round(interval * 1_000_000)), burst, tokens)
    return Call(scripts.load("take"), (rate,), args, lambda reply: (reply[0], reply[1] / 1000))


def leave(keys: PartitionKeys, limits: Limits, worker: str) -> Call[None]:
    """Forget a worker that has ended."""
    return _call("leave", keys, (*_periods(limits), worker), replies.nothing)


def survey(keys: PartitionKeys, limits: Limits) -> Call[Survey]:
    """Look at a queue as a whole, for its audit."""
    args = (*_periods(limits), CLAIM_MEMORY_MS)
    return _call("survey", keys, args, partial(replies.survey, scripts.load("survey").keys))


def look(
    keys: PartitionKeys, structure: str, cursor: bytes, count: int, max_bytes: int, slices: int = 1, slice: int = 0
) -> Call[Look]:
    """List a page of about `count` (<= BATCH) entries of a structure: where messages are, or belong, by it.

    It reads about `max_bytes` of bodies or records, but at least one. Of all ids, in `slices`, it tells those of one.
    """
    args = (structure, cursor, count, max_bytes, slices, slice)
    return _call("look", keys, args, replies.look)


def audit(
    keys: PartitionKeys,
    limits: Limits,
    structure: str,
    doubts: Sequence[tuple[bytes, bytes]],
    max_bytes: int,
    *,
    fix: bool = False,
    who: str = "-",
) -> Call[Judgement]:
    """Judge up to BATCH messages in doubt, met in `structure`, and mend with `fix`.

    With an id goes its entry where they were met in a stream, its time for `tombstones` that were not met there, else
    b"". About `max_bytes` of bodies and records are read; what is left then is not judged. When a reply is lost and the
    call sent again, what the first one mended is told by nobody.
    """
    args: list[Argument] = [limits.lease_ms, structure, max_bytes, int(fix), who]
    args += (part for doubt in doubts for part in doubt)
    return _call("audit", keys, args, replies.audit)


def info(queues: str) -> Call[tuple[float, str]]:
    """Ask the server for its time, in seconds since 1970, and what INFO tells of it."""
    return Call(scripts.load("info"), (queues,), (), replies.info)


def scan(queues: str, pattern: str, cursor: bytes) -> Call[tuple[bytes, list[str]]]:
    """Search a page of all keys for names; gives where the next begins (b"0" after the last), and those found."""
    return Call(scripts.load("scan"), (queues,), (pattern, cursor, BATCH), replies.scan)
