"""Tells when a gateway starts which queues look open to anybody and are not: of before REDISQ_HTTP_OPEN_QUEUES."""

from __future__ import annotations

import asyncio
import logging

from redisq.async_client import AsyncRedisQ
from redisq.errors import RedisQError
from redisq.gateway.context import Context
from redisq.tokens.scopes import is_among

log = logging.getLogger("redisq.gateway")

_AT_ONCE = 20  # queues looked at
_AGAIN = 5.0  # seconds, while Redis is away
_SHOWN = 20  # names


async def tell(context: Context) -> None:
    """Log them, once; a Redis that is away is waited for. The gateway serves meanwhile."""
    mq, found = context.acting_for(""), None
    while found is None:
        try:
            found = await _closed(mq, context.options.open_queues)
        except RedisQError as error:
            log.debug("which queues look open is not known yet: %s", error)
            await asyncio.sleep(_AGAIN)
    if found:
        more = f" and {len(found) - _SHOWN:,} more" * (len(found) > _SHOWN)
        log.warning(
            "security is none for %s%s, which opens no queue that REDISQ_HTTP_OPEN_QUEUES does not name: they ask for "
            "tokens",
            ", ".join(found[:_SHOWN]),
            more,
        )


async def _closed(mq: AsyncRedisQ, open_queues: tuple[str, ...]) -> list[str]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def looks_open(name: str) -> bool:
        async with gate:
            return (await mq.define(name)).security == "none"

    names = [name for name in await mq.queues() if not is_among(name, open_queues)]
    return [name for name, is_open in zip(names, await asyncio.gather(*map(looks_open, names)), strict=True) if is_open]
