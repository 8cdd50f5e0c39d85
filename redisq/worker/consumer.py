"""One loop per handler and queue partition: claim, run, report."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from redisq import store
from redisq.body import codec
from redisq.claims.claimer import Claimer, Request, Taken
from redisq.claims.doorbell import Doorbell
from redisq.claims.identity import about
from redisq.claims.policy import beat_after, block_for, claimable, pause_after, sweep_after
from redisq.claims.suspects import Suspects
from redisq.errors import InvalidMessage, RedisQError, Unavailable, UpgradeNeeded
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claim, Claimed
from redisq.runtime import failpoints, logs
from redisq.store.call import Limits, new_nonce
from redisq.store.keys import PartitionKeys
from redisq.worker.burst import Burst
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.error_text import error_of
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.runners import Handler, Runner, Surroundings, TaskRunner, ThreadRunner
from redisq.worker.handlers.verdicts import Verdict
from redisq.worker.heartbeat import Heartbeat, Leases
from redisq.worker.outbox import Outbox
from redisq.worker.slots import Turns
from redisq.worker.watchdog import Fetches

log = logs.logger("redisq.worker")

_GLANCE = 0.1  # seconds between looks whether other queues of this worker hold all its slots
_TOO_LONG = 1.0  # seconds for outcomes to be taken by Redis while other queues wait for this one's turn


class Consumer:
    """Claims messages for one handler, sized by its free slots, runs them, and settles each delivery exactly once.

    A delivery is settled by whichever comes first: the handler's return, its timeout, the loss of its lease, or the end
    of the worker. It holds its lease, renewed by the heartbeat, until Redis has confirmed the outcome.

    With `turns` it shares the worker's slots with other consumers.
    `claims` is a link that retries nothing: whether a repeated claim may take lapsed leases is decided anew each time.
    """

    def __init__(
        self,
        handler: Handler,
        keys: PartitionKeys,
        limits: Limits,
        link: AsyncLink,
        claims: AsyncLink,
        worker: str,
        heartbeat: Heartbeat,
        suspects: Suspects,
        turns: Turns | None,
        surroundings: Surroundings,
        on_stuck: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._keys = keys
        self._limits = limits
        self._link = link
        self._worker = worker
        self._heartbeat = heartbeat
        self._suspects = suspects
        self._on_stuck = on_stuck
        self._leases = Leases(keys, limits, set(), self._lost, limits.lease_ms / 1000)
        heartbeat.watch(self._leases)
        self._runner: Runner = (TaskRunner if handler.is_async else ThreadRunner)(handler, self, surroundings)
        self._outbox = Outbox(link, keys, limits, worker, self._confirmed)
        self._bell = Doorbell(link, keys, self._about())
        self._busy: set[Held] = set()  # handler has not returned
        self._overrun: set[Held] = set()  # plain handlers past their timeout that still hold a thread
        self._room = asyncio.Event()  # a slot became free, or the worker stops
        self._stopped = asyncio.Event()
        self._seat = turns.seat(handler.priority, handler.concurrency, self._busy, self._room.set) if turns else None
        self._burst: Burst | None = None
        self._failures = 0  # claims in a row without an answer
        self.fetches = Fetches()
        self._claimer = Claimer(keys, limits, claims)
        self._helpers = [asyncio.create_task(self._outbox.run()), asyncio.create_task(self._sweep())]

    @property
    def stuck(self) -> int:
        """How many slots are held by handlers that overran their timeout."""
        return len(self._overrun)

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs that may still bring an outcome, and none waits to be sent."""
        return len(self._busy) == len(self._overrun) and not self._outbox  # the latter are some of the former

    # --- Claiming ---

    async def run(self, burst: Burst | None) -> None:
        """Claim and run until stopped, or until the burst is over."""
        nonce, failures, asked = new_nonce(), 0, 0
        self._burst = burst
        self._claimer.start()
        while not (self._stopped.is_set() or (burst is not None and burst.is_over)):
            count = claimable(self._handler.concurrency, len(self._busy), len(self._outbox))
            if count and self._seat is not None and not failures:
                count = self._seat.take(count)
            if count == 0:
                await self._wait_for_slots()
                continue
            try:
                lapsed_by = 0.0 if failures else self._lapsed_by()
                if burst is not None:
                    asked = burst.asks(self)
                claim = await self._claim(nonce, count, lapsed_by, repeated=failures > 0)
                self.fetches.succeeded()
                if failures:
                    self._claimer.hold()
                failures, self._failures, nonce = 0, 0, new_nonce()
                if self._seat is not None:
                    self._seat.claimed(len(claim.deliveries), claim.wait == 0)
                if claim.wait == 0:
                    continue
                if burst is not None and not claim.deliveries and (burst.found_nothing(self, asked) or burst.is_over):
                    continue
                await self._block(claim.wait if lapsed_by else self._until_reclaim(claim.wait))
            except Unavailable as error:
                # The same nonce again: if the lost claim did happen, its deliveries are waiting for us. But no lapsed
                # leases for a heartbeat: after an outage their holders are about to renew them.
                failures = self._failures = failures + 1
                pause = pause_after(failures, random.random())
                if isinstance(error, UpgradeNeeded):
                    self.fetches.succeeded(pause)  # it was answered: other queues are served on
                if self._seat is not None:
                    self._seat.rest()
                log.warning("queue %s: no claim: %s", self._keys.queue, error, extra=self._about())
                await self._pause(pause)
        self.fetches.not_wanted()

    async def _wait_for_slots(self) -> None:
        """Wait until it may be possible to claim; meanwhile rings are for other workers."""
        self._room.clear()
        self.fetches.not_wanted()
        await self._bell.cover()
        try:
            async with asyncio.timeout(None if self._seat is None else _TOO_LONG):
                await self._room.wait()
        except TimeoutError:
            if self._seat is not None and len(self._busy) < self._handler.concurrency <= len(self._outbox):
                self._seat.rest()  # its outcomes are not taken: other queues need not wait for that
        self._want()
        await asyncio.sleep(0)  # let others that return in this turn free their slots, too

    def _want(self) -> None:
        """Take note that a slot is free again."""
        if not self._stopped.is_set():
            self.fetches.succeeded()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _lapsed_by(self) -> float:
        self._claimer.hold(self._leases.failed_at)  # an outage that the heartbeat alone has noticed counts, too
        return self._claimer.lapsed_by()

    def _until_reclaim(self, wait: float | None) -> float:
        self._claimer.hold(self._leases.failed_at)
        return self._claimer.until_reclaim(wait)

    async def _claim(self, nonce: str, count: int, lapsed_by: float, *, repeated: bool) -> Claim:
        room, alone = self._suspects.reserve()
        try:
            request = Request(self._worker, nonce, count, room, alone)
            try:
                taken = await self._claimer.take(request, lapsed_by, repeated=repeated)
            finally:
                self._keep_lease()
            room -= self._begin_all(taken)
        finally:
            self._suspects.release(room)
        return taken.claim

    def _keep_lease(self) -> None:
        if self._claimer.lease != self._leases.lease:
            self._leases.lease = self._claimer.lease
            self._heartbeat.wake()

    def _begin_all(self, taken: Taken) -> int:
        """Begin what a claim gave; give how much room its suspects hold."""
        claim, beat_at = taken.claim, taken.sent + beat_after(taken.claim.lease)
        weight = self._suspects.weigh(claim.isolated)
        weights = {claimed.receipt.id: weight for claimed in claim.deliveries[: claim.suspects]}
        begun = 0
        for claimed in taken.held:
            suspicion = weights.get(claimed.receipt.id, 0) if weights else 0
            begun += suspicion
            self._begin(claimed, taken.deadline, beat_at, suspicion)
        return begun

    async def _block(self, wait: float | None) -> None:
        """Wait for a ring, or until the next message is due; not when all slots are taken: then a slot is awaited."""
        end = time.monotonic() + block_for(wait)
        while not self._stopped.is_set() and claimable(self._handler.concurrency, len(self._busy), len(self._outbox)):
            left = max(0.0, end - time.monotonic())
            self.fetches.succeeded(left)
            if await self._bell.rings(left if self._seat is None else min(left, _GLANCE)):
                if self._bell.broken:
                    await self._pause(pause_after(self._bell.broken, random.random()))
                return
            if time.monotonic() >= end or (self._seat is not None and self._seat.is_crowded_out()):
                return

    def _begin(self, claimed: Claimed, deadline: datetime, beat_at: float, suspicion: int) -> None:
        error: InvalidMessage | None = None
        request: Any = None
        try:
            request, _ = codec.decode_request(claimed.body)
        except InvalidMessage as unreadable:
            error = unreadable
        held = Held(self._keys.queue, claimed.receipt, deadline, beat_at, self._heartbeat.wake)
        held.suspicion = suspicion
        self._leases.held.add(held)
        if error is not None:
            held.settled = True
            self._outbox.fail(held, error_of(error), cause="unreadable", final=True)
        elif self._stopped.is_set():
            self._release(held)
        else:
            self._busy.add(held)
            self._runner.start(held, Delivery(request, held))
            failpoints.reach("worker.started")

    async def _sweep(self) -> None:
        wait = 0.0
        while True:
            await asyncio.sleep(sweep_after(wait) + random.uniform(-0.5, 0.5))
            wait = 0.0
            try:
                more = True
                while more:
                    _, more, wait = await self._link.call(store.deliveries.sweep(self._keys, self._limits))
            except RedisQError as error:
                log.debug("queue %s: not swept: %s", self._keys.queue, error, extra=self._about())
            except Exception:  # a fault of ours may not stop the sweeping
                log.exception("queue %s: not swept", self._keys.queue, extra=self._about())

    # --- What runners report; see runners.Owner ---

    def ended(self, held: Held, verdict: bytes | Verdict) -> None:
        if held.settled:
            return
        if isinstance(verdict, bytes):
            held.settled = True
            self._outbox.complete(held, verdict)
            return
        if verdict.cancelled and self._stopped.is_set():
            self._release(held)
            return
        held.settled = True
        self._warn(held, "%s", verdict.said)
        if verdict.remark:
            self._warn(held, "%s", verdict.remark)
        if verdict.raised is not None:
            where = (held.queue, held.id)
            log.debug("queue %s message %s", *where, exc_info=verdict.raised, extra=self._about(held))
        final = verdict.cause == "rejected"
        self._outbox.fail(held, verdict.error, cause=verdict.cause, final=final, delay=verdict.delay)

    def overran(self, held: Held, *, holds_thread: bool) -> None:
        if held.settled:
            return
        held.settled = held.cancelled = True
        text = f"The handler did not return within its timeout of {self._handler.timeout:g} s."
        self._warn(held, "%s", text)
        self._outbox.fail(held, {"type": "TimeoutError", "message": text})
        if holds_thread:
            self._overrun.add(held)
            self._on_stuck()

    def returned(self, held: Held) -> None:
        failpoints.reach("worker.finished")
        if not held.settled:  # a fault of ours: nobody may renew the lease of what nobody works on
            self._lost(held)
        self._busy.discard(held)
        self._overrun.discard(held)
        self._room.set()
        if self._seat is not None:
            self._seat.returned()
        if self._burst is not None and self.is_idle:  # until then it keeps the burst from ending
            self._burst.changed()

    def look(self) -> None:
        """Claim again at once, whatever is waited for; see `Burst`."""
        self._room.set()
        self._bell.hush()

    # --- What else settles a delivery ---

    def _lost(self, held: Held) -> None:
        if not held.settled:
            held.settled = True
            self._warn(held, "lease lost")
            self._let_go(held)
            self._cancel(held)

    def _let_go(self, held: Held) -> None:
        self._leases.held.discard(held)
        self._suspects.release(held.suspicion)
        held.suspicion = 0

    def _cancel(self, held: Held) -> None:
        held.cancelled = True
        self._runner.cancel(held)

    def _release(self, held: Held) -> None:
        held.settled = True
        self._outbox.release(held)

    def _confirmed(self, held: Held, refusal: RedisQError | None) -> None:
        self._let_go(held)
        self._room.set()
        if refusal is not None:
            self._warn(held, "outcome refused: %s", refusal)
        if self._burst is not None and self.is_idle:
            self._burst.changed()

    def _warn(self, held: Held, text: str, *args: object) -> None:
        where = (held.queue, held.id, held.attempt)
        log.warning(f"queue %s message %s attempt %d: {text}", *where, *args, extra=self._about(held))

    def _about(self, held: Held | None = None) -> dict[str, object]:
        if held is None:
            return about(self._worker, self._keys.queue)
        return about(self._worker, self._keys.queue, held.id, held.attempt)

    # --- Stopping ---

    def stop(self) -> None:
        """Claim no more, and hand back what has not started. A claim under way is awaited, its messages handed back."""
        self._stopped.set()
        self.fetches.not_wanted()
        self._room.set()
        self._bell.hush()
        for held in self._runner.unstarted():
            self._busy.discard(held)
            if not held.settled:
                self._release(held)

    async def idle(self) -> None:
        """Wait until no handler runs that may still bring an outcome."""
        while self._busy - self._overrun:
            self._room.clear()
            await self._room.wait()

    def cancel_all(self) -> None:
        """Cancel the handlers that still run; one that ends now is handed back, or brings its outcome yet."""
        for held in list(self._busy):
            self._cancel(held)

    def hand_back(self) -> None:
        """Hand back what still runs: plain handlers, and async ones that will not be cancelled."""
        for held in list(self._busy):
            if not held.settled:
                self._release(held)

    @property
    def unsent(self) -> int:
        """How many outcomes wait for Redis."""
        return len(self._outbox)

    async def leave(self) -> None:
        """Send what is left, and be forgotten by Redis; with nothing to send, do not wait for one that is away."""
        if self._failures and not self._outbox:
            return
        await self._outbox.drained()
        await self._link.call(store.deliveries.leave(self._keys, self._limits, self._worker))

    async def close(self) -> None:
        """End threads and tasks, close connections."""
        self._runner.close()
        for helper in self._helpers:
            helper.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        await self._bell.close()
