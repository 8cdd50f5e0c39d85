"""A link to Redis for the tasks of event loops; what holds for the connections of `sync` holds for these."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import redis.asyncio.connection as async_redis
from redis.exceptions import RedisError, ResponseError

from redisq.link.circuit import Permit
from redisq.link.conversation import (
    WITHHELD,
    Command,
    Conversation,
    Failed,
    Tried,
    busy,
    converse,
    inspect,
    opening,
)
from redisq.link.endpoint import Endpoint
from redisq.link.faults import is_starved
from redisq.link.idle import is_sound
from redisq.link.packing import pack
from redisq.runtime import failpoints
from redisq.runtime.per_loop import PerLoop
from redisq.settings import Settings
from redisq.store.call import Call

T = TypeVar("T")


class AsyncLink:
    """Runs calls on Redis for the tasks of event loops, each of which has connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools = PerLoop(lambda: _Pool(settings.max_connections))
        self._endpoint: Endpoint | None = None

    async def endpoint(self) -> Endpoint:
        """Return the endpoint, found on first use; an embedded server takes its time and is started in a thread."""
        if self._endpoint is None:
            if self._settings.url.startswith("embedded:"):
                self._endpoint = await asyncio.to_thread(Endpoint.of, self._settings)
            else:
                self._endpoint = Endpoint.of(self._settings)
        return self._endpoint

    async def check_server(self) -> None:
        """Ask the server what it is, unless that is known. One that cannot be reached is asked before the first call.

        Raises:
            Unavailable: it is not fit, see `Server.judge`.
        """
        endpoint = self._endpoint or await self.endpoint()
        server, strict = endpoint.known(), self._settings.strict
        if server.to_be_asked(strict, time.monotonic):
            await self._hold(inspect(server, strict, time.monotonic(), time.monotonic), endpoint)

    async def call(self, call: Call[T], deadline: float | None = None, waited: float = 0.0) -> T:
        """Run one call. Its caller has waited for so many seconds, of `deadline` in all, or of what the settings say.

        See `converse` for what it raises.
        """
        endpoint, settings = self._endpoint or await self.endpoint(), self._settings
        server, since, strict, tried = endpoint.known(), time.monotonic(), settings.strict, None
        if (command := opening(call, server, since, strict=strict)) is not None:
            outcome = await self._exchange(endpoint, command)
            if outcome is not WITHHELD and not isinstance(outcome, Failed):
                return call.decode(outcome)
            tried = Tried(command, outcome, since)
        left = max(0.0, (settings.retry_deadline if deadline is None else deadline) - waited)
        conversation = converse(call, server, left, time.monotonic, strict=strict, tried=tried)
        return await self._hold(conversation, endpoint)

    async def _hold(self, conversation: Conversation[T], endpoint: Endpoint) -> T:
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Command):
                    step = conversation.send(await self._exchange(endpoint, step))
                else:
                    await asyncio.sleep(step.seconds)
                    step = next(conversation)
        except StopIteration as answer:
            value: T = answer.value
            return value
        finally:
            conversation.close()  # now, not when its traceback goes: it may hold the only permit there is

    @property
    def _idle(self) -> list[async_redis.AbstractConnection]:
        return self._pools.latest().idle

    async def _exchange(self, endpoint: Endpoint, command: Command) -> Any:
        pool = self._pools.get()
        if pool.farewell is None:
            await pool.begin()
        idle, slots = pool.idle, pool.slots
        free = await (self._wait_for_slot(slots) if slots.locked() else slots.acquire())
        try:
            if not command.permit.stands:
                return WITHHELD
            if not free:
                return busy(self._settings.max_connections)
            if command.permit is not pool.trusted:
                pool.trusted = command.permit
                await _disconnect(idle, nowait=True)
            while idle and not is_sound(idle[-1]):
                await idle.pop().disconnect(nowait=True)  # the server closed it meanwhile
            connection = idle.pop() if idle else endpoint.async_connection()
            reply = await exchange(connection, pack(command.parts), endpoint.timeout)
            if connection.is_connected:
                idle.append(connection)
            elif not (isinstance(reply, Failed) and not reply.sent and is_starved(reply.error)):
                if isinstance(reply, Failed) and not reply.sent and endpoint.is_odd(reply.error):
                    reply = Failed(await asyncio.to_thread(endpoint.explained, reply.error), sent=False)
                await _disconnect(idle, nowait=True)  # whatever broke this one has likely broken the idle ones
            return reply
        finally:
            if free:
                slots.release()

    async def _wait_for_slot(self, slots: asyncio.Semaphore) -> bool:
        try:
            async with asyncio.timeout(self._settings.command_timeout):
                return await slots.acquire()
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Close the running loop's idle connections. The link can be used again."""
        await _disconnect(self._pools.get().idle)


