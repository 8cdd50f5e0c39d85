"""Claiming from a queue partition so that nothing is taken from who works on it, whatever was lost or came late."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from redisq import store
from redisq.claims.policy import beat_after, hold_after_outage, hold_after_start, patience_with
from redisq.claims.server_time import ServerTime
from redisq.errors import Indeterminate, RedisQError
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claim, Claimed
from redisq.runtime import failpoints, logs
from redisq.store.call import BATCH, Limits
from redisq.store.keys import PartitionKeys
from redisq.store.portions import Portion

log = logs.logger("redisq.worker")

_TRIES = 8  # of a message that is asked for by itself: a network that loses answers is likelier at first


@dataclass(frozen=True, slots=True)
class Request:
    """One claim to make, and to repeat just so until it is answered; see `store.deliveries.claim`."""

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


@dataclass(slots=True)
class _Parts:
    """What one claim has given so far: in several replies, where one with all of it does not get through.

    `at` is how many of its deliveries were asked for with success, or left out; `lost` how many answers in a row were
    lost since.
    """

    nonce: str
    given: list[Claim] = field(default_factory=list)
    at: int = 0
    lost: int = 0

    def whole(self) -> Claim:
        """Return the parts as the one claim they are."""
        if len(self.given) == 1:
            return self.given[0]
        last = self.given[-1]
        return replace(
            last,
            deliveries=[claimed for part in self.given for claimed in part.deliveries],
            suspects=sum(part.suspects for part in self.given),
            isolated=any(part.isolated for part in self.given),
        )


class Claimer:
    """Makes claims on one queue partition, one after another.

    Lapsed leases are taken over only when they were seen lapsed for a while (`redisq.claims.server_time`), and not for
    a heartbeat after an outage: their holders are about to renew them. `link` retries nothing: whether a repeated claim
    may take any over is decided anew each time.

    When the answer to a claim is lost again and again although the server answers, it is too large for the server to
    send: then claims ask for less. What the first one took is got in parts, as it is remembered.
    """

    def __init__(self, keys: PartitionKeys, limits: Limits, link: AsyncLink) -> None:
        self._keys = keys
        self._limits = limits
        self._link = link
        self._server_time = ServerTime()
        self.lease = limits.lease_ms / 1000  # seconds; the queue's own, once a claim was answered
        self._held_until = 0.0  # by the monotonic clock
        self._portion = Portion(BATCH)
        self._parts = _Parts("")

    def start(self) -> None:
        """Take nothing over for a moment: this process may have been started by the end of an outage."""
        self._held_until = time.monotonic() + hold_after_start(self.lease)

    def hold(self, since: float | None = None) -> None:
        """Take nothing over for a heartbeat after an outage that ended now, or was last noticed at `since`."""
        at = time.monotonic() if since is None else since
        self._held_until = max(self._held_until, at + hold_after_outage(self.lease))

    def lapsed_by(self) -> float:
        """Return by when, on the server's clock, a lease must have lapsed that is taken over now; 0 for none."""
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
        sent, at = time.monotonic(), datetime.now(UTC)
        claim = await self._claim(request, lapsed_by)
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
            outcomes = await self._link.call(store.deliveries.renew(self._keys, self._limits, leases))
            held = zip(deliveries, outcomes, strict=True)
            deliveries = [claimed for claimed, outcome in held if not isinstance(outcome, RedisQError)]
        return Taken(claim, deliveries, at + timedelta(seconds=claim.lease), sent)

    async def _claim(self, request: Request, lapsed_by: float) -> Claim:
        """Make a claim, or go on with one whose answer was lost, until all that it took is here."""
        if self._parts.nonce != request.nonce:
            self._parts = _Parts(request.nonce)
        parts = self._parts
        if parts.lost:
            await self._ask_for_less(parts, min(request.count, self._portion.most))
        make = partial(
            store.deliveries.claim, self._keys, self._limits, request.worker, request.nonce, lapsed_by=lapsed_by
        )
        while True:
            count = min(request.count, self._portion.most)
            try:
                claim = await self._link.call(make(count, room=request.room, alone=request.alone, skip=parts.at))
            except Indeterminate:
                parts.lost += 1
                raise
            self._portion.passed()
            parts.given.append(claim)
            parts.at, parts.lost = parts.at + count, 0
            if not claim.rest:
                return parts.whole()

    async def _ask_for_less(self, parts: _Parts, asked: int) -> None:
        """Find out whether it was for its size that an answer was lost: a small one comes, and it was lost again.

        Raises:
            Unavailable: it was not, or cannot be known yet: the server does not answer at all.
        """
        await self._link.call(store.messages.ended(self._keys))
        queue = self._keys.queue
        if parts.lost > 1 and asked > 1:
            self._portion.cut(asked)
            parts.lost = 1
            text = (
                "queue %s: answers to claims do not get through, so that claims ask for at most %d messages from now on"
            )
            log.warning(text, queue, self._portion.most, extra={"queue": queue})
        elif parts.lost >= _TRIES:
            text = (
                "queue %s: a message is too large for Redis to send (client-output-buffer-limit): it is left to its "
                "lease, and dead after some times. Raise that limit, or lower the queue's max_bytes"
            )
            log.error(text, queue, extra={"queue": queue})
            parts.at, parts.lost = parts.at + 1, 0
