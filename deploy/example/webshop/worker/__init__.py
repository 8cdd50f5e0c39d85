"""The worker: `redisq worker webshop.worker:worker`. Its handlers are in the modules beside this one."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from redisq import RedisQ, Worker
from webshop import database
from webshop.worker import cleaning, orders, quotes

log = logging.getLogger(__name__)
worker = Worker()
for module in (orders, quotes, cleaning):
    worker.include(module.handlers)


@worker.lifespan
def state() -> Iterator[dict[str, Any]]:
    """Open what handlers share, before the first message; close it after the last."""
    with database.opened() as shop, RedisQ() as mq:
        yield {"database": shop, "mq": mq}


@worker.middleware
async def timed(delivery: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """Say how long each message took, whatever has become of it."""
    began = time.monotonic()
    try:
        return await call_next(delivery)
    finally:
        log.info("queue %s took %.0f ms", delivery.queue, 1000 * (time.monotonic() - began))
