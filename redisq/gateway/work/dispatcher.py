"""Hands messages to the HTTP workers that wait: one listener and one claiming loop per queue, however many wait."""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from redisq import store
from redisq.claims.claimer import Claimer, Request, Taken
from redisq.claims.doorbell import Doorbell
from redisq.claims.identity import about
from redisq.claims.policy import block_for, pause_after
from redisq.claims.suspects import share_of
from redisq.errors import RedisQError, Unavailable
from redisq.gateway.work.bells import Bells
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claimed, Receipt
from redisq.operations.deliveries import Delivered, open_claimed
from redisq.store.call import BATCH, Call, Limits, new_nonce
from redisq.store.keys import PartitionKeys

log = logging.getLogger("redisq.gateway")

_LINGER = 1.0  # seconds to go on listening when nobody waits: most workers are back at once
_LONGEST_PAUSE = 0.5  # seconds between tries in an outage
_ROOM = 16 * 1024 * 1024  # bytes of messages in one answer; a larger one goes alone
_SWEEP_AFTER = 15.0  # seconds; workers over HTTP sweep nothing, and may be all that there are


@dataclass(frozen=True, slots=True)
class Handed:
    """What one claim gave. Whoever cannot pass it on gives it back."""

    deliveries: Sequence[Delivered] = ()
    receipts: Sequence[Receipt] = ()
    lease: float = 0.0


