"""The loop that fetches messages for one handler: as many as it has slots free, while there are any."""

from __future__ import annotations

import asyncio
import random
import time
from enum import StrEnum, auto

from redisq.claims.claimer import Claimer, Request
from redisq.claims.doorbell import Doorbell
from redisq.claims.identity import about
from redisq.claims.policy import LONGEST_PAUSE, block_for, pause_after
from redisq.claims.suspects import Suspects
from redisq.errors import Unavailable, UpgradeNeeded
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claim
from redisq.runtime import logs
from redisq.runtime.states import Table, follow
from redisq.store.call import BATCH, Limits, new_nonce
from redisq.store.keys import PartitionKeys
from redisq.worker.burst import Burst
from redisq.worker.deliveries import Deliveries
from redisq.worker.watchdog import Fetches


class State(StrEnum):
    """What a fetcher does."""

    STARTING = auto()
    CLAIMING = auto()
    FULL = auto()
    LISTENING = auto()
    PAUSED = auto()
    DRAINING = auto()
    ENDED = auto()


STARTING, CLAIMING, FULL, LISTENING, PAUSED, DRAINING, ENDED = State

_AT_ANY_TIME = {DRAINING: "stopped", ENDED: "the burst is over"}
TRANSITIONS: Table[State] = {
    STARTING: {CLAIMING: "run", DRAINING: "stopped"},
    CLAIMING: {
        CLAIMING: "more is ready, or may be at the end of a burst",
        FULL: "no slot is free, or it is another queue's turn",
        LISTENING: "nothing is ready",
        PAUSED: "no answer",
        **_AT_ANY_TIME,
    },
    FULL: {CLAIMING: "a slot is free", **_AT_ANY_TIME},
    LISTENING: {
        CLAIMING: "a ring, or it is time",
        LISTENING: "a message came with the ring, and no more is ready",
        PAUSED: "no ring can be heard, or no answer",
        **_AT_ANY_TIME,
    },
    PAUSED: {CLAIMING: "it is time", **_AT_ANY_TIME},
    DRAINING: {ENDED: "what it was at has ended; a claim's messages were handed back"},
    ENDED: {},
}

log = logs.logger("redisq.worker")

_GLANCE = 0.1  # seconds between looks whether other queues of this worker hold all its slots
_LATE = 0.15  # seconds that Redis may end a BLPOP too late (6.2 and 7.0 when idle): what is due is awaited here
_WORTH_AN_OFFER = 1.0  # seconds of waiting
_TOO_LONG = 1.0  # seconds for outcomes to be taken by Redis while other queues wait for this one's turn


