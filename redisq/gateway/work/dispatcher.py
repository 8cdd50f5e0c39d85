"""Hands messages to the HTTP workers that wait: one listener and one claiming loop per queue, however many wait."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from enum import StrEnum, auto
from itertools import accumulate

from redisq import store
from redisq.claims.claimer import Claimer, Request, Taken
from redisq.claims.doorbell import Doorbell
from redisq.claims.identity import about
from redisq.claims.policy import block_for, pause_after
from redisq.claims.suspects import share_of
from redisq.errors import RedisQError, Unavailable, UpgradeNeeded
from redisq.gateway.work.bells import Bells
from redisq.gateway.work.errands import Errands
from redisq.gateway.work.waiters import Handed, Waiter, Waiters
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claimed
from redisq.operations.deliveries import open_claimed
from redisq.runtime.states import Table, follow
from redisq.store.call import BATCH, Limits, new_nonce
from redisq.store.keys import PartitionKeys


class State(StrEnum):
    """What a dispatcher does."""

    ASLEEP = auto()
    LOOKING = auto()
    LISTENING = auto()
    DEAF = auto()
    UNSURE = auto()
    RESTING = auto()


ASLEEP, LOOKING, LISTENING, DEAF, UNSURE, RESTING = State

TRANSITIONS: Table[State] = {
    ASLEEP: {LOOKING: "somebody waits"},
    LOOKING: {
        LISTENING: "nothing is ready, or nobody waits for the moment",
        DEAF: "nothing is ready, and others have the right to listen",
        UNSURE: "nothing is ready, and the bell could not be heard the last time",
        RESTING: "nobody waits",
        ASLEEP: "it broke, or was cut",
    },
    LISTENING: {LOOKING: "a ring, somebody who cannot wait, or it is time"},
    DEAF: {LOOKING: "somebody came, or it is time"},
    UNSURE: {LOOKING: "a ring, somebody came, or it is time"},
    RESTING: {ASLEEP: "nobody waits", LOOKING: "somebody came"},
}

log = logging.getLogger("redisq.gateway")

_LINGER = 1.0  # seconds to go on listening when nobody waits: most workers are back at once
_LONGEST_PAUSE = 0.5  # seconds between tries in an outage
_ROOM = 16 * 1024 * 1024  # bytes of messages in one answer; a larger one goes alone


class Dispatcher:
    """Claims from one queue for those who wait, first come, first served; each gets what its own claim gave.

    It looks when the bell rings, when what Redis told of is due, and when somebody comes who cannot wait. Whoever comes
    while it listens costs nothing. If the process dies what it had claimed is delivered again after its lease.
    """

    def __init__(
        self,
        keys: PartitionKeys,
        limits: Limits,
        link: AsyncLink,
        claims: AsyncLink,
        worker: str,
        patience: float,
        longest: Callable[[], float],
        bells: Bells,
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._link = link
        self._worker = worker
        self._longest = longest  # seconds until it looks even when nothing rang
        self._bells = bells
        self._claimer = Claimer(keys, limits, claims)
        self._claimer.start()
        self._most = BATCH  # messages of one claim, fewer while they are large
        self._bell = Doorbell(link, keys, about(worker, keys.queue))
        self._waiters = Waiters(patience)
        self._errands = Errands(keys, limits, link, worker, lambda: self._claimer.lease)
        self._state = ASLEEP
        self._rang = False  # and nobody has looked since
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def _enter(self, state: State) -> None:
        self._state = follow(TRANSITIONS, self._state, state)

    @property
    def is_idle(self) -> bool:
        """Whether it neither listens nor has anything to do."""
        return self._state is ASLEEP and not self._errands.tasks

    # --- For those who wait ---

    def join(self, count: int, wait: float, worker: str | None = None, nonce: str | None = None) -> Waiter:
        """Wait in line for up to `count` messages, `wait` seconds at most."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiter = Waiter(count, now, now + wait, worker, nonce)
        if self._stopped:
            waiter.answer.set_result(self.nothing())
            return waiter
        self._waiters.join(waiter)
        if self._state is not LISTENING or wait <= 0 or nonce is not None:
            self._waiters.kick.set()
        if wait > 0:
            waiter.timer = loop.call_at(waiter.ends, self._expire, waiter)
        if self._state is ASLEEP:
            self._enter(LOOKING)
            self._task = asyncio.create_task(self._run())
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. What comes for it yet is handed back."""
        if waiter.answer.done() and not waiter.answer.cancelled() and waiter.answer.exception() is None:
            self.give_back(waiter.answer.result())
        waiter.answer.cancel()
        self._waiters.leave(waiter)

    def give_back(self, handed: Handed) -> None:
        """Hand back, uncharged, what could not be passed on."""
        if handed.receipts:
            self._errands.release(handed.receipts)

    def stop(self) -> None:
        """Claim no more: who waits is answered that nothing came, and what comes yet is handed back."""
        self._stopped = True
        self._waiters.answer_all(self.nothing())
        self._waiters.kick.set()

    async def close(self) -> None:
        """Wait until all that was claimed is handed back; then close the connection."""
        while tasks := self._tasks():
            await asyncio.wait(tasks)
        await self._bell.close()

    async def cut(self) -> None:
        """End at once: what was claimed and is not handed back lapses."""
        for task in self._tasks():
            task.cancel()
        await self.close()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._errands.tasks, *([self._task] if self._task else [])]

    # --- The loop ---

    async def _run(self) -> None:
        try:
            while True:
                while (waiter := self._waiters.next()) is not None:
                    await self._look(waiter)
                if self._bell.is_listening and not self._rang and not self._stopped:
                    self._waiters.kick.clear()
                    await self._listen(_LINGER)
                if not self._waiters and not await self._rest():
                    return
        except Exception as error:  # a fault of ours: whoever waits may come again
            log.exception(
                "queue %s: the dispatcher broke", self._keys.queue, extra=about(self._worker, self._keys.queue)
            )
            self._waiters.refuse_all(RedisQError(f"The gateway could not claim: {type(error).__name__}."))
        finally:
            self._enter(ASLEEP)
            self._task = None
            self._bells.give_back(self)

    async def _look(self, waiter: Waiter) -> None:
        """Claim for one of them; when nothing more is ready, listen until there may be."""
        self._errands.sweep()
        self._waiters.kick.clear()
        self._rang = False
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        lapsed_by, taken = await self._claim_for(waiter)
        if taken is None:
            return
        if taken.held:
            self._hand(waiter, taken)
        claim = taken.claim
        if claim.wait == 0:
            if waiter.nonce is not None and not taken.held:
                self._waiters.answer(waiter, self.nothing())  # a repeat, nothing of which it holds any more
            return
        self._waiters.answer_all(self.nothing(), joined_by=looked_at, ended_by=loop.time())
        if self._waiters and not self._waiters.has_repeats:
            wait = claim.wait if lapsed_by else self._claimer.until_reclaim(claim.wait)
            await self._listen(block_for(wait, self._longest()))

    async def _claim_for(self, waiter: Waiter) -> tuple[float, Taken | None]:
        """Make a claim, again and again while Redis is away: what was lost of the first one's answer is held for us."""
        count = min(waiter.count, self._most)
        request = Request(
            waiter.worker or self._worker, waiter.nonce or new_nonce(), count, share_of(count), alone=True
        )
        loop, failures, since = asyncio.get_running_loop(), 0, 0.0
        while True:
            lapsed_by = 0.0 if failures else self._claimer.lapsed_by()
            try:
                repeated = failures > 0 or waiter.nonce is not None
                taken = await self._claimer.take(request, lapsed_by, repeated=repeated)
                if failures:
                    self._claimer.hold()
                return lapsed_by, taken
            except UpgradeNeeded as error:  # waiting does not help
                self._waiters.refuse(waiter, error)
                return 0.0, None
            except Unavailable as error:
                failures, since = failures + 1, since or loop.time()
                self._waiters.refuse_overdue(error, since, loop.time())
                lapsed = loop.time() > since + self._claimer.lease
                if (waiter.answer.done() and lapsed) or (self._stopped and failures > 1):
                    return 0.0, None
                await asyncio.sleep(min(_LONGEST_PAUSE, pause_after(failures, random.random())))
            except RedisQError as error:
                self._waiters.refuse(waiter, error)
                return 0.0, None

    def _hand(self, waiter: Waiter, taken: Taken) -> None:
        held = self._fitting(taken.held)
        max_attempts = taken.claim.max_attempts or self._limits.max_attempts
        opened, unreadable = open_claimed(self._keys.queue, held, taken.deadline, max_attempts)
        if unreadable:
            self._errands.fail(unreadable)
        lost = {failure.receipt.id for failure in unreadable}
        receipts = [claimed.receipt for claimed in held if claimed.receipt.id not in lost]
        if not receipts:
            return
        if waiter.answer.done():
            self._errands.release(receipts)
        else:
            self._waiters.answer(waiter, Handed(opened, receipts, taken.claim.lease))

    def _fitting(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Return those that one answer has room for, and hand the others back. The next claim is for as many, and then
        for twice as many each time that all fit."""
        sizes = accumulate(len(one.body) for one in claimed)
        count = max(1, sum(size <= _ROOM for size in sizes))
        if count < len(claimed):
            self._most = count
            self._errands.release([one.receipt for one in claimed[count:]])
        else:
            self._most = min(BATCH, 2 * self._most)
        return claimed[:count]

    async def _listen(self, seconds: float) -> None:
        """Wait for a ring, for somebody who cannot wait, or so many seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        hears = self._bells.take(self)
        if not hears:
            end = min(end, loop.time() + self._bells.pause)
        self._bell.longest = self._longest()
        self._enter(UNSURE if self._bell.broken else LISTENING if hears else DEAF)
        kick = asyncio.create_task(self._waiters.kick.wait())
        try:
            while not kick.done() and (left := end - loop.time()) > 0:
                if not hears:
                    await asyncio.wait((kick,), timeout=left)
                    continue
                ring = asyncio.create_task(self._bell.rings(left))
                await asyncio.wait((ring, kick), return_when=asyncio.FIRST_COMPLETED)
                ring.cancel()
                await asyncio.gather(ring, return_exceptions=True)
                if not ring.cancelled() and ring.result():
                    self._rang = True
                    break
        finally:
            self._enter(LOOKING)
            kick.cancel()
            await asyncio.gather(kick, return_exceptions=True)
        if self._bell.broken:
            await asyncio.sleep(min(_LONGEST_PAUSE, pause_after(self._bell.broken, random.random())))

    async def _rest(self) -> bool:
        """Listen no more. A ring that came, or was on its way, is passed on to another worker. Return whether somebody
        has come meanwhile."""
        self._enter(RESTING)
        rang = self._rang or self._bell.is_listening
        await self._bell.close()
        self._bells.give_back(self)
        if rang:
            self._rang = False
            try:
                await self._link.call(store.deliveries.leave(self._keys, self._limits, self._worker))
            except RedisQError as error:
                log.debug("queue %s: leaving: %s", self._keys.queue, error, extra=about(self._worker))
        if self._waiters:
            self._enter(LOOKING)
        return bool(self._waiters)

    # --- Answers ---

    def nothing(self) -> Handed:
        """Say that nothing came."""
        return Handed(lease=self._claimer.lease)

    def _expire(self, waiter: Waiter) -> None:
        """Answer that nothing came in time; when a look is under way, or has to come, after that."""
        if self._state in (LISTENING, DEAF):
            self._waiters.answer(waiter, self.nothing())
