"""Deliveries: `claim.lua`, `renew.lua`, `complete.lua`, `fail.lua`, `release.lua`; `sweep.lua`, `leave.lua`. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from redisq.body import codec
from redisq.model.delivery import Claim, Claimed, Failed, Failure, Receipt, Renewal
from redisq.store.call import BATCH, CLAIM_MEMORY_MS, Argument, Call, Limits, call, done, milliseconds, periods
from redisq.store.keys import PartitionKeys
from redisq.store.record import parted, told_text
from redisq.store.reply import Outcome, nothing, outcomes

#: Of bodies that one claim hands out, about: while the server copies them nobody else is served.
CLAIM_BYTES = 8 * 1024 * 1024
_FAR_AHEAD = 1e11  # seconds since 1970


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
    first_lease: float = 0.0,
    skip: int | None = None,
) -> Call[Claim]:
    """Claim up to `count` (<= BATCH) messages; the same call sent again gets the same deliveries.

    A repeat with a smaller `count` gets so many, those after the first `skip`; with that nothing new is claimed.

    It gives fewer when their bodies come to more than about CLAIM_BYTES together, but one at least.
    `room` is how many suspects more the worker may hold, `alone` whether it holds none; see `redisq.claims.suspects`.
    Of lapsed leases it takes over those that had lapsed by `lapsed_by`, a time of the server's in seconds; 0: none.
    `first_lease` in seconds is how long the first lease is at most; a renewal makes it the queue's own. 0: no limit.
    """
    defaults = (limits.lease_ms, limits.max_lost, *periods(limits))
    lapsed_ms = round(min(lapsed_by, _FAR_AHEAD) * 1000)
    args: list[Argument] = [*defaults, worker, nonce, count, lapsed_ms, room, int(alone), CLAIM_BYTES]
    args.append(milliseconds(first_lease))
    if skip is not None:
        args.append(skip)
    return call("claim", keys, tuple(args), partial(_read_claim, nonce))


def _read_claim(nonce: str, reply: Any) -> Claim:
    if isinstance(reply, bytes):
        return _read_ordinary_claim(nonce, reply)
    lease, wait, suspects, isolated, time = reply[0] / 1000, reply[1], reply[2], reply[3] == 1, reply[4] / 1000
    given = zip(reply[6::3], reply[7::3], reply[8::3], strict=True)
    deliveries = [_claimed(nonce, id, attempt, stored) for id, attempt, stored in given]
    rest = max(0, -1 - wait)
    return Claim(deliveries, lease, None if wait < 0 else wait / 1000, suspects, isolated, time, rest, reply[5])


def _read_ordinary_claim(nonce: str, reply: bytes) -> Claim:
    lease, wait, time, max_attempts, message = reply.split(b" ", 4)
    deliveries = [_claimed(nonce, message[:16], b"1", message[16:])] if message else []
    until = None if int(wait) < 0 else int(wait) / 1000
    return Claim(deliveries, int(lease) / 1000, until, 0, False, int(time) / 1000, 0, int(max_attempts))


def _claimed(nonce: str, id: bytes, attempt: bytes, stored: bytes) -> Claimed:
    head, body = parted(stored)
    if attempt == b"1":  # as is usual
        return Claimed(Receipt(id, 1, nonce), body, head)
    number, _, failed = attempt.partition(b",")
    return Claimed(Receipt(id, int(number), nonce), body, head, int(failed or 0))


def complete(
    keys: PartitionKeys, limits: Limits, results: Sequence[tuple[Receipt, bytes]]
) -> Call[list[Outcome[None]]]:
    """Complete up to BATCH deliveries with their encoded results."""
    args: list[Argument] = [limits.max_bytes, *periods(limits)]
    for receipt, result in results:
        args += (receipt.id, receipt.attempt, receipt.nonce, result)
    return call("complete", keys, args, done)


def failure(receipt: Receipt, error: Mapping[str, str], **how: Any) -> Failure:
    """Return a failure with this error, whose type and text the message's history tells; `how` as `Failure` has it."""
    return Failure(receipt, codec.encode(error), told=(error["type"], error["message"]), **how)


def fail(keys: PartitionKeys, limits: Limits, failures: Sequence[Failure]) -> Call[list[Outcome[Failed]]]:
    """Fail up to BATCH deliveries."""
    args: list[Argument] = [
        limits.max_attempts,
        limits.backoff_base_ms,
        limits.backoff_cap_ms,
        *periods(limits),
    ]
    for failure in failures:
        delay_ms = -2 if failure.final else -1 if failure.delay is None else milliseconds(failure.delay)
        jitter = random.randrange(1_000_001)
        receipt = failure.receipt
        args += (receipt.id, receipt.attempt, receipt.nonce, delay_ms, jitter, failure.cause, failure.error)
        args.append(told_text(*failure.told) if failure.told else "")
    return call("fail", keys, args, partial(outcomes, _failed))


def _failed(reply: bytes) -> Failed:
    delay, failures, most = map(int, reply.split())
    return Failed(None if delay < 0 else delay / 1000, failures, most)


def renew(keys: PartitionKeys, limits: Limits, leases: Sequence[tuple[Receipt, bytes]]) -> Call[list[Outcome[Renewal]]]:
    """Renew up to BATCH leases, each with its encoded progress or b""."""
    args: list[Argument] = [limits.lease_ms, *periods(limits)]
    for receipt, progress in leases:
        args += (receipt.id, receipt.attempt, receipt.nonce, progress)
    return call("renew", keys, args, partial(outcomes, _read_renewal))


def _read_renewal(reply: int) -> Renewal:
    return Renewal(abs(reply) / 1000, reply < 0)


def release(keys: PartitionKeys, limits: Limits, receipts: Sequence[Receipt]) -> Call[list[Outcome[None]]]:
    """Hand up to BATCH deliveries back, uncharged."""
    return defer(keys, limits, [(receipt, None) for receipt in receipts])


def defer(
    keys: PartitionKeys, limits: Limits, deferred: Sequence[tuple[Receipt, float | None]]
) -> Call[list[Outcome[None]]]:
    """Hand up to BATCH deliveries back, uncharged, each due after so many seconds; None: as `release` does."""
    args: list[Argument] = [*periods(limits)]
    for receipt, after in deferred:
        args += (receipt.id, receipt.attempt, receipt.nonce, "" if after is None else milliseconds(after))
    return call("release", keys, args, done)


def leave(keys: PartitionKeys, limits: Limits, worker: str) -> Call[None]:
    """Forget a worker that has ended."""
    return call("leave", keys, (*periods(limits), worker), nothing)


def sweep(keys: PartitionKeys, limits: Limits) -> Call[tuple[int, bool, float]]:
    """Forget up to BATCH of each kind of leftover.

    Gives how many went, whether more may be due, and in how many seconds the next can be.
    """
    args = (*periods(limits), CLAIM_MEMORY_MS, BATCH)
    return call("sweep", keys, args, lambda reply: (reply[0], reply[1] == 1, reply[2] / 1000))