@dataclass(eq=False, slots=True)
class Waiter:
    """One claim of one HTTP worker, until it is answered; cancel `answer` to leave.

    With a `worker` of its own and a `nonce` it may be the repeat of an earlier claim, so it is asked for by itself.
    """

    count: int
    joined: float  # by the loop's clock, as is `ends`
    ends: float
    worker: str | None
    nonce: str | None
    answer: asyncio.Future[Handed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    timer: asyncio.TimerHandle | None = None


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
        self._patience = patience  # seconds that a claim is tried in an outage
        self._longest = longest  # seconds until it looks even when nothing rang
        self._bells = bells
        self._deaf = False  # it waits, and does not listen
        self._claimer = Claimer(keys, limits, claims)
        self._claimer.start()
        self._most = BATCH  # messages of one claim, fewer while they are large
        self._swept_at = time.monotonic()
        self._bell = Doorbell(link, keys, about(worker, keys.queue))
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._repeats: OrderedDict[Waiter, None] = OrderedDict()  # of the waiters, those to ask for by themselves
        self._kick = asyncio.Event()
        self._listening = False
        self._rang = False  # and nobody has looked since
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether it neither listens nor has anything to do."""
        return self._task is None and not self._errands

    # --- For those who wait ---

    def join(self, count: int, wait: float, worker: str | None = None, nonce: str | None = None) -> Waiter:
        """Wait in line for up to `count` messages, `wait` seconds at most."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiter = Waiter(count, now, now + wait, worker, nonce)
        if self._stopped:
            waiter.answer.set_result(self.nothing())
            return waiter
        self._waiters[waiter] = None
        if nonce is not None:
            self._repeats[waiter] = None
        if not self._listening or self._deaf or wait <= 0 or nonce is not None:
            self._kick.set()
        if wait > 0:
            waiter.timer = loop.call_at(waiter.ends, self._expire, waiter)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer. What comes for it yet is handed back."""
        if waiter.answer.done() and not waiter.answer.cancelled() and waiter.answer.exception() is None:
            self.give_back(waiter.answer.result())
        waiter.answer.cancel()
        self._forget(waiter)

    def give_back(self, handed: Handed) -> None:
        """Hand back, uncharged, what could not be passed on."""
        if handed.receipts:
            self._release(handed.receipts)

    def stop(self) -> None:
        """Claim no more: who waits is answered that nothing came, and what comes yet is handed back."""
        self._stopped = True
        for waiter in list(self._waiters):
            self._answer(waiter, self.nothing())
        self._kick.set()

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
        return [*self._errands, *([self._task] if self._task else [])]

    # --- The loop ---

    async def _run(self) -> None:
        try:
            while True:
                while (waiter := self._next()) is not None:
                    await self._look(waiter)
                if self._bell.is_listening and not self._rang and not self._stopped:
                    self._kick.clear()
                    await self._listen(_LINGER)
                if not self._waiters:
                    await self._rest()
                if not self._waiters:
                    return
        except Exception as error:  # a fault of ours: whoever waits may come again
            log.exception(
                "queue %s: the dispatcher broke", self._keys.queue, extra=about(self._worker, self._keys.queue)
            )
            for waiter in list(self._waiters):
                self._refuse(waiter, RedisQError(f"The gateway could not claim: {type(error).__name__}."))
        finally:
            self._task = None
            self._bells.give_back(self)

    def _next(self) -> Waiter | None:
        if self._repeats:
            return self._repeats.popitem(last=False)[0]
        return next(iter(self._waiters), None)

    async def _look(self, waiter: Waiter) -> None:
        """Claim for one of them; when nothing more is ready, listen until there may be."""
        self._sweep()
        self._kick.clear()
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
                self._answer(waiter, self.nothing())  # a repeat, nothing of which it holds any more
            return
        now = loop.time()
        for other in [other for other in self._waiters if other.joined <= looked_at and other.ends <= now]:
            self._answer(other, self.nothing())
        if self._waiters and not self._repeats:
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
            except Unavailable as error:
                failures, since = failures + 1, since or loop.time()
                self._refuse_overdue(error, since)
                lapsed = loop.time() > since + self._claimer.lease
                if (waiter.answer.done() and lapsed) or (self._stopped and failures > 1):
                    return 0.0, None
                await asyncio.sleep(min(_LONGEST_PAUSE, pause_after(failures, random.random())))
            except RedisQError as error:
                self._refuse(waiter, error)
                return 0.0, None

    def _hand(self, waiter: Waiter, taken: Taken) -> None:
        held = self._fitting(taken.held)
        opened, unreadable = open_claimed(self._keys.queue, held, taken.deadline)
        if unreadable:
            self._send(store.deliveries.fail(self._keys, self._limits, unreadable))
        lost = {failure.receipt.id for failure in unreadable}
        receipts = [claimed.receipt for claimed in held if claimed.receipt.id not in lost]
        if not receipts:
            return
        if waiter.answer.done():
            self._release(receipts)
        else:
            self._answer(waiter, Handed(opened, receipts, taken.claim.lease))

    def _fitting(self, claimed: Sequence[Claimed]) -> Sequence[Claimed]:
        """Return those that one answer has room for, and hand the others back. The next claim is for as many, and then
        for twice as many each time that all fit."""
        sizes = accumulate(len(one.body) for one in claimed)
        count = max(1, sum(size <= _ROOM for size in sizes))
        if count < len(claimed):
            self._most = count
            self._release([one.receipt for one in claimed[count:]])
        else:
            self._most = min(BATCH, 2 * self._most)
        return claimed[:count]

    async def _listen(self, seconds: float) -> None:
        """Wait for a ring, for somebody who cannot wait, or so many seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        kick = asyncio.create_task(self._kick.wait())
        self._deaf = not self._bells.take(self)
        if self._deaf:
            end = min(end, loop.time() + self._bells.pause)
        self._listening, self._bell.longest = not self._bell.broken, self._longest()
        try:
            while not kick.done() and (left := end - loop.time()) > 0:
                if self._deaf:
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
            self._listening = False
            kick.cancel()
            await asyncio.gather(kick, return_exceptions=True)
        if self._bell.broken:
            await asyncio.sleep(min(_LONGEST_PAUSE, pause_after(self._bell.broken, random.random())))

    async def _rest(self) -> None:
        """Listen no more. A ring that came, or was on its way, is passed on to another worker."""
        rang = self._rang or self._bell.is_listening
        await self._bell.close()
        self._bells.give_back(self)
        if rang:
            self._rang = False
            try:
                await self._link.call(store.deliveries.leave(self._keys, self._limits, self._worker))
            except RedisQError as error:
                log.debug("queue %s: leaving: %s", self._keys.queue, error, extra=about(self._worker))

    # --- Answers ---

    def nothing(self) -> Handed:
        """Say that nothing came."""
        return Handed(lease=self._claimer.lease)

    def _forget(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)
        self._repeats.pop(waiter, None)
        if waiter.timer is not None:
            waiter.timer.cancel()
        if not self._waiters:
            self._kick.set()

    def _answer(self, waiter: Waiter, handed: Handed) -> None:
        self._forget(waiter)
        if not waiter.answer.done():
            waiter.answer.set_result(handed)

    def _refuse(self, waiter: Waiter, error: RedisQError) -> None:
        self._forget(waiter)
        if not waiter.answer.done():
            waiter.answer.set_exception(copy.copy(error))

    def _expire(self, waiter: Waiter) -> None:
        """Answer that nothing came in time; when a look is under way, after that."""
        if self._listening:
            self._answer(waiter, self.nothing())

    def _refuse_overdue(self, error: Unavailable, since: float) -> None:
        """Refuse those whom an outage has cost their time: what a call is tried for, less when their own wait ends."""
        now = asyncio.get_running_loop().time()
        for waiter in list(self._waiters):
            tried = waiter.joined + self._patience
            if now >= min(max(since, waiter.joined) + self._patience, max(waiter.ends, tried)):
                self._refuse(waiter, error)

    # --- What goes back ---

    def _sweep(self) -> None:
        """Sweep the queue, now and then while somebody claims from it."""
        now = time.monotonic()
        if now >= self._swept_at + _SWEEP_AFTER:
            self._swept_at = now
            self._send(store.deliveries.sweep(self._keys, self._limits))

    def _release(self, receipts: Sequence[Receipt]) -> None:
        self._send(store.deliveries.release(self._keys, self._limits, receipts))

    def _send(self, call: Call[Any]) -> None:
        task = asyncio.create_task(self._insist(call))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _insist(self, call: Call[Any]) -> None:
        """Send a call until it is answered, or so late that the leases have lapsed."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._claimer.lease
        while loop.time() < end:
            try:
                await self._link.call(call)
                return
            except Unavailable as error:
                log.debug("queue %s: not handed back: %s", self._keys.queue, error, extra=about(self._worker))
                await asyncio.sleep(_LONGEST_PAUSE)
            except RedisQError as error:
                log.warning("queue %s: not handed back: %s", self._keys.queue, error, extra=about(self._worker))
                return
