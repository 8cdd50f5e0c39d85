"""Listening to the bell of a queue partition, in the background of its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from redisq.claims.policy import LONGEST_BLOCK
from redisq.errors import Unavailable
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener
from redisq.model.delivery import Claim
from redisq.runtime import logs
from redisq.store.call import Call
from redisq.store.keys import PartitionKeys

T = TypeVar("T")

_OVERDUE = 0.5  # seconds that Redis may take beyond its time for a wait, and our way to it

log = logs.logger("redisq.worker")


class Doorbell:
    """Waits for rings; a wait that has begun goes on while the consumer does something else, until it is covered."""

    def __init__(self, link: AsyncLink, keys: PartitionKeys, about: Mapping[str, object]) -> None:
        self._listener = Listener(link, keys.bell)
        self._queue = keys.queue
        self._about = about  # for logs
        self._ring: asyncio.Task[bool | None] | None = None  # a wait for a ring alone
        self._limit: asyncio.Timeout | None = None  # of a wait with a claim behind it
        self.longest = LONGEST_BLOCK  # seconds that Redis is asked to wait
        self.broken = 0  # how often in a row it could not be heard

    @property
    def is_listening(self) -> bool:
        """Whether a wait has begun, and a ring may be on its way."""
        return self._ring is not None

    async def rings(self, seconds: float) -> bool:
        """Return whether it rings within so many seconds, by our own clock. Also True when it cannot be heard: look."""
        if self._ring is None:
            self._ring = asyncio.create_task(self._heard(partial(self._listener.wait, self.longest)))
        # Redis ends a BLPOP up to 100 ms late (6.2 and 7.0, idle); the wait for the ring goes on.
        await asyncio.wait((self._ring,), timeout=seconds)
        if not self._ring.done():
            return False
        ring, self._ring = self._ring, None
        return ring.cancelled() or ring.result() is not False

    async def claims(self, seconds: float, call: Call[Claim]) -> Claim | None:
        """Wait for a ring so long at most, with a claim behind it; return what that gave.

        None: the wait was ended, or no answer came in time by our own clock, and the claim may have been made.
        """
        try:
            async with asyncio.timeout(seconds + _OVERDUE) as self._limit:  # no task: each is a turn of the loop
                return await self._heard(partial(self._listener.wait_with, seconds, call))
        except TimeoutError:
            return None
        finally:
            self._limit = None

    async def _heard(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """Return what a wait for the bell brought, None when it cannot be heard."""
        try:
            found = await wait()
        except Unavailable as error:
            self.broken += 1
            log.debug("queue %s: the bell cannot be heard: %s", self._queue, error, extra=dict(self._about))
            return None
        self.broken = 0
        return found

    def hush(self) -> None:
        """Stop waiting; `rings` and `claims` return at once."""
        if self._ring is not None:
            self._ring.cancel()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0.0)

    async def cover(self) -> None:
        """Hear no ring from now on: it is for another worker."""
        if self._ring is not None:
            self._ring.cancel()
            await asyncio.gather(self._ring, return_exceptions=True)
            self._ring = None

    async def close(self) -> None:
        """Stop waiting, and close the connection."""
        await self.cover()
        await self._listener.close()
