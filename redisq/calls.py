"""Operations as values: each function builds the `Call` of one script and knows how to read its reply. Pure.

The only place where seconds become milliseconds. A batch's reply is a list with one outcome per message: its value, or
the RedisQError that refused it, so that one bad message spoils no other.
"""

from __future__ import annotations

import base64
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from redisq import codec, scripts
from redisq.errors import (
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    RedisQError,
)
from redisq.keys import PartitionKeys, id_text
from redisq.model import Claim, Claimed, Failure, Message, QueueStats, Receipt, Status

T = TypeVar("T")
Outcome: TypeAlias = T | RedisQError
Argument = bytes | str | int

#: Messages per call at most: Lua's unpack and the server's latency bound it, and every script's loops.
BATCH = 500
#: A worker's last claim is remembered this long; a repeat comes within seconds, or after an outage within minutes.
CLAIM_MEMORY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One round trip: a script, its keys and arguments, and how to decode the reply. Safe to send again."""

    script: scripts.Script
    keys: tuple[str, ...]
    args: Sequence[Argument]
    decode: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Limits:
    """The client's defaults for what a queue may define itself; times in milliseconds."""

    lease_ms: int
    retention_ms: int
    window_ms: int
    max_attempts: int
    backoff_base_ms: int
    backoff_cap_ms: int
    max_bytes: int
    max_length: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to queue: 16-byte id, digest and bytes of its encoded body, delay in seconds."""

    id: bytes
    digest: bytes
    body: bytes
    delay: float = 0.0


def milliseconds(seconds: float) -> int:
    """Convert seconds, rounded up so that nothing is due early (but 0.1 s stays 100 ms)."""
    return math.ceil(round(seconds * 1000, 5))  # a year in milliseconds as a float is off by up to 4e-6


def new_nonce() -> str:
    """Make 72 random bits as 12 characters, for a claim's receipts or a delete's request."""
    return base64.urlsafe_b64encode(os.urandom(9)).decode("ascii")


def _call(name: str, keys: PartitionKeys, args: Sequence[Argument], decode: Callable[[Any], T]) -> Call[T]:
    script = scripts.load(name)
    return Call(script, tuple([getattr(keys, key) for key in script.keys]), args, decode)


def queue(keys: PartitionKeys, limits: Limits, messages: Sequence[NewMessage]) -> Call[list[Outcome[None]]]:
    """Queue up to BATCH messages; a repeat with the same id and body succeeds and changes nothing."""
    args: list[Argument] = [limits.max_length, limits.max_bytes, limits.retention_ms, limits.window_ms]
    for message in messages:
        delay_ms = milliseconds(message.delay) if message.delay else 0
        args += (message.id, message.digest, message.body, delay_ms)
    return _call("queue", keys, args, partial(_outcomes, _nothing))


def get(keys: PartitionKeys, ids: Sequence[bytes]) -> Call[list[Outcome[Message]]]:
    """Look up to BATCH messages up."""
    return _call("get", keys, ids, partial(_messages, keys.queue, ids))


def delete(keys: PartitionKeys, limits: Limits, ids: Sequence[bytes], nonce: str) -> Call[list[Outcome[None]]]:
    """Delete up to BATCH messages; the same call sent again finds its own deletions and succeeds."""
    args: list[Argument] = [limits.retention_ms, limits.window_ms, nonce, *ids]
    return _call("delete", keys, args, partial(_outcomes, _nothing))


def claim(
    keys: PartitionKeys, limits: Limits, worker: str, nonce: str, count: int, *, reclaim: bool = True
) -> Call[Claim]:
    """Claim up to `count` (<= BATCH) messages; the same call sent again gets the same deliveries."""
    defaults = (limits.lease_ms, limits.max_attempts, limits.retention_ms, limits.window_ms)
    args = (*defaults, worker, nonce, count, int(reclaim))
    return _call("claim", keys, args, partial(_claim, nonce))


def complete(
    keys: PartitionKeys, limits: Limits, results: Sequence[tuple[Receipt, bytes]]
) -> Call[list[Outcome[None]]]:
    """Complete up to BATCH deliveries with their encoded results."""
    args: list[Argument] = [limits.max_bytes, limits.retention_ms, limits.window_ms]
    for receipt, result in results:
        args += (receipt.id, receipt.attempt, receipt.nonce, result)
    return _call("complete", keys, args, partial(_outcomes, _nothing))


def fail(keys: PartitionKeys, limits: Limits, failures: Sequence[Failure]) -> Call[list[Outcome[float | None]]]:
    """Fail up to BATCH deliveries. Each outcome is the delay in seconds until the next attempt, None for no more."""
    args: list[Argument] = [
        limits.max_attempts,
        limits.backoff_base_ms,
        limits.backoff_cap_ms,
        limits.retention_ms,
        limits.window_ms,
    ]
    for failure in failures:
        delay_ms = -2 if failure.final else -1 if failure.delay is None else milliseconds(failure.delay)
        jitter = random.randrange(1_000_001)
        receipt = failure.receipt
        args += (receipt.id, receipt.attempt, receipt.nonce, delay_ms, jitter, failure.cause, failure.error)
    return _call("fail", keys, args, partial(_outcomes, _retry_delay))


def renew(keys: PartitionKeys, limits: Limits, leases: Sequence[tuple[Receipt, bytes]]) -> Call[list[Outcome[float]]]:
    """Renew up to BATCH leases, each with its encoded progress or b"". Each outcome is the lease in seconds."""
    args: list[Argument] = [limits.lease_ms]
    for receipt, progress in leases:
        args += (receipt.id, receipt.attempt, receipt.nonce, progress)
    return _call("renew", keys, args, partial(_outcomes, _seconds))


def release(keys: PartitionKeys, limits: Limits, receipts: Sequence[Receipt]) -> Call[list[Outcome[None]]]:
    """Hand up to BATCH deliveries back, uncharged."""
    args: list[Argument] = [limits.retention_ms, limits.window_ms]
    for receipt in receipts:
        args += (receipt.id, receipt.attempt, receipt.nonce)
    return _call("release", keys, args, partial(_outcomes, _nothing))


def sweep(keys: PartitionKeys, limits: Limits) -> Call[tuple[int, bool]]:
    """Forget up to BATCH of each kind of leftover. Gives how many went, and whether more may be due."""
    args = (limits.retention_ms, limits.window_ms, CLAIM_MEMORY_MS, BATCH)
    return _call("sweep", keys, args, lambda reply: (reply[0], reply[1] == 1))


def stats(keys: PartitionKeys) -> Call[QueueStats]:
    """Count what one partition holds, and its running totals."""
    return _call("stats", keys, (), partial(_stats, keys.queue))


def define(keys: PartitionKeys, changes: Sequence[tuple[str, str]]) -> Call[dict[str, str]]:
    """Change a definition: names and stored values, "" to go back to a default. Gives the whole definition."""
    args = [part for change in changes for part in change]
    return _call("define", keys, args, _pairs)


def purge(keys: PartitionKeys) -> Call[int]:
    """Remove up to BATCH waiting messages. Gives how many: fewer than BATCH when none is left."""
    return _call("purge", keys, (BATCH,), int)


def drop(keys: PartitionKeys) -> Call[None]:
    """Remove a queue with all that it holds."""
    return _call("drop", keys, (), _nothing)


def unregister(queues: str, queue_name: str) -> Call[None]:
    """Take a queue off the registry."""
    return Call(scripts.load("unregister"), (queues,), (queue_name,), _nothing)


def register(queues: str, queue_name: str, partitions: int) -> Call[int]:
    """Enter a queue in the registry. Gives its number of partitions."""
    return Call(scripts.load("register"), (queues,), (queue_name, partitions), int)


def registry(queues: str) -> Call[dict[str, int]]:
    """List all queues with their numbers of partitions."""
    return Call(
        scripts.load("registry"), (queues,), (), lambda reply: {name: int(n) for name, n in _pairs(reply).items()}
    )


def leave(keys: PartitionKeys, worker: str) -> Call[None]:
    """Forget a worker that has ended."""
    return _call("leave", keys, (worker,), _nothing)


# --- Replies ----------------------------------------------------------------------------------------------------------


def _nothing(_reply: Any) -> None:
    return None


def _seconds(reply: int) -> float:
    return reply / 1000


def _retry_delay(reply: int) -> float | None:
    return None if reply < 0 else reply / 1000


def _outcomes(decode: Callable[[Any], T], reply: Sequence[Any]) -> list[Outcome[T]]:
    return [_refusal(item) if isinstance(item, list) else decode(item) for item in reply]


def _refusal(words: Sequence[bytes]) -> RedisQError:
    match words[0]:
        case b"LEASE_LOST":
            return LeaseLost()
        case b"MESSAGE_NOT_FOUND":
            return MessageNotFound()
        case b"MESSAGE_CONFLICT":
            return MessageConflict()
        case b"MESSAGE_TOO_LARGE":
            return MessageTooLarge(
                f"The message is larger than the queue's max_bytes, {int(words[1]):,} bytes. Send a reference to its "
                "data, or raise max_bytes."
            )
        case b"QUEUE_FULL":
            return QueueFull(
                f"The queue is at its max_length of {int(words[1]):,} waiting messages. Queue again later."
            )
        case word:
            return RedisQError(f"A script answered with an unknown word, {word!r}: is a newer redisq at work?")


def _pairs(reply: Sequence[bytes]) -> dict[str, str]:
    return {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}


def _stats(queue_name: str, reply: Sequence[Any]) -> QueueStats:
    ready, scheduled, in_progress, finished, dead, age, counters, _ = reply
    totals = {name: int(value) for name, value in _pairs(counters).items()}
    return QueueStats(
        queue=queue_name,
        ready=ready,
        scheduled=scheduled,
        in_progress=in_progress,
        finished=finished,
        dead=dead,
        oldest_age=None if age < 0 else age / 1000,
        queued=totals.get("queued", 0),
        completed=totals.get("completed", 0),
        failed=totals.get("failed", 0),
        lost=totals.get("lost", 0),
        released=totals.get("released", 0),
        died=totals.get("dead", 0),
        unreadable=totals.get("unreadable", 0),
        deleted=totals.get("deleted", 0),
    )


def _claim(nonce: str, reply: Sequence[Any]) -> Claim:
    lease, wait = reply[0] / 1000, reply[1]
    deliveries = [
        Claimed(Receipt(reply[i], int(reply[i + 1]), nonce), _body_of(reply[i + 2])) for i in range(2, len(reply), 3)
    ]
    return Claim(deliveries, lease, None if wait < 0 else wait / 1000)


def _body_of(stored: bytes) -> bytes:
    """Cut the entry id, a space and the 8-byte digest off a stored message; nothing is left of a damaged one."""
    return stored.partition(b" ")[2][8:]


# --- Messages ---------------------------------------------------------------------------------------------------------


def _messages(queue_name: str, ids: Sequence[bytes], reply: Sequence[Any]) -> list[Outcome[Message]]:
    outcomes: list[Outcome[Message]] = []
    for message, parts in zip(ids, reply, strict=True):
        try:
            outcomes.append(_message(queue_name, message, *parts))
        except RedisQError as error:
            outcomes.append(error)
    return outcomes


def _message(
    queue_name: str, message: bytes, stored: bytes | None, record: bytes | None, due: bytes | float | None
) -> Message:
    fields = record.split(b" ", 9) if record is not None and not record.startswith(b"T ") else None
    if stored is None and (fields is None or fields[0] != b"E"):
        raise MessageNotFound
    request, queued_at = None, None
    if stored is not None:
        request, _ = codec.decode_request(_body_of(stored))
        queued_at = _instant(stored[: stored.index(b" ")])
    if fields is None:
        available = _instant(due) if due is not None else queued_at
        name = id_text(message)
        return Message(name, queue_name, Status.PENDING, request, queued_at=queued_at, available_at=available)
    return _recorded(queue_name, id_text(message), request, queued_at, fields)


def _recorded(queue_name: str, name: str, request: Any, queued_at: datetime | None, fields: Sequence[bytes]) -> Message:
    status, attempts, _, _, lost, _, cause, at, entry, payload = fields
    value = codec.decode(payload) if payload else None
    make = partial(Message, name, queue_name, request=request, attempts=int(attempts), queued_at=queued_at)
    match status:
        case b"P":
            error = _error(value, cause, lost) if value is not None else None
            return make(Status.PENDING, error=error, available_at=_instant(at))
        case b"I":
            return make(Status.INPROGRESS, progress=value, started_at=_instant(at))
        case b"C":
            return make(Status.COMPLETE, result=value, started_at=_instant(at), finished_at=_instant(entry))
        case _:
            error = _error(value, cause, lost)
            return make(Status.ERROR, error=error, started_at=_instant(at), finished_at=_instant(entry))


def _error(value: Any, cause: bytes, lost: bytes) -> dict[str, str]:
    reason = cause.decode()
    if isinstance(value, dict):
        return {"type": str(value.get("type")), "message": str(value.get("message")), "reason": reason}
    if reason == "unreadable":
        return {"type": "Unreadable", "message": "The message's body is gone from Redis.", "reason": reason}
    text = f"Its lease lapsed {int(lost)} times: the worker died, hung or lost Redis each time."
    return {"type": "LeaseLost", "message": text, "reason": reason}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _instant(milliseconds_or_entry: bytes | float) -> datetime:
    """Read milliseconds since 1970, as a number or at the head of a stream's entry id."""
    if isinstance(milliseconds_or_entry, bytes):
        milliseconds_or_entry = float(milliseconds_or_entry.partition(b"-")[0])
    return _EPOCH + timedelta(milliseconds=milliseconds_or_entry)
