"""One consumer per handler and queue partition: fetch, run, report; and sweep beside that."""

from __future__ import annotations

import asyncio

from redisq import store
from redisq.claims.suspects import Suspects
from redisq.link.aio import AsyncLink
from redisq.store.call import Limits
from redisq.store.keys import PartitionKeys
from redisq.worker.deliveries import Deliveries
from redisq.worker.fetcher import Fetcher
from redisq.worker.sweeper import sweep


class Consumer:
    """What works on one queue partition for one handler, from its first claim to its farewell.

    Its `fetcher` claims, its `deliveries` run what that brings and settle it, and their outbox tells Redis.
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
        self._keys = keys
        self._limits = limits
        self._link = link
        self._worker = worker
        self.deliveries = deliveries
        self._outbox = deliveries.outbox
        self.fetcher = Fetcher(deliveries, keys, limits, link, claims, worker, suspects)
        work = (self._outbox.run(), sweep(keys, limits, link, worker))
        self._helpers = [asyncio.create_task(helper) for helper in work]

    @property
    def unsent(self) -> int:
        """How many outcomes wait for Redis."""
        return len(self._outbox)

    def stop(self) -> None:
        """Claim no more, and hand back what has not started. A claim under way is awaited, its messages handed back."""
        self.fetcher.stop()
        self.deliveries.stop()

    async def leave(self) -> None:
        """Send what is left, and be forgotten by Redis; with nothing to send, do not wait for one that is away."""
        if self.fetcher.failures and not self._outbox:
            return
        await self._outbox.drained()
        await self._link.call(store.deliveries.leave(self._keys, self._limits, self._worker))

    async def close(self) -> None:
        """End threads and tasks, close connections."""
        self.deliveries.close()
        for helper in self._helpers:
            helper.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        await self.fetcher.close()
