"""The outcomes of deliveries, on their way to Redis."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from redisq import store
from redisq.claims.identity import about
from redisq.claims.policy import pause_after
from redisq.errors import MessageTooLarge, RedisQError, Unavailable
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Failed
from redisq.runtime import failpoints, logs
from redisq.store.call import BATCH, Call, Limits
from redisq.store.keys import PartitionKeys
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.verdicts import Verdict, verdict_on_refusal

log = logs.logger("redisq.worker")

_CHUNK_BYTES = 1024 * 1024


class _Pile(NamedTuple):
    """Outcomes of one kind that wait: what settles which delivery, and its size in bytes."""

    settle: Callable[[PartitionKeys, Limits, Any], Call[Any]]
    items: deque[tuple[Held, Any, int]]

    def take(self) -> list[tuple[Held, Any, int]]:
        """Take a batch off the left: up to BATCH items, and about a megabyte."""
        items, taken, room = self.items, list[tuple[Held, Any, int]](), _CHUNK_BYTES
        while items and len(taken) < BATCH and (not taken or items[0][2] <= room):
            item = items.popleft()
            room -= item[2]
            taken.append(item)
        return taken


class Outbox:
    """Sends completions, failures and releases of one queue partition, in batches.

    While one batch is under way the next one gathers, so nothing waits when there is little to do and the batches grow
    with the load. What Redis cannot take is sent again until it can: its leases are renewed meanwhile. If the process
    dies, what was not sent is delivered again when its lease lapses.
    """

    def __init__(
        self,
        link: AsyncLink,
        keys: PartitionKeys,
        limits: Limits,
        worker: str,
        done: Callable[[Held, RedisQError | Failed | None], None],
    ) -> None:
        self._link = link
        self._keys = keys
        self._limits = limits
        self._worker = worker
        self._done = done
        self._completions = _Pile(store.deliveries.complete, deque())
        self._failures = _Pile(store.deliveries.fail, deque())
        self._releases = _Pile(store.deliveries.defer, deque())
        self._piles = (self._completions, self._failures, self._releases)
        self._sending = 0
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._completions.items) + len(self._failures.items) + len(self._releases.items) + self._sending

    def complete(self, held: Held, result: bytes) -> None:
        """Send a result."""
        self._add(self._completions, held, (held.receipt, result), len(result))

    def fail(self, held: Held, verdict: Verdict) -> None:
        """Send an error. Without a delay of its own the queue's backoff decides."""
        held.verdict = verdict
        how = {"cause": verdict.cause, "delay": verdict.delay, "final": verdict.final}
        failure = store.deliveries.failure(held.receipt, verdict.error, **how)
        self._add(self._failures, held, failure, len(failure.error))

    def release(self, held: Held, after: float | None = None) -> None:
        """Hand a message back, uncharged; with `after`, for so many seconds nobody gets it."""
        self._add(self._releases, held, (held.receipt, after), 0)

    def _add(self, pile: _Pile, held: Held, outcome: Any, size: int) -> None:
        pile.items.append((held, outcome, size))
        self._empty.clear()
        self._arrived.set()

    async def drained(self) -> None:
        """Wait until all has been sent and confirmed."""
        await self._empty.wait()

    async def run(self) -> None:
        """Send for ever; the owner cancels this."""
        failures = 0
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while len(self):
                try:
                    for pile in self._piles:
                        if pile.items:
                            await self._send_some(pile)
                    failures = 0
                except Unavailable as error:
                    failures += 1
                    queue = self._keys.queue
                    log.warning("queue %s: outcomes wait for Redis: %s", queue, error, extra=about(self._worker, queue))
                    await asyncio.sleep(pause_after(failures, random.random()))
            self._empty.set()

    async def _send_some(self, pile: _Pile) -> None:
        taken = pile.take()
        self._sending = len(taken)
        try:
            sent = [outcome for _, outcome, _ in taken]
            outcomes = await self._link.call(pile.settle(self._keys, self._limits, sent))
            failpoints.reach("worker.outcome_sent")
        except Unavailable:
            pile.items.extendleft(reversed(taken))
            raise
        except RedisQError as error:
            outcomes = [error] * len(taken)
        except Exception as error:  # a fault of ours may not stop the outbox; these leases lapse
            log.exception("queue %s: outcomes not sent", self._keys.queue)
            outcomes = [RedisQError(f"not sent: {type(error).__name__}")] * len(taken)
        finally:
            self._sending = 0
        for (held, _, _), outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, MessageTooLarge):
                self.fail(held, verdict_on_refusal(outcome, "rejected", "its result cannot be stored"))
            else:
                self._done(held, outcome)