class _Pool:
    """The connections of one event loop that are idle, and how many more there may be."""

    def __init__(self, size: int) -> None:
        self.idle: list[async_redis.AbstractConnection] = []
        self.trusted: Permit | None = None  # under which the idle ones were connected
        self.slots = asyncio.Semaphore(size)
        self.farewell: AsyncGenerator[None, None] | None = None

    async def begin(self) -> None:
        """Have the loop close the connections when it ends."""
        self.farewell = _closed_with_the_loop(self.idle)
        await anext(self.farewell)


async def _closed_with_the_loop(idle: list[async_redis.AbstractConnection]) -> AsyncGenerator[None, None]:
    """Close the connections when the loop ends: while it still can, it finalizes generators that were begun on it."""
    try:
        yield
    finally:
        await _disconnect(idle)


async def _disconnect(idle: list[async_redis.AbstractConnection], *, nowait: bool = False) -> None:
    while idle:
        with contextlib.suppress(RedisError, OSError):  # TLS says goodbye, to a server that may not answer
            await idle.pop().disconnect(nowait=nowait)


async def exchange(connection: async_redis.AbstractConnection, packed: bytes, timeout: float) -> Any:
    """Send one command; give its reply or Failed. The connection stays connected only when it is fit for the next."""
    sent = clean = False
    try:
        if not connection.is_connected:
            async with asyncio.timeout(timeout + (connection.socket_connect_timeout or 0)):
                await connection.connect()  # redis-py limits the time to connect, but not the time to greet
        failpoints.reach("client.before_send")
        sent = True
        async with asyncio.timeout(timeout):
            await connection.send_packed_command((packed,), check_health=False)
            failpoints.reach("client.after_send")
            reply = await connection.read_response(disable_decoding=True)
        clean = True
        return reply
    except RuntimeError as error:  # uvloop's word for writing to a connection that was reset
        return Failed(ConnectionResetError(str(error)), sent)
    except (RedisError, OSError) as error:
        clean = sent and isinstance(error, ResponseError)
        return Failed(error, sent)
    finally:
        if not clean:
            await connection.disconnect(nowait=True)


async def read(connection: async_redis.AbstractConnection) -> Any:
    """Wait for what a server says by itself; give that or Failed."""
    try:
        return await connection.read_response(disable_decoding=True)
    except RuntimeError as error:
        return Failed(ConnectionResetError(str(error)), sent=True)
    except (RedisError, OSError) as error:
        return Failed(error, sent=True)


async def exchange_both(connection: async_redis.AbstractConnection, packed: bytes, timeout: float) -> tuple[Any, Any]:
    """Send two commands in one write; give the reply to each or Failed, as `exchange` does."""
    reply = await exchange(connection, packed, timeout)
    if isinstance(reply, Failed) and not connection.is_connected:
        return reply, reply
    try:
        async with asyncio.timeout(timeout):
            return reply, await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return reply, Failed(error, sent=True)
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if not isinstance(error, RuntimeError | RedisError | OSError):
            raise
        return reply, Failed(ConnectionResetError(str(error)) if isinstance(error, RuntimeError) else error, sent=True)
