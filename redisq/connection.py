"""Connections to Redis, and two thin links that hold conversations over them: `Link` (threads), `AsyncLink` (asyncio).

A link holds plain redis-py connections, last used first, at most `max_connections`. A connection on which anything went
wrong but an error reply is closed, never used again, so that no late answer can reach another call; the idle ones go
with it, and those of all links after an outage, so that no call finds out about each of them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Generator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import redis.asyncio.connection as async_redis
import redis.connection as sync_redis
from redis.exceptions import RedisError, ResponseError

from redisq import failpoints
from redisq.calls import Call
from redisq.conversation import (
    WITHHELD,
    Command,
    Conversation,
    Failed,
    Parts,
    Tried,
    converse,
    inspect,
    once,
    opening,
)
from redisq.endpoint import Endpoint
from redisq.errors import Unavailable
from redisq.faults import is_starved
from redisq.gate import Leave
from redisq.idle import is_quiet, is_sound
from redisq.packing import pack
from redisq.per_loop import PerLoop
from redisq.settings import Settings

T = TypeVar("T")
#: a conversation that stops whenever it has sent something, so that its caller may do something else meanwhile
Talk = Generator[None, None, T]


class Link:
    """Runs calls on Redis for threads. Safe to share between threads, and after a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reset()
        _links.add(self)

    def _reset(self) -> None:
        self._idle: list[sync_redis.AbstractConnection] = []
        self._trusted: Leave | None = None  # under which the idle ones were connected
        self._slots: SimpleQueue[None] = SimpleQueue()  # written in C, as no semaphore is: 0.2 us instead of 2.5
        for _ in range(self._settings.max_connections):
            self._slots.put(None)
        self._endpoint: Endpoint | None = None
        self._lock = threading.Lock()

    def endpoint(self) -> Endpoint:
        """Give the endpoint, found on first use."""
        if self._endpoint is None:
            with self._lock:
                self._endpoint = self._endpoint or Endpoint.of(self._settings)
        return self._endpoint

    def call(self, call: Call[T]) -> T:
        """Run one call. See `converse` for what it raises."""
        server, since = self.endpoint().known(), time.monotonic()
        command = opening(call, server, since, strict=self._settings.strict)
        if command is None:
            return _answer(self._talk(self._about(call)))
        outcome = _answer(self._exchange(command))
        if outcome is WITHHELD or isinstance(outcome, Failed):
            return _answer(self._talk(self._about(call, Tried(command, outcome, since))))
        return call.decode(outcome)

    def command(self, *parts: bytes | str | int) -> Any:
        """Send one command of the server's administration, once. See `once` for what it raises."""
        deadline, server = self._settings.retry_deadline, self.endpoint().known()
        return _answer(self._talk(once(parts, server, deadline, time.monotonic)))

    def begin(self, call: Call[T]) -> Begun[T]:
        """Send a call, and leave its answer for later. What it raises is raised then."""
        return Begun(self._talk(self._about(call)))

    def _about(self, call: Call[T], tried: Tried | None = None) -> Conversation[T]:
        settings, server = self._settings, self.endpoint().known()
        return converse(call, server, settings.retry_deadline, time.monotonic, strict=settings.strict, tried=tried)

    def _talk(self, conversation: Conversation[T]) -> Talk[T]:
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Command):
                    step = conversation.send((yield from self._exchange(step)))
                else:
                    time.sleep(step.seconds)
                    step = next(conversation)
        except StopIteration as answer:
            value: T = answer.value
            return value
        finally:
            conversation.close()  # now, not when its traceback goes: it may hold the only leave there is

    def _exchange(self, command: Command) -> Talk[Any]:
        free = self._wait_for_slot()
        try:
            if not command.leave.stands:
                return WITHHELD
            if not free:
                return _busy(self._settings)
            if command.leave is not self._trusted:
                self.close()
                self._trusted = command.leave
            return (yield from self._exchange_on(self._take(), command.parts))
        finally:
            if free:
                self._slots.put(None)

    def _wait_for_slot(self) -> bool:
        try:
            self._slots.get(timeout=self._settings.command_timeout)
        except Empty:
            return False
        return True

    def _exchange_on(self, idle: sync_redis.AbstractConnection | None, parts: Parts) -> Talk[Any]:
        connection = idle or self.endpoint().connection()
        sent = clean = starved = False
        try:
            if idle is None:  # an idle one is connected; to have redis-py find that out takes its time
                connection.connect()
            failpoints.reach("client.before_send")
            sent = True
            connection.send_packed_command((pack(parts),), check_health=False)
            failpoints.reach("client.after_send")
            yield
            reply = connection.read_response(disable_decoding=True)
            clean = True
            return reply
        except (RedisError, OSError) as error:
            clean = sent and isinstance(error, ResponseError)
            starved = not sent and is_starved(error)
            odd = not sent and self.endpoint().is_odd(error)
            return Failed(self.endpoint().explained(error) if odd else error, sent)
        finally:
            if clean:
                self._idle.append(connection)
            else:
                connection.disconnect()
                if not starved:
                    self.close()  # whatever broke this connection has likely broken the idle ones

    def _take(self) -> sync_redis.AbstractConnection | None:
        while connection := self._pop():
            if (held := connection._sock) is not None and is_quiet(held.fileno()):
                return connection
            connection.disconnect()  # the server closed it meanwhile
        return None

    def _pop(self) -> sync_redis.AbstractConnection | None:
        try:
            return self._idle.pop()  # atomic, as a look before it would not be
        except IndexError:
            return None

    def close(self) -> None:
        """Close the idle connections. The link can be used again."""
        while connection := self._pop():
            connection.disconnect()


