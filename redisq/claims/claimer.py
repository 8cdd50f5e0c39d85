"""Claiming from a queue partition so that nothing is taken from who works on it, whatever was lost or came late."""

from __future__ import annotations

import math
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
from redisq.store.call import BATCH, Call, Limits
from redisq.store.keys import PartitionKeys
from redisq.store.portions import Portion

log = logs.logger("redisq.worker")

#: An offered claim's first lease at most, in seconds: so long a worker that vanished without a word keeps a message.
FIRST_LEASE = 5.0
_NONE_YET = 0.001  # seconds since 1970: no lease had lapsed by then, and when the first one does is told
_ANCHORED = 30.0  # seconds: so long two clocks that are slewed, by 500 ppm at most, keep together well enough
_ROUNDED = 0.05  # seconds that they, and rounding, may be apart by then
_TRIES = 8  # of a message that is asked for by itself: a network that loses answers is likelier at first


@dataclass(frozen=True, slots=True)
class Request:
    """One claim to make, and to repeat just so until it is answered; see `store.deliveries.claim`."""

    worker: str
    nonce: str
    count: int
    room: int
    alone: bool
    only_repeat: bool = False  # nothing new is claimed


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
        self._anchor = (-math.inf, 0.0)  # when a claim was asked for, and the server's time in its answer
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
        """Make a claim and return what it gave that is still held.

        Raises:
            Unavailable: no answer came; the same request again gets the same deliveries.
        """
        sent, at = time.monotonic(), datetime.now(UTC)
        claim = await self._claim(request, lapsed_by)
        self.lease, self._anchor = claim.lease, (sent, claim.time)
        self._learn(claim, sent)
        return await self._still_held(claim, sent, at, doubtful=repeated)

    @property
    def may_offer(self) -> bool:
        """Whether a claim may be offered: not where a second lapse is death, nor long after an ordinary claim."""
        return self._limits.max_lost > 2 and time.monotonic() < self._anchor[0] + _ANCHORED

    def offer(self, request: Request) -> Call[Claim]:
        """Return a claim that is made later, when the bell rings: `accept` takes what it gave.

        It takes nothing over, as what is known of lapsed leases grows old meanwhile; and its lease is short until the
        heartbeat renews it, as this worker may be gone by then without anybody knowing.
        """
        make = partial(store.deliveries.claim, self._keys, self._limits, request.worker, request.nonce, request.count)
        return make(lapsed_by=_NONE_YET, room=0, alone=False, first_lease=FIRST_LEASE)

    async def accept(self, claim: Claim, offered: float) -> Taken:
        """Return what an offered claim gave that is still held; see `take`. It was made some time after `offered`."""
        now, at = time.monotonic(), datetime.now(UTC)
        sent, told = self._anchor
        made = max(offered, min(now, sent + claim.time - told) - _ROUNDED)
        leapt = self._learn(claim, offered)  # as after this machine has slept, when its own clock tells nothing either
        if claim.lease < FIRST_LEASE:  # the queue's own was made so short
            self.lease = claim.lease
        return await self._still_held(claim, made, at - timedelta(seconds=now - made), doubtful=leapt)

    def _learn(self, claim: Claim, sent: float) -> bool:
        """Learn what the server's time is; return whether it has leapt."""
        now = time.monotonic()
        leapt = self._server_time.learn(claim.time, patience_with(self.lease), sent, now)
        if leapt:
            self._held_until = now + hold_after_outage(self.lease)
        return leapt

    async def _still_held(self, claim: Claim, sent: float, at: datetime, *, doubtful: bool) -> Taken:
        failpoints.reach("worker.claimed")
        # The answer to a repeat, or one that lay unread while a handler kept the loop, tells of leases that may have
        # lapsed since, and been taken over. Only what can be renewed now may begin.
        deliveries, fresh_for = list(claim.deliveries), beat_after(claim.lease)
        while deliveries and (doubtful or time.monotonic() >= sent + fresh_for):
            sent, at, doubtful, fresh_for = time.monotonic(), datetime.now(UTC), False, 2 * beat_after(self.lease)
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
            skip = parts.at if parts.at or request.only_repeat else None
            try:
                claim = await self._link.call(make(count, room=request.room, alone=request.alone, skip=skip))
            except Indeterminate:
                parts.lost += 1
                raise
            self._portion.passed()
            parts.given.append(claim)
            parts.at, parts.lost = parts.at + count, 0
            if not claim.rest:
                self._parts = _Parts("")  # the same request again is asked from its beginning
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
