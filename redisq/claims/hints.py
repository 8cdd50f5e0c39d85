"""Hearing hints: something has happened to a message that a worker may hold; its next renewal would tell that, too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from redisq.claims.policy import pause_after
from redisq.errors import RedisQError
from redisq.link.aio import AsyncLink
from redisq.link.listener import Subscriber
from redisq.runtime import logs

log = logs.logger("redisq.worker")


async def hear(link: AsyncLink, hinted: Mapping[str, Callable[[bytes], None]]) -> None:
    """Pass hints on for ever, each a message's id, by the channel it came on; the owner cancels this.

    b"" says that hints may have been lost until now. It ends where this user may not subscribe. Nothing depends on a
    hint, so nobody is told that there are none.
    """
    subscriber, failures = Subscriber(link, hinted), 0
    while hinted:
        try:
            async for channel, id in subscriber.heard():
                failures = 0
                hinted[channel](id)
            log.debug("hints cannot be heard: this user may not subscribe to them")
            return
        except RedisQError as error:
            failures += 1
            log.debug("hints cannot be heard: %s", error)
        await asyncio.sleep(pause_after(failures, random.random()))
