"""The thread that renews a worker's leases, so that a busy event loop cannot lose them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from redisq import store
from redisq.claims.identity import about
from redisq.claims.policy import beat_after
from redisq.errors import LeaseLost, RedisQError
from redisq.link.sync import Link
from redisq.runtime import logs
from redisq.settings import Settings
from redisq.store.call import BATCH, Limits
from redisq.store.keys import PartitionKeys
from redisq.worker.handlers.held import Held

log = logs.logger("redisq.worker")

_LONGEST_SLEEP = 1.0
_PRESSING = 1.5  # seconds that a renewal waits for its answer when a lease is short yet: another try has to be in time
_LONG = 10  # leases that a handler runs before it is named in the log
_RETRY = 0.5  # seconds until a failed renewal is tried again
_ON_ITS_WAY = 1.0  # seconds that a claim's answer may come after a hint of what it gave
_GLANCE = 0.05  # seconds between looks whether that has come


@dataclass(slots=True)
class Leases:
    """The deliveries of one queue partition that hold a lease. The loop's thread changes `held`."""

    keys: PartitionKeys
    limits: Limits
    held: set[Held]
    lost: Callable[[Held], None]
    cancelled: Callable[[Held], None]
    #: seconds; the queue's own, from the last claim
    lease: float
    #: what the handler is called
    name: str = ""
    #: whether it was told that one runs for very long
    told: bool = False
    #: when a renewal last failed, by the monotonic clock: a worker with every slot taken notices an outage only here
    failed_at: float = -math.inf
    #: ids of messages to which something has happened, and when that was heard; see `Heartbeat.hint`
    hinted: dict[bytes, float] = field(default_factory=dict)


class Heartbeat(threading.Thread):
    """Renews every held lease at a third of its time. Tells the loop which are lost, and whose message is cancelled."""

    def __init__(self, settings: Settings, worker: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="redisq-heartbeat", daemon=True)
        self._link = Link(settings.model_copy(update={"retry_deadline": _RETRY}))
        timeout = min(settings.command_timeout, _PRESSING)
        self._hasty = Link(settings.model_copy(update={"retry_deadline": 0.0, "command_timeout": timeout}))
        self._worker = worker
        self._loop = loop
        self._all: list[Leases] = []
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._connected: asyncio.Future[None] = loop.create_future()  # or has tried to

    async def connected(self) -> None:
        """Wait until it has a connection, before which nothing may be claimed: later there may be no descriptor left.

        Where Redis cannot be reached yet, return when that is known.
        """
        await asyncio.shield(self._connected)

    def watch(self, leases: Leases) -> None:
        """Renew these, too."""
        self._all = [*self._all, leases]
        self.wake()

    def wake(self) -> None:
        """Look at once: something wants to be renewed or to show progress."""
        self._wake.set()

    def hint(self, leases: Leases, id: bytes) -> None:
        """Renew the lease of a message at once, as something has happened to it: the answer tells what, if it is so."""
        leases.hinted[id] = time.monotonic()
        self.wake()

    def stop(self) -> None:
        """End the thread. Leases that are still held lapse."""
        self._ended.set()
        self._wake.set()

    def run(self) -> None:
        """Beat until stopped."""
        self._connect()
        try:
            while not self._ended.is_set():
                self._wake.clear()
                try:
                    nearest = min((self._beat(leases) for leases in self._all), default=_LONGEST_SLEEP)
                except Exception:  # a fault of ours may not stop the heartbeat: every lease hangs on it
                    log.exception("leases not renewed")
                    nearest = _RETRY
                self._wake.wait(max(0.01, min(_LONGEST_SLEEP, nearest)))
        finally:
            self._link.close()
            self._hasty.close()

    def _connect(self) -> None:
        try:
            self._link.command("PING")
        except RedisQError as error:
            log.debug("the heartbeat has no connection yet: %s", error, extra=about(self._worker))
        except Exception:  # a fault of ours may not stop the heartbeat
            log.exception("the heartbeat has no connection yet", extra=about(self._worker))
        finally:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._tell_connected)

    def _tell_connected(self) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def _beat(self, leases: Leases) -> float:
        """Renew what is due; give the seconds until the next is."""
        now = time.monotonic()
        every, hinted = list(leases.held), leases.hinted
        due = [held for held in every if held.beat_at <= now or held.progress or held.receipt.id in hinted]
        for held in due if hinted else ():
            hinted.pop(held.receipt.id, None)
        if due and not leases.told:
            self._tell_of_long(leases, due, now - _LONG * leases.lease)
        for first in range(0, len(due), BATCH):
            self._renew(leases, due[first : first + BATCH])
        nearest = min((held.beat_at for held in every), default=now + _LONGEST_SLEEP) - now
        if hinted:
            nearest = min(nearest, _GLANCE)
            for id, heard in list(hinted.items()):
                if heard + _ON_ITS_WAY < now:
                    del hinted[id]
        return min(nearest, beat_after(leases.lease) / 2)  # a delivery that comes while this thread sleeps is in time

    def _tell_of_long(self, leases: Leases, due: list[Held], before: float) -> None:
        """Name a handler that has run for so long that it may never return, once."""
        held = next((held for held in due if 0 < held.began < before and not held.settled), None)
        if held is None:
            return
        leases.told = True
        text = (
            "queue %s message %s attempt %d: the handler %s has run for longer than ten leases (%.0f s). Where that is "
            "too long, give it timeout=, or set REDISQ_HANDLER_TIMEOUT"
        )
        fields = about(self._worker, held.queue, held.id, held.attempt)
        log.warning(text, held.queue, held.id, held.attempt, leases.name, _LONG * leases.lease, extra=fields)

    def _renew(self, leases: Leases, due: list[Held]) -> None:
        sent, at = time.monotonic(), datetime.now(UTC)
        progress = [held.progress for held in due]
        batch = [(held.receipt, value) for held, value in zip(due, progress, strict=True)]
        try:
            link = self._hasty if any(held.is_pressing for held in due) else self._link
            outcomes = link.call(store.deliveries.renew(leases.keys, leases.limits, batch))
        except RedisQError as error:
            queue = leases.keys.queue
            log.warning("queue %s: leases not renewed: %s", queue, error, extra=about(self._worker, queue))
            leases.failed_at = time.monotonic()
            for held in due:
                held.beat_at = sent + _RETRY
                held.is_pressing = False  # the next try is on the connection that was there before anything was claimed
            return
        for held, shown, outcome in zip(due, progress, outcomes, strict=True):
            if isinstance(outcome, LeaseLost):
                held.beat_at = sent + leases.lease
                self._loop.call_soon_threadsafe(leases.lost, held)
            elif not isinstance(outcome, RedisQError):
                held.beat_at = sent + beat_after(outcome.lease)
                held.deadline = at + timedelta(seconds=outcome.lease)
                held.is_pressing = False
                if outcome.cancelled and not held.told:
                    self._loop.call_soon_threadsafe(leases.cancelled, held)
            if held.progress is shown:
                held.progress = b""
