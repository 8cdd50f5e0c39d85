"""Claiming from a queue partition so that nothing is taken from who works on it, whatever was lost or came late."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from redisq import calls, failpoints
from redisq.calls import Limits
from redisq.connection import AsyncLink
from redisq.errors import RedisQError
from redisq.keys import PartitionKeys
from redisq.model import Claim, Claimed
from redisq.worker.policy import beat_after, hold_after_outage, hold_after_start, patience_with
from redisq.worker.server_time import ServerTime


@dataclass(frozen=True, slots=True)
class Request:
    """One claim to make, and to repeat just so until it is answered; see `calls.claim`."""

    worker: str
    nonce: str
    count: int
    room: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim gave: of its deliveries those that are `held`, until `deadline` by this machine's clock.

    `sent` is when that was asked for, by the monotonic clock.
    """

    claim: Claim
    held: list[Claimed]
    deadline: datetime
    sent: float


class Claimer:
    """Makes claims on one queue partition, one after another.

    Lapsed leases are taken over only when they were seen lapsed for a while (`redisq.worker.server_time`), and not for
    a heartbeat after an outage: their holders are about to renew them. `link` retries nothing: whether a repeated claim
    may take any over is decided anew each time.
    """

    def __init__(self, keys: PartitionKeys, limits: Limits, link: AsyncLink) -> None:
        self._keys = keys
        self._limits = limits
        self._link = link
        self._server_time = ServerTime()
        self.lease = limits.lease_ms / 1000  # seconds; the queue's own, once a claim was answered
        self._held_until = 0.0  # by the monotonic clock

    def start(self) -> None:
        """Take nothing over for a moment: this process may have been started by the end of an outage."""
        self._held_until = time.monotonic() + hold_after_start(self.lease)

    def hold(self, since: float | None = None) -> None:
        """Take nothing over for a heartbeat after an outage that ended now, or was last noticed at `since`."""
        at = time.monotonic() if since is None else since
        self._held_until = max(self._held_until, at + hold_after_outage(self.lease))

    def lapsed_by(self) -> float:
        """Say by when, on the server's clock, a lease must have lapsed that is taken over now; 0 for none."""
        now = time.monotonic()
        seen = self._server_time.seen(patience_with(self.lease), now)
        return seen if now >= self._held_until else 0.0

    def until_reclaim(self, wait: float | None) -> float:
        """Shorten the wait after a claim that was to take nothing over: what has lapsed is due when it may be."""
        left = max(self._held_until - time.monotonic(), patience_with(self.lease))
        return left if wait is None else min(wait, left)

    async def take(self, request: Request, lapsed_by: float, *, repeated: bool) -> Taken:
        """Make a claim and give what it gave that is still held.

        Raises:
            Unavailable: no answer came; the same request again gets the same deliveries.
        """
        make = partial(calls.claim, self._keys, self._limits, request.worker, request.nonce, request.count)
        sent, at = time.monotonic(), datetime.now(UTC)
        claim = await self._link.call(make(lapsed_by=lapsed_by, room=request.room, alone=request.alone))
        now = time.monotonic()
        if self._server_time.learn(claim.time, patience_with(claim.lease), sent, now):
            self._held_until = now + hold_after_outage(claim.lease)
        failpoints.reach("worker.claimed")
        self.lease = claim.lease
        # The answer to a repeat, or one that lay unread while a handler kept the loop, tells of leases that may have
        # lapsed since, and been taken over. Only what can be renewed now may begin.
        deliveries, doubtful, fresh_for = list(claim.deliveries), repeated, beat_after(claim.lease)
        while deliveries and (doubtful or time.monotonic() >= sent + fresh_for):
            sent, at, doubtful, fresh_for = time.monotonic(), datetime.now(UTC), False, 2 * beat_after(claim.lease)
            leases = [(claimed.receipt, b"") for claimed in deliveries]
            outcomes = await self._link.call(calls.renew(self._keys, self._limits, leases))
            held = zip(deliveries, outcomes, strict=True)
            deliveries = [claimed for claimed, outcome in held if not isinstance(outcome, RedisQError)]
        return Taken(claim, deliveries, at + timedelta(seconds=claim.lease), sent)
