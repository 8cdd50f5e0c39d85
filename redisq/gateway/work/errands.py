"""Calls that nobody waits for: what goes back to Redis, and sweeping."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from redisq import store
from redisq.claims.identity import about
from redisq.errors import RedisQError, Unavailable
from redisq.link.aio import AsyncLink
from redisq.model.delivery import Failure, Receipt
from redisq.store.call import Call, Limits
from redisq.store.keys import PartitionKeys

log = logging.getLogger("redisq.gateway")

_AGAIN_AFTER = 0.5  # seconds
_SWEEP_AFTER = 15.0  # seconds; workers over HTTP sweep nothing, and may be all that there are


class Errands:
    """Each call is sent until it is answered, or so late that the leases have lapsed: for `lease()` seconds."""

    def __init__(
        self, keys: PartitionKeys, limits: Limits, link: AsyncLink, worker: str, lease: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._link = link
        self._worker = worker
        self._lease = lease
        self._swept_at = time.monotonic()
        self.tasks: set[asyncio.Task[None]] = set()

    def release(self, receipts: Sequence[Receipt]) -> None:
        """Hand deliveries back, uncharged."""
        self._send(store.deliveries.release(self._keys, self._limits, receipts))

    def fail(self, failures: Sequence[Failure]) -> None:
        """Tell that attempts have failed."""
        self._send(store.deliveries.fail(self._keys, self._limits, failures))

    def sweep(self) -> None:
        """Sweep the queue, now and then while somebody claims from it."""
        now = time.monotonic()
        if now >= self._swept_at + _SWEEP_AFTER:
            self._swept_at = now
            self._send(store.deliveries.sweep(self._keys, self._limits))

    def _send(self, call: Call[Any]) -> None:
        task = asyncio.create_task(self._insist(call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _insist(self, call: Call[Any]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._lease()
        while loop.time() < end:
            try:
                await self._link.call(call)
                return
            except Unavailable as error:
                log.debug("queue %s: not handed back: %s", self._keys.queue, error, extra=about(self._worker))
                await asyncio.sleep(_AGAIN_AFTER)
            except RedisQError as error:
                log.warning("queue %s: not handed back: %s", self._keys.queue, error, extra=about(self._worker))
                return