class Begun(Generic[T]):
    """A call that was sent, with its answer to come. It holds a connection until it is finished or closed."""

    def __init__(self, talk: Talk[T]) -> None:
        self._talk = talk
        self._failed: Exception | None = None
        try:
            next(talk)
        except Exception as error:  # StopIteration: it was answered without being sent
            self._failed = error

    def finish(self) -> T:
        """Wait for the answer; raises what `Link.call` does."""
        if isinstance(self._failed, StopIteration):
            value: T = self._failed.value
            return value
        if self._failed is not None:
            raise self._failed
        return _answer(self._talk)

    def close(self) -> None:
        """Forget the answer, and the connection that it would come on."""
        self._talk.close()


def _answer(talk: Talk[T]) -> T:
    try:
        while True:
            next(talk)
    except StopIteration as answer:
        value: T = answer.value
        return value


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _part_from_parent() -> None:
    """Leave the connections, and locks that other threads held, to the parent, before the child can use a link."""
    for link in _links:
        link._reset()


os.register_at_fork(after_in_child=_part_from_parent)


def _busy(settings: Settings) -> Failed:
    count = settings.max_connections
    error = f"All {count} connections are busy. Make fewer calls at once, or raise REDISQ_MAX_CONNECTIONS."
    return Failed(Unavailable(error), sent=False)


class AsyncLink:
    """Runs calls on Redis for the tasks of event loops, each of which has connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools = PerLoop(lambda: _Pool(settings.max_connections))
        self._endpoint: Endpoint | None = None

    async def endpoint(self) -> Endpoint:
        """Give the endpoint, found on first use; an embedded server takes its time and is started in a thread."""
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

    async def call(self, call: Call[T], waited: float = 0.0) -> T:
        """Run one call, whose caller has waited for so many seconds. See `converse` for what it raises."""
        endpoint, settings = self._endpoint or await self.endpoint(), self._settings
        server, since, strict, tried = endpoint.known(), time.monotonic(), settings.strict, None
        if (command := opening(call, server, since, strict=strict)) is not None:
            outcome = await self._exchange(endpoint, command)
            if outcome is not WITHHELD and not isinstance(outcome, Failed):
                return call.decode(outcome)
            tried = Tried(command, outcome, since)
        deadline = max(0.0, settings.retry_deadline - waited)
        conversation = converse(call, server, deadline, time.monotonic, strict=strict, tried=tried)
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
            conversation.close()  # now, not when its traceback goes: it may hold the only leave there is

    @property
    def _idle(self) -> list[async_redis.AbstractConnection]:
        return self._pools.latest().idle

    @property
    def _slots(self) -> asyncio.Semaphore:
        return self._pools.get().slots

    async def _exchange(self, endpoint: Endpoint, command: Command) -> Any:
        pool = self._pools.get()
        if pool.farewell is None:
            await pool.begin()
        idle, slots = pool.idle, pool.slots
        free = await (self._wait_for_slot(slots) if slots.locked() else slots.acquire())
        try:
            if not command.leave.stands:
                return WITHHELD
            if not free:
                return _busy(self._settings)
            if command.leave is not pool.trusted:
                pool.trusted = command.leave
                await _disconnect(idle, nowait=True)
            while idle and not is_sound(idle[-1]):
                await idle.pop().disconnect(nowait=True)  # the server closed it meanwhile
            connection = idle.pop() if idle else endpoint.async_connection()
            reply = await exchange(connection, command.parts, endpoint.timeout)
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
        self.trusted: Leave | None = None  # under which the idle ones were connected
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


async def exchange(connection: async_redis.AbstractConnection, parts: Parts, timeout: float) -> Any:
    """Send one command; give its reply or Failed. The connection stays connected only when it is fit for the next."""
    sent = clean = False
    try:
        if not connection.is_connected:
            async with asyncio.timeout(timeout + (connection.socket_connect_timeout or 0)):
                await connection.connect()  # redis-py limits the time to connect, but not the time to greet
        failpoints.reach("client.before_send")
        sent = True
        async with asyncio.timeout(timeout):
            await connection.send_packed_command((pack(parts),), check_health=False)
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
