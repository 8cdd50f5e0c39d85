"""The sweeper of a queue partition: it removes what is due to go."""

from __future__ import annotations

import asyncio
import random

from redisq import store
from redisq.claims.identity import about
from redisq.claims.policy import sweep_after
from redisq.errors import RedisQError
from redisq.link.aio import AsyncLink
from redisq.runtime import logs
from redisq.store.call import Limits
from redisq.store.keys import PartitionKeys

log = logs.logger("redisq.worker")


async def sweep(keys: PartitionKeys, limits: Limits, link: AsyncLink, worker: str) -> None:
    """Sweep for ever, when something may be due; the owner cancels this."""
    wait = 0.0
    while True:
        await asyncio.sleep(sweep_after(wait) + random.uniform(-0.5, 0.5))
        wait = 0.0
        try:
            more = True
            while more:
                _, more, wait = await link.call(store.deliveries.sweep(keys, limits))
        except RedisQError as error:
            log.debug("queue %s: not swept: %s", keys.queue, error, extra=about(worker, keys.queue))
        except Exception:  # a fault of ours may not stop the sweeping
            log.exception("queue %s: not swept", keys.queue, extra=about(worker, keys.queue))
