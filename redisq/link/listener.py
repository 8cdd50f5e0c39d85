"""`Listener` waits until a queue's bell is rung, that is, until there is something for a worker to claim; `Subscriber`
hears what is published to workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

import redis.asyncio.connection as async_redis

from redisq.errors import Unavailable
from redisq.link.aio import AsyncLink, exchange, exchange_both, read
from redisq.link.circuit import Circuit, Permit
from redisq.link.conversation import Failed, report
from redisq.link.faults import classify, word_of
from redisq.link.idle import is_sound
from redisq.link.packing import pack
from redisq.store.call import Call

T = TypeVar("T")

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
        connection, permit = await self._connected(timeout)
        reply = await exchange(connection, self._blocking(timeout), timeout + _BLOCK_MARGIN)
        if isinstance(reply, Failed):
            raise await self._unheard(reply, permit) from reply.error
        return reply is not None

    async def wait_with(self, timeout: float, call: Call[T]) -> T:
        """Wait as `wait` does, with a call behind it in the same write: it is made when the bell rings, or time is up.

        Raises:
            Unavailable: no answer came, or a refusal. The call may have been made.
        """
        connection, permit = await self._connected(timeout)
        then = pack((b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args))
        for reply in await exchange_both(connection, self._blocking(timeout) + then, timeout + _BLOCK_MARGIN):
            if isinstance(reply, Failed):
                raise await self._unheard(reply, permit) from reply.error
        return call.decode(reply)

    def _blocking(self, timeout: float) -> bytes:
        return pack((b"BLPOP", self._key, f"{timeout:.3f}"))

    async def _connected(self, timeout: float) -> tuple[async_redis.AbstractConnection, Permit]:
        endpoint = await self._link.endpoint()
        permit = await self._permit(endpoint.known().circuit, timeout)
        if permit is not self._trusted or self._connection is None or not is_sound(self._connection):
            await self.close()
            self._connection, self._trusted = endpoint.async_connection(), permit
        return self._connection, permit

    async def _unheard(self, failed: Failed, permit: Permit) -> Exception:
        await self.close()  # a server whose role changes says so, and hangs up
        server = (await self._link.endpoint()).known()
        return report(failed, permit, server, time.monotonic()).error

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


class Subscriber:
    """A connection of its own that hears what is published on channels. What is published while it has none is lost.

    It says nothing, so that it costs an idle server nothing; and what becomes of it, no call has to know.
    """

    def __init__(self, link: AsyncLink, channels: Iterable[str]) -> None:
        self._link = link
        self._channels = tuple(channels)

    async def heard(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield the channel and the text of what is published; b"" when a channel is heard from now on.

        It ends where this user may not subscribe.

        Raises:
            Unavailable: it cannot be heard, or not any more.
        """
        endpoint = await self._link.endpoint()
        connection = endpoint.async_connection()
        try:
            reply = await exchange(connection, pack((b"SUBSCRIBE", *self._channels)), endpoint.timeout)
            while not isinstance(reply, Failed):
                kind, channel, text = reply
                yield channel.decode(), text if kind == b"message" else b""
                reply = await read(connection)
            if word_of(reply.error) != "NOPERM":
                raise classify(reply.error, endpoint.server).error
        finally:
            await connection.disconnect(nowait=True)
