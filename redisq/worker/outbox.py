"""The outcomes of deliveries, on their way to Redis."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redisq import store
from redisq.body import codec
from redisq.claims.identity import about
from redisq.claims.policy import pause_after
from redisq.errors import MessageTooLarge, RedisQError, Unavailable
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Failure
from redisq.runtime import failpoints, logs
from redisq.store.call import BATCH, Call, Limits
from redisq.store.keys import PartitionKeys
from redisq.worker.handlers.held import Held

log = logs.logger("redisq.worker")

_CHUNK_BYTES = 1024 * 1024


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
        done: Callable[[Held, RedisQError | None], None],
    ) -> None:
        self._link = link
        self._keys = keys
        self._limits = limits
        self._worker = worker
        self._done = done
        self._completions: deque[tuple[Held, bytes]] = deque()
        self._failures: deque[tuple[Held, Failure]] = deque()
        self._releases: deque[Held] = deque()
        self._sending = 0
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._completions) + len(self._failures) + len(self._releases) + self._sending

    def complete(self, held: Held, result: bytes) -> None:
        """Send a result."""
        self._completions.append((held, result))
        self._notify()

    def fail(
        self,
        held: Held,
        error: dict[str, str],
        *,
        cause: str = "failed",
        final: bool = False,
        delay: float | None = None,
    ) -> None:
        """Send an error; see `Failure`. Without a `delay` the queue's backoff decides."""
        failure = Failure(held.receipt, codec.encode(error), cause=cause, delay=delay, final=final)
        self._failures.append((held, failure))
        self._notify()

    def release(self, held: Held) -> None:
        """Hand a message back."""
        self._releases.append(held)
        self._notify()

    def _notify(self) -> None:
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
                    await self._send_some()
                    failures = 0
                except Unavailable as error:
                    failures += 1
                    queue = self._keys.queue
                    log.warning("queue %s: outcomes wait for Redis: %s", queue, error, extra=about(self._worker, queue))
                    await asyncio.sleep(pause_after(failures, random.random()))
            self._empty.set()

    async def _send_some(self) -> None:
        keys, limits = self._keys, self._limits
        if self._completions:
            results = _take(self._completions, lambda item: len(item[1]))
            done = [(held.receipt, result) for held, result in results]
            deliveries = [held for held, _ in results]
            await self._send(
                lambda: store.deliveries.complete(keys, limits, done), self._completions, results, deliveries
            )
        if self._failures:
            errors = _take(self._failures, lambda item: len(item[1].error))
            failed = [failure for _, failure in errors]
            deliveries = [held for held, _ in errors]
            await self._send(lambda: store.deliveries.fail(keys, limits, failed), self._failures, errors, deliveries)
        if self._releases:
            released = _take(self._releases, lambda _: 0)
            receipts = [held.receipt for held in released]
            await self._send(
                lambda: store.deliveries.release(keys, limits, receipts), self._releases, released, released
            )

    async def _send(
        self, make: Callable[[], Call[Any]], source: deque[Any], items: list[Any], deliveries: Sequence[Held]
    ) -> None:
        self._sending = len(items)
        try:
            outcomes = await self._link.call(make())
            failpoints.reach("worker.outcome_sent")
        except Unavailable:
            source.extendleft(reversed(items))
            raise
        except RedisQError as error:
            outcomes = [error] * len(items)
        except Exception as error:  # a fault of ours may not stop the outbox; these leases lapse
            log.exception("queue %s: outcomes not sent", self._keys.queue)
            outcomes = [RedisQError(f"not sent: {type(error).__name__}")] * len(items)
        finally:
            self._sending = 0
        for held, outcome in zip(deliveries, outcomes, strict=True):
            if isinstance(outcome, MessageTooLarge):
                self.fail(held, {"type": "MessageTooLarge", "message": str(outcome)}, cause="rejected", final=True)
            else:
                self._done(held, outcome if isinstance(outcome, RedisQError) else None)


def _take(source: deque[Any], size: Callable[[Any], int]) -> list[Any]:
    """Take a batch off the left: up to BATCH items, and about a megabyte."""
    taken: list[Any] = []
    total = 0
    while source and len(taken) < BATCH and (not taken or total + size(source[0]) <= _CHUNK_BYTES):
        total += size(source[0])
        taken.append(source.popleft())
    return taken
