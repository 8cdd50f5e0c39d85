"""What a handler works on: each delivery is started in a slot of its own, and settled exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from redisq.body import codec
from redisq.claims.claimer import Taken
from redisq.claims.policy import FIRST_BEAT, beat_after, claimable
from redisq.claims.suspects import Suspects
from redisq.errors import InvalidMessage, RedisQError
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Claimed, Failed
from redisq.runtime import failpoints
from redisq.store.call import Limits
from redisq.store.keys import PartitionKeys
from redisq.store.record import CANCELLED
from redisq.worker.burst import Burst
from redisq.worker.handlers.batches import runner_of
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.runners import Handler, Runner, Surroundings
from redisq.worker.handlers.verdicts import Verdict, verdict_on_overrun, verdict_on_refusal
from redisq.worker.heartbeat import Heartbeat, Leases
from redisq.worker.outbox import Outbox
from redisq.worker.outcomes import OutcomeLog
from redisq.worker.slots import Turns


class Deliveries:
    """Starts what was claimed in the slots of one handler, and settles each delivery exactly once.

    A delivery is settled by whichever comes first: the handler's return, its timeout, the loss of its lease, or the end
    of the worker. It holds its lease, renewed by the heartbeat, until Redis has confirmed the outcome.
    """

    def __init__(
        self,
        handler: Handler,
        keys: PartitionKeys,
        limits: Limits,
        link: AsyncLink,
        worker: str,
        heartbeat: Heartbeat,
        suspects: Suspects,
        turns: Turns | None,
        surroundings: Surroundings,
        on_stuck: Callable[[], None],
        outcomes: OutcomeLog,
    ) -> None:
        self._handler = handler
        self._queue = keys.queue
        self._max_attempts = limits.max_attempts  # unless the queue has its own
        self._outcomes = outcomes
        self._durations = False  # whether the log tells how long handlers take that succeed
        self._heartbeat = heartbeat
        self._suspects = suspects
        self._on_stuck = on_stuck
        self._state = surroundings.state
        self.leases = Leases(keys, limits, set(), self._lost, self._told, limits.lease_ms / 1000, handler.name)
        heartbeat.watch(self.leases)
        self._runner: Runner[Held] = runner_of(handler, self, surroundings)
        self.outbox = Outbox(link, keys, limits, worker, self._confirmed)
        self._busy: set[Held] = set()  # handler has not returned
        self._overrun: dict[Held, object] = {}  # plain handlers past their timeout, and which thread they still hold
        self._stopped = False  # what comes yet is handed back
        self.room = asyncio.Event()  # a slot became free, an outcome is confirmed, or somebody wants a look
        self.seat = turns.seat(handler.priority, handler.concurrency, self._busy, self.room.set) if turns else None
        self.burst: Burst | None = None  # wants to know when nothing runs

    @property
    def stuck(self) -> int:
        """How many threads are held by handlers that overran their timeout."""
        return len({*self._overrun.values()})

    @property
    def is_idle(self) -> bool:
        """Whether no handler runs that may still bring an outcome, and none waits to be sent."""
        return len(self._busy) == len(self._overrun) and not self.outbox  # the latter are some of the former

    @property
    def is_held_up(self) -> bool:
        """Whether slots are free, and none may be used before Redis confirms outcomes."""
        return len(self._busy) < self._handler.concurrency <= len(self.outbox)

    @property
    def claimable(self) -> int:
        """For how many messages there is room."""
        return claimable(self._handler.concurrency, len(self._busy), len(self.outbox))

    # --- What a claim brings ---

    def renew_within(self, lease: float) -> None:
        """Renew the leases by what a claim said of their length."""
        if lease != self.leases.lease:
            self.leases.lease = lease
            self._heartbeat.wake()

    def hint(self, id: bytes) -> None:
        """Learn at once what has happened to a message, if it is one of ours; b"": to any, as hints may be lost."""
        if id:
            self._heartbeat.hint(self.leases, id)
        else:
            for held in self.leases.held:
                held.beat_at = 0.0
            self._heartbeat.wake()

    def start_all(self, taken: Taken, *, offered: bool = False) -> int:
        """Start what a claim gave, an `offered` one with a short lease; return how much room its suspects hold."""
        claim, beat_at = taken.claim, taken.sent + (FIRST_BEAT if offered else beat_after(taken.claim.lease))
        weight = self._suspects.weigh(claim.isolated)
        self._durations = self._outcomes.tells_of_success
        weights = {claimed.receipt.id: weight for claimed in claim.deliveries[: claim.suspects]}
        room, max_attempts = 0, claim.max_attempts or self._max_attempts
        for claimed in taken.held:
            suspicion = weights.get(claimed.receipt.id, 0) if weights else 0
            room += suspicion
            self._start(claimed, taken.deadline, beat_at, suspicion, offered, max_attempts)
        return room

    def _start(
        self, claimed: Claimed, deadline: datetime, beat_at: float, suspicion: int, offered: bool, max_attempts: int
    ) -> None:
        error: InvalidMessage | None = None
        try:
            request, headers = codec.decode_request(claimed.body)
        except InvalidMessage as unreadable:
            request, headers, error = None, {}, unreadable
        held = Held(self._queue, claimed.receipt, deadline, beat_at, self._heartbeat.wake)
        held.suspicion, held.is_pressing = suspicion, offered
        self.leases.held.add(held)
        if error is not None:
            held.settled = True
            self.outbox.fail(held, verdict_on_refusal(error, "unreadable", "it cannot be read"))
        elif self._stopped:
            self._release(held)
        else:
            self._busy.add(held)
            delivery = Delivery(request, held, headers, max_attempts, claimed.failed, claimed.head, self._state)
            self._runner.start(held, delivery)
            failpoints.reach("worker.started")

    # --- What runners report; see runners.Owner ---

    def ended(self, held: Held, verdict: bytes | Verdict) -> None:
        if held.settled:
            return
        if isinstance(verdict, bytes):
            held.settled = True
            if self._durations:
                held.took = time.monotonic() - held.began
            self.outbox.complete(held, verdict)
            return
        if held.told:
            error = CANCELLED if verdict.cancelled else verdict.error
            self._fail(held, verdict._replace(error=error, cause="failed", delay=None))
            return
        if verdict.cancelled and self._stopped:
            self._release(held)
            return
        if verdict.cause == "deferred":
            self._outcomes.deferred(held, verdict.delay or 0.0)
            self._release(held, verdict.delay)
            return
        if verdict.remark:
            self._outcomes.warn(held, verdict.remark)
        self._fail(held, verdict)

    def overran(self, held: Held, *, thread: object = None) -> None:
        if held.settled:
            return
        held.cancel()
        self._fail(held, verdict_on_overrun(self._handler.timeout or 0.0))
        if thread is not None:
            self._overrun[held] = thread
            self._on_stuck()

    def _fail(self, held: Held, verdict: Verdict) -> None:
        held.settled = True
        held.took = time.monotonic() - held.began
        self.outbox.fail(held, verdict)

    def returned(self, held: Held) -> None:
        failpoints.reach("worker.finished")
        if not held.settled:  # a fault of ours: nobody may renew the lease of what nobody works on
            self._lost(held)
        self._busy.discard(held)
        self._overrun.pop(held, None)
        self.room.set()
        if self.seat is not None:
            self.seat.returned()
        if self.burst is not None and self.is_idle:  # until then it keeps the burst from ending
            self.burst.changed()

    # --- What else settles a delivery ---

    def _lost(self, held: Held) -> None:
        if not held.settled:
            held.settled = True
            self._outcomes.warn(held, "lease lost")
            self._let_go(held)
            self._cancel(held)

    def _let_go(self, held: Held) -> None:
        self.leases.held.discard(held)
        self._suspects.release(held.suspicion)
        held.suspicion = 0

    def _told(self, held: Held) -> None:
        """Cancel a handler whose message is to be cancelled: what it does now decides, and the lease is held on."""
        if not (held.settled or held.told):
            held.told = True
            self._cancel(held)

    def _cancel(self, held: Held) -> None:
        held.cancel()
        self._runner.cancel(held)

    def _release(self, held: Held, after: float | None = None) -> None:
        held.settled = True
        self.outbox.release(held, after)

    def _confirmed(self, held: Held, outcome: RedisQError | Failed | None) -> None:
        self._let_go(held)
        self.room.set()
        if outcome is not None or held.took is not None:
            self._outcomes.confirmed(held, outcome)
        if self.burst is not None and self.is_idle:
            self.burst.changed()

    # --- Stopping ---

    def stop(self) -> None:
        """Hand back what has not started, and what comes from now on."""
        self._stopped = True
        for held in self._runner.unstarted():
            self._busy.discard(held)
            if not held.settled:
                self._release(held)

    async def idle(self) -> None:
        """Wait until no handler runs that may still bring an outcome."""
        while self._busy - self._overrun.keys():
            self.room.clear()
            await self.room.wait()

    def cancel_all(self) -> None:
        """Cancel the handlers that still run; one that ends now is handed back, or brings its outcome yet."""
        for held in list(self._busy):
            self._cancel(held)

    def hand_back(self) -> None:
        """Hand back what still runs: plain handlers, and async ones that will not be cancelled."""
        for held in list(self._busy):
            if not held.settled:
                self._release(held)

    def close(self) -> None:
        """End the threads and tasks of handlers."""
        self._runner.close()
