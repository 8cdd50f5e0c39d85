"""Connections to Redis: one protocol, written once as a generator, and two thin links that drive it.

`converse` decides what to send, when to retry and what an answer means; `Link` (threads) and `AsyncLink` (asyncio) only
send, receive and sleep. redis-py's own retries are off: it would send a script again after a lost reply without anybody
knowing. Ours may, because every script recognises a repeat.

A link holds plain redis-py connections, last used first, at most `max_connections`. A connection on which anything went
wrong but an error reply is closed, never used again, so that no late answer can reach another call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis.asyncio.connection as async_redis
import redis.connection as sync_redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from redisq import embedded
from redisq.calls import Call
from redisq.errors import Indeterminate, InvalidSettings, Unavailable
from redisq.faults import Fault, check_version, classify
from redisq.settings import Settings

T = TypeVar("T")

_FIRST_PAUSE = 0.02  # seconds; doubles with each retry, full jitter
_LONGEST_PAUSE = 1.0
_BLOCK_MARGIN = 3.0  # seconds beyond a blocking read's own timeout, until the connection counts as dead


@dataclass(frozen=True, slots=True)
class Command:
    """One command to send, and the reply to wait for."""

    parts: tuple[bytes | str | int, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """What came instead of a reply. `sent`: the command may have reached the server."""

    error: Exception
    sent: bool


Conversation = Generator[Command | Pause, Any, T]


def converse(call: Call[T], server: str, deadline: float, clock: Callable[[], float]) -> Conversation[T]:
    """Send a call until it is answered, it is refused, or `deadline` (seconds of `clock`, from now) has passed.

    Raises:
        Indeterminate: no answer came, and at least once the call may have reached the server.
        Unavailable, QueueFull: the server's own words, classified.
    """
    script, end, sent, pause = call.script, clock() + deadline, False, _FIRST_PAUSE
    arguments = (len(call.keys), *call.keys, *call.args)
    head: tuple[bytes, bytes] = (b"EVALSHA", script.sha)
    while True:
        reply = yield Command((*head, *arguments))
        if not isinstance(reply, Failed):
            return call.decode(reply)
        if isinstance(reply.error, NoScriptError) and head[0] == b"EVALSHA":
            head = (b"EVAL", script.text)  # for all of this call: the script cache may be flushed at any moment
            continue
        fault = classify(reply.error, server)
        sent = sent or (fault.lost and reply.sent)
        left = end - clock()
        if not fault.retry or left <= 0:
            raise _final(fault, sent) from reply.error
        yield Pause(min(random.uniform(0, pause), left))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _final(fault: Fault, sent: bool) -> Exception:
    if sent and isinstance(fault.error, Unavailable):
        return Indeterminate(f"{fault.error} The call may or may not have happened; calling again is safe.")
    return fault.error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Redis is: redis-py's connection arguments, and a name for error texts that holds no password."""

    url: str = field(repr=False)
    server: str
    timeout: float
    connect_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> Endpoint:
        """Read the settings' URL; an `embedded://` one starts its server.

        Raises:
            InvalidSettings: the URL is not one of redis://, rediss://, unix:// and embedded://.
        """
        url = settings.url
        if url.startswith("embedded:"):
            url = embedded.shared(url).url
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("redis", "rediss", "unix")
            server = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
            sync_redis.parse_url(url)
        except ValueError:
            known, server = False, ""
        if not known:
            raise InvalidSettings(
                "REDISQ_URL takes redis://host:port/db, rediss:// (TLS), unix://path or embedded:// (a private server)."
            )
        return cls(url, server, settings.command_timeout, settings.connect_timeout)

    def arguments(self, parse_url: Callable[[str], Mapping[str, Any]], timeout: float | None) -> dict[str, Any]:
        """Give the arguments of one connection; everything redis-py has a changing default for is set."""
        arguments = {
            "protocol": 2,
            "socket_timeout": timeout,
            "socket_connect_timeout": self.connect_timeout,
            "retry": Retry(NoBackoff(), 0),
            "client_name": "redisq",
            **parse_url(self.url),
        }
        if not self.url.startswith("unix:"):
            arguments.setdefault("socket_keepalive", True)
        return arguments

    def connection(self) -> sync_redis.AbstractConnection:
        """Make a connection for threads, not yet connected."""
        arguments = self.arguments(sync_redis.parse_url, self.timeout)
        kind = arguments.pop("connection_class", sync_redis.Connection)
        connection: sync_redis.AbstractConnection = self._make(kind, arguments)
        return connection

    def async_connection(self) -> async_redis.AbstractConnection:
        """Make a connection for asyncio, not yet connected. Its link sets the time limits, cheaper than redis-py's."""
        arguments = self.arguments(async_redis.parse_url, None)
        kind = arguments.pop("connection_class", async_redis.Connection)
        connection: async_redis.AbstractConnection = self._make(kind, arguments)
        return connection

    def _make(self, kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        try:
            return kind(**arguments)
        except (TypeError, NameError, RedisError) as error:  # NameError: redis-py 6.3 stumbles over protocol=x
            raise InvalidSettings("REDISQ_URL has an option after ? that redis-py does not take.") from error


class Link:
    """Runs calls on Redis for threads. Safe to share between threads, and after a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reset()
        _links.add(self)

    def _reset(self) -> None:
        self._idle: list[sync_redis.AbstractConnection] = []
        self._slots = threading.BoundedSemaphore(self._settings.max_connections)
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
        conversation = converse(call, self.endpoint().server, self._settings.retry_deadline, time.monotonic)
        step = next(conversation)
        try:
            while True:
                if isinstance(step, Command):
                    step = conversation.send(self._exchange(step))
                else:
                    time.sleep(step.seconds)
                    step = next(conversation)
        except StopIteration as answer:
            value: T = answer.value
            return value

    def _exchange(self, command: Command) -> Any:
        if not self._slots.acquire(timeout=self._settings.command_timeout):
            text = f"All {self._settings.max_connections} connections are busy (REDISQ_MAX_CONNECTIONS)."
            return Failed(Unavailable(text), sent=False)
        try:
            connection = self._take() or self.endpoint().connection()
            sent = clean = False
            try:
                connection.connect()
                sent = True
                connection.send_packed_command(connection.pack_command(*command.parts), check_health=False)
                reply = connection.read_response(disable_decoding=True)
                clean = True
                return reply
            except (RedisError, OSError) as error:
                clean = sent and isinstance(error, ResponseError)
                return Failed(error, sent)
            finally:
                if clean:
                    self._idle.append(connection)
                else:
                    connection.disconnect()
                    self.close()  # whatever broke this connection has likely broken the idle ones
        finally:
            self._slots.release()

    def _take(self) -> sync_redis.AbstractConnection | None:
        try:
            return self._idle.pop()  # atomic, as a look before it would not be
        except IndexError:
            return None

    def close(self) -> None:
        """Close the idle connections. The link can be used again."""
        while connection := self._take():
            connection.disconnect()


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _part_from_parent() -> None:
    """Leave the connections, and locks that other threads held, to the parent, before the child can use a link."""
    for link in _links:
        link._reset()


os.register_at_fork(after_in_child=_part_from_parent)


class AsyncLink:
    """Runs calls on Redis for the tasks of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._endpoint: Endpoint | None = None

    def _reset(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[async_redis.AbstractConnection] = []
        self._slots = asyncio.Semaphore(self._settings.max_connections)

    async def endpoint(self) -> Endpoint:
        """Give the endpoint, found on first use; an embedded server takes its time and is started in a thread."""
        if self._endpoint is None:
            if self._settings.url.startswith("embedded:"):
                self._endpoint = await asyncio.to_thread(Endpoint.of, self._settings)
            else:
                self._endpoint = Endpoint.of(self._settings)
        return self._endpoint

    async def check_server(self) -> None:
        """Ask the server for its version, once. One that cannot be reached, or does not tell, passes.

        Raises:
            Unavailable: it is too old.
        """
        self._reset(asyncio.get_running_loop())
        endpoint = await self.endpoint()
        reply = await self._pooled(endpoint, Command((b"INFO", b"server")))
        if isinstance(reply, bytes):
            check_version(reply.decode(errors="replace"), endpoint.server)

    async def call(self, call: Call[T]) -> T:
        """Run one call. See `converse` for what it raises."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._reset(loop)
        endpoint = self._endpoint or await self.endpoint()
        conversation = converse(call, endpoint.server, self._settings.retry_deadline, time.monotonic)
        step = next(conversation)
        try:
            while True:
                if isinstance(step, Command):
                    step = conversation.send(await self._pooled(endpoint, step))
                else:
                    await asyncio.sleep(step.seconds)
                    step = next(conversation)
        except StopIteration as answer:
            value: T = answer.value
            return value

    async def _pooled(self, endpoint: Endpoint, command: Command) -> Any:
        async with self._slots:
            connection = self._idle.pop() if self._idle else endpoint.async_connection()
            reply = await exchange(connection, command, endpoint.timeout)
            if connection.is_connected:
                self._idle.append(connection)
            else:
                await self._drop_idle(nowait=True)  # whatever broke this one has likely broken the idle ones
            return reply

    async def close(self) -> None:
        """Close the idle connections. The link can be used again."""
        if self._loop is asyncio.get_running_loop():
            await self._drop_idle(nowait=False)

    async def _drop_idle(self, *, nowait: bool) -> None:
        while self._idle:
            with contextlib.suppress(RedisError, OSError):  # TLS says goodbye, to a server that may not answer
                await self._idle.pop().disconnect(nowait=nowait)


async def exchange(connection: async_redis.AbstractConnection, command: Command, timeout: float) -> Any:
    """Send one command; give its reply or Failed. The connection stays connected only when it is fit for the next."""
    sent = clean = False
    try:
        if not connection.is_connected:
            async with asyncio.timeout(timeout + (connection.socket_connect_timeout or 0)):
                await connection.connect()  # redis-py limits the time to connect, but not the time to greet
        sent = True
        async with asyncio.timeout(timeout):
            await connection.send_packed_command(connection.pack_command(*command.parts), check_health=False)
            reply = await connection.read_response(disable_decoding=True)
        clean = True
        return reply
    except (RedisError, OSError) as error:
        clean = sent and isinstance(error, ResponseError)
        return Failed(error, sent)
    finally:
        if not clean:
            await connection.disconnect(nowait=True)


class Doorbell:
    """A connection of its own that waits for a queue partition's bell, so that no call waits behind it."""

    def __init__(self, link: AsyncLink, key: str) -> None:
        self._link = link
        self._key = key
        self._connection: async_redis.AbstractConnection | None = None

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds (> 0) for a ring. False: none came. A dead connection is noticed 3 s later.

        Raises:
            Unavailable: Redis cannot be reached; the next wait tries again.
        """
        endpoint = await self._link.endpoint()
        if self._connection is None:
            self._connection = endpoint.async_connection()
        command = Command((b"BLPOP", self._key, f"{timeout:.3f}"))
        reply = await exchange(self._connection, command, timeout + _BLOCK_MARGIN)
        if isinstance(reply, Failed):
            raise classify(reply.error, endpoint.server).error from reply.error
        return reply is not None

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
