"""`Doorbell`: waits until a queue's bell is rung, that is, until there is something for a worker to claim."""

from __future__ import annotations

import asyncio
import time

import redis.asyncio.connection as async_redis

from redisq.errors import Unavailable
from redisq.link.aio import AsyncLink, exchange
from redisq.link.circuit import Gate, Leave
from redisq.link.conversation import Failed, report
from redisq.link.idle import is_sound

_BLOCK_MARGIN = 3.0  # seconds beyond a blocking read's own timeout, until the connection counts as dead
_LOOK = 0.05  # seconds between looks whether the gate is open; it never probes, so it need not hurry


class Doorbell:
    """A connection of its own that waits for a queue partition's bell, so that no call waits behind it."""

    def __init__(self, link: AsyncLink, key: str) -> None:
        self._link = link
        self._key = key
        self._connection: async_redis.AbstractConnection | None = None
        self._trusted: Leave | None = None  # under which it was connected

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds (> 0) for a ring. False: none came. A dead connection is noticed 3 s later.

        Raises:
            Unavailable: Redis cannot be reached; the next wait tries again.
        """
        endpoint = await self._link.endpoint()
        server = endpoint.known()
        leave = await self._leave(server.gate, timeout)
        if leave is not self._trusted or self._connection is None or not is_sound(self._connection):
            await self.close()
            self._connection, self._trusted = endpoint.async_connection(), leave
        reply = await exchange(self._connection, (b"BLPOP", self._key, f"{timeout:.3f}"), timeout + _BLOCK_MARGIN)
        if isinstance(reply, Failed):
            await self.close()  # a server whose role changes says so, and hangs up
            raise report(reply, leave, server, time.monotonic()).error from reply.error
        return reply is not None

    async def _leave(self, gate: Gate, timeout: float) -> Leave:
        """Wait for the gate to be opened by a call's probe: a wait for the bell would be a slow one."""
        end = time.monotonic() + timeout
        while (leave := gate.enter(time.monotonic(), probe=False)) is None:
            if time.monotonic() >= end:
                raise Unavailable(gate.reason)
            await asyncio.sleep(_LOOK)
        return leave

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
