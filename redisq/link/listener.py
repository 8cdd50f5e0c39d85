"""`Listener`: waits until a queue's bell is rung, that is, until there is something for a worker to claim."""

from __future__ import annotations

import asyncio
import time

import redis.asyncio.connection as async_redis

from redisq.errors import Unavailable
from redisq.link.aio import AsyncLink, exchange
from redisq.link.circuit import Circuit, Permit
from redisq.link.conversation import Failed, report
from redisq.link.idle import is_sound

_BLOCK_MARGIN = 3.0  # seconds beyond a blocking read's own timeout, until the connection counts as dead
_LOOK = 0.05  # seconds between looks whether the circuit is closed; it never probes, so it need not hurry


class Listener:
    """A connection of its own that waits for a queue partition's bell, so that no call waits behind it."""

    def __init__(self, link: AsyncLink, key: str) -> None:
        self._link = link
        self._key = key
        self._connection: async_redis.AbstractConnection | None = None
        self._trusted: Permit | None = None  # under which it was connected

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds (> 0) for a ring. False: none came. A dead connection is noticed 3 s later.

        Raises:
            Unavailable: Redis cannot be reached; the next wait tries again.
        """
        endpoint = await self._link.endpoint()
        server = endpoint.known()
        permit = await self._permit(server.circuit, timeout)
        if permit is not self._trusted or self._connection is None or not is_sound(self._connection):
            await self.close()
            self._connection, self._trusted = endpoint.async_connection(), permit
        reply = await exchange(self._connection, (b"BLPOP", self._key, f"{timeout:.3f}"), timeout + _BLOCK_MARGIN)
        if isinstance(reply, Failed):
            await self.close()  # a server whose role changes says so, and hangs up
            raise report(reply, permit, server, time.monotonic()).error from reply.error
        return reply is not None

    async def _permit(self, circuit: Circuit, timeout: float) -> Permit:
        """Wait until a call's probe has closed the circuit: a wait for the bell would be a slow one."""
        end = time.monotonic() + timeout
        while (permit := circuit.enter(time.monotonic(), probe=False)) is None:
            if time.monotonic() >= end:
                raise Unavailable(circuit.reason)
            await asyncio.sleep(_LOOK)
        return permit

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