class Fetcher:
    """Claims messages while slots are free, and waits while none is or nothing is ready. It is run once.

    With a seat it shares the worker's slots with the fetchers of other queues.
    `claims` is a link that retries nothing: whether a repeated claim may take lapsed leases is decided anew each time.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        keys: PartitionKeys,
        limits: Limits,
        link: AsyncLink,
        claims: AsyncLink,
        worker: str,
        suspects: Suspects,
    ) -> None:
        self._deliveries = deliveries
        self._room = deliveries.room
        self._seat = deliveries.seat
        self._worker = worker
        self._suspects = suspects
        self._about = about(worker, keys.queue)  # for logs
        self._queue = keys.queue
        self._claimer = Claimer(keys, limits, claims)
        self._bell = Doorbell(link, keys, self._about)
        self._burst: Burst | None = None
        self.state = STARTING
        self.failures = 0  # claims in a row without an answer
        self._nonce = new_nonce()
        self._in_doubt = False  # an offered claim may have been made: the next one repeats it
        self._listen_until = 0.0  # by the monotonic clock, while nothing is ready
        self._stopped = asyncio.Event()  # ends a pause
        self.fetches = Fetches()

    def _enter(self, state: State) -> None:
        self.state = follow(TRANSITIONS, self.state, state)

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs that may still bring an outcome, and none waits to be sent."""
        return self._deliveries.is_idle

    async def run(self, burst: Burst | None) -> None:
        """Fetch until stopped, or until the burst is over."""
        self._burst = self._deliveries.burst = burst
        self._claimer.start()
        steps = {
            CLAIMING: self._claim,
            FULL: self._wait_for_slots,
            LISTENING: self._listen,
            PAUSED: self._pause,
        }
        state = CLAIMING
        while not (self._stopped.is_set() or (burst is not None and burst.is_over)):
            self._enter(state)
            state = await steps[state]()
        if self._in_doubt:
            await self._hand_back()
        self._enter(ENDED)
        self.fetches.not_wanted()

    def look(self) -> None:
        """Claim again at once, whatever is waited for; see `Burst`."""
        self._room.set()
        self._bell.hush()

    def stop(self) -> None:
        """Claim no more. A claim under way is awaited."""
        if self.state not in (DRAINING, ENDED):
            self._enter(DRAINING)
        self._stopped.set()
        self.fetches.not_wanted()
        self.look()

    async def close(self) -> None:
        """Close the connection of the bell."""
        await self._bell.close()

    # --- One step in each state; it returns the next ---

    async def _claim(self) -> State:
        count = self._deliveries.claimable
        if count and self._seat is not None and not self.failures:
            count = self._seat.take(count)
        if count == 0:
            return FULL
        lapsed_by = 0.0 if self.failures else self._lapsed_by()
        asked = 0 if self._burst is None else self._burst.asks(self)
        try:
            claim = await self._take(count, lapsed_by)
        except Unavailable as error:
            return self._went_unanswered(error)
        self._was_answered(claim)
        if claim.wait == 0:
            return CLAIMING
        burst = self._burst
        if burst is not None and not claim.deliveries and (burst.found_nothing(self, asked) or burst.is_over):
            return CLAIMING
        return self._found_nothing_more(claim.wait if lapsed_by else self._until_reclaim(claim.wait))

    async def _wait_for_slots(self) -> State:
        """Wait until it may be possible to claim; meanwhile rings are for other workers."""
        self._room.clear()
        self.fetches.not_wanted()
        await self._bell.cover()
        try:
            async with asyncio.timeout(None if self._seat is None else _TOO_LONG):
                await self._room.wait()
        except TimeoutError:
            if self._seat is not None and self._deliveries.is_held_up:
                self._seat.rest()  # its outcomes are not taken: other queues need not wait for that
        if self.state is FULL:
            self.fetches.succeeded()
        await asyncio.sleep(0)  # let others that return in this turn free their slots, too
        return CLAIMING

    async def _listen(self) -> State:
        """Wait for a ring, or until the next message is due; not when all slots are taken: then a slot is awaited."""
        while self.state is LISTENING and (count := self._deliveries.claimable):
            left = max(0.0, self._listen_until - time.monotonic())
            self.fetches.succeeded(left)
            if left > _WORTH_AN_OFFER and self._may_offer():
                return await self._offer(count, left - _LATE)
            if await self._bell.rings(left if self._seat is None else min(left, _GLANCE)):
                return PAUSED if self._bell.broken else CLAIMING
            if time.monotonic() >= self._listen_until or (self._seat is not None and self._seat.is_crowded_out()):
                break
        return CLAIMING

    def _may_offer(self) -> bool:
        """Return whether a claim may wait at the server: not of slots that are other queues' too, nor in a burst."""
        alone = self._seat is None and self._burst is None
        return alone and self._claimer.may_offer and not self._bell.is_listening

    async def _offer(self, count: int, seconds: float) -> State:
        """Wait for a ring with a claim behind it, in one write: the message comes with the ring."""
        offered, self._in_doubt = time.monotonic(), True
        request = Request(self._worker, self._nonce, count, 0, False)
        claim = await self._bell.claims(seconds, self._claimer.offer(request))
        if claim is None:
            return PAUSED if self._bell.broken else CLAIMING
        try:
            taken = await self._claimer.accept(claim, offered)
        except Unavailable as error:  # what came late could not be renewed
            return self._went_unanswered(error)
        self._deliveries.renew_within(self._claimer.lease)
        self._deliveries.start_all(taken, offered=True)
        self._was_answered(claim)
        await asyncio.sleep(0)  # the handler first, then the next wait
        return CLAIMING if claim.wait == 0 else self._found_nothing_more(claim.wait)  # which tells of leases, too

    async def _pause(self) -> State:
        try:
            async with asyncio.timeout(pause_after(self.failures or self._bell.broken, random.random())):
                await self._stopped.wait()
        except TimeoutError:
            pass
        return CLAIMING

    # --- A claim ---

    def _lapsed_by(self) -> float:
        self._claimer.hold(self._deliveries.leases.failed_at)  # an outage that the heartbeat alone has noticed counts
        return self._claimer.lapsed_by()

    def _until_reclaim(self, wait: float | None) -> float:
        self._claimer.hold(self._deliveries.leases.failed_at)
        return self._claimer.until_reclaim(wait)

    async def _take(self, count: int, lapsed_by: float, *, only_repeat: bool = False) -> Claim:
        """Make a claim, and start what it gives."""
        room, alone = self._suspects.reserve()
        try:
            request = Request(self._worker, self._nonce, count, room, alone, only_repeat)
            try:
                repeated = self.failures > 0 or self._in_doubt
                taken = await self._claimer.take(request, lapsed_by, repeated=repeated)
            finally:
                self._deliveries.renew_within(self._claimer.lease)
            room -= self._deliveries.start_all(taken)
        finally:
            self._suspects.release(room)
        return taken.claim

    def _was_answered(self, claim: Claim) -> None:
        self.fetches.succeeded()
        if self.failures:
            self._claimer.hold()
        self.failures, self._in_doubt, self._nonce = 0, False, new_nonce()
        if self._seat is not None:
            self._seat.claimed(len(claim.deliveries), claim.wait == 0)

    def _found_nothing_more(self, wait: float | None) -> State:
        """Listen until something is due or lapses, or a lost ring would have been long ago."""
        self._listen_until = time.monotonic() + block_for(wait)
        return LISTENING

    async def _hand_back(self) -> None:
        """Ask for what an offered claim gave, if it was made: being stopped, the worker hands it back."""
        try:
            await self._take(BATCH, 0.0, only_repeat=True)
        except Unavailable as error:
            log.debug("queue %s: not handed back: %s", self._queue, error, extra=self._about)

    def _went_unanswered(self, error: Unavailable) -> State:
        """Pause. Then the same nonce again: if the lost claim did happen, its deliveries are waiting for us. But no
        lapsed leases for a heartbeat: after an outage their holders are about to renew them."""
        self.failures += 1
        if isinstance(error, UpgradeNeeded):
            self.fetches.succeeded(LONGEST_PAUSE)  # it was answered: other queues are served on
        if self._seat is not None:
            self._seat.rest()
        log.warning("queue %s: no claim: %s", self._queue, error, extra=self._about)
        return PAUSED
