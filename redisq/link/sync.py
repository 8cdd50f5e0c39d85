"""A link to Redis for threads: plain redis-py connections, and conversations held over them.

A link keeps its connections, last used first, at most `max_connections`. One on which anything went wrong but an error
reply is closed, never used again, so that no late answer can reach another call; the idle ones go with it, and those of
all links after an outage, so that no call finds out about each of them anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, NoReturn, TypeVar

import redis.connection as sync_redis
from redis.exceptions import RedisError, ResponseError

from redisq.link.circuit import Permit
from redisq.link.conversation import (
    WITHHELD,
    Command,
    Conversation,
    Failed,
    Parts,
    Pause,
    Tried,
    busy,
    converse,
    once,
    opening,
)
from redisq.link.endpoint import Endpoint
from redisq.link.faults import is_starved
from redisq.link.idle import is_quiet
from redisq.link.packing import pack
from redisq.runtime import failpoints
from redisq.settings import Settings
from redisq.store.call import Call

T = TypeVar("T")


class Link:
    """Runs calls on Redis for threads. Safe to share between threads, and after a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reset()
        _links.add(self)

    def _reset(self) -> None:
        self._idle: list[sync_redis.AbstractConnection] = []
        self._trusted: Permit | None = None  # under which the idle ones were connected
        self._slots: SimpleQueue[None] = SimpleQueue()  # written in C, as no semaphore is: 0.2 us instead of 2.5
        for _ in range(self._settings.max_connections):
            self._slots.put(None)
        self._endpoint: Endpoint | None = None
        self._lock = threading.Lock()

    def endpoint(self) -> Endpoint:
        """Return the endpoint, found on first use."""
        if self._endpoint is None:
            with self._lock:
                self._endpoint = self._endpoint or Endpoint.of(self._settings)
        return self._endpoint

    def call(self, call: Call[T], deadline: float | None = None) -> T:
        """Run one call, retried for `deadline` seconds, or as the settings say. See `converse` for what it raises."""
        server, since = self.endpoint().known(), time.monotonic()
        command = opening(call, server, since, strict=self._settings.strict)
        if command is None:
            return self._hold(self._about(call, deadline))
        outcome = self._exchange(command)
        if outcome is WITHHELD or isinstance(outcome, Failed):
            return self._hold(self._about(call, deadline, Tried(command, outcome, since)))
        return call.decode(outcome)

    def command(self, *parts: bytes | str | int) -> Any:
        """Send one command of the server's administration, once. See `once` for what it raises."""
        deadline, server = self._settings.retry_deadline, self.endpoint().known()
        return self._hold(once(parts, server, deadline, time.monotonic))

    def begin(self, call: Call[T], deadline: float | None = None) -> Begun[T]:
        """Send a call, and leave its answer for later. What it raises is raised then."""
        conversation = self._about(call, deadline)
        try:
            step = conversation.send(None)
            while not (isinstance(step, Command) and call.script.sha in step.parts):  # what has to be known before
                step = conversation.send(self._do(step))
        except Exception as error:
            return Begun(partial(_raise, error))
        sent = self._send(step)

        def finish() -> T:
            return self._hold(conversation, self._receive(sent) if isinstance(sent, _Sent) else sent)

        def close() -> None:
            if isinstance(sent, _Sent):
                sent.let_go(clean=False)
            conversation.close()

        return Begun(finish, close)

    def _about(self, call: Call[T], deadline: float | None, tried: Tried | None = None) -> Conversation[T]:
        settings, server = self._settings, self.endpoint().known()
        deadline = settings.retry_deadline if deadline is None else deadline
        return converse(call, server, deadline, time.monotonic, strict=settings.strict, tried=tried)

    def _hold(self, conversation: Conversation[T], heard: Any = None) -> T:
        """Hold a conversation to its end; one that has begun goes on with what was `heard`."""
        try:
            step = conversation.send(heard)
            while True:
                step = conversation.send(self._do(step))
        except StopIteration as answer:
            value: T = answer.value
            return value
        finally:
            conversation.close()  # now, not when its traceback goes: it may hold the only permit there is

    def _do(self, step: Command | Pause) -> Any:
        return self._exchange(step) if isinstance(step, Command) else time.sleep(step.seconds)

    def _exchange(self, command: Command) -> Any:
        sent = self._send(command)
        return self._receive(sent) if isinstance(sent, _Sent) else sent

    def _send(self, command: Command) -> Any:
        """Send a command on a connection that is held until its reply was received; or give what came instead."""
        try:
            self._slots.get(timeout=self._settings.command_timeout)
        except Empty:
            return busy(self._settings.max_connections) if command.permit.stands else WITHHELD
        sent = None
        try:
            if not command.permit.stands:
                return WITHHELD
            if command.permit is not self._trusted:
                self.close()
                self._trusted = command.permit
            sent = self._sent(self._take(), command.parts)
            return sent
        finally:
            if not isinstance(sent, _Sent):
                self._slots.put(None)

    def _sent(self, idle: sync_redis.AbstractConnection | None, parts: Parts) -> _Sent | Failed:
        connection = idle or self.endpoint().connection()
        begun = done = starved = False
        try:
            if idle is None:  # an idle one is connected; to have redis-py find that out takes its time
                connection.connect()
            failpoints.reach("client.before_send")
            begun = True
            connection.send_packed_command((pack(parts),), check_health=False)
            failpoints.reach("client.after_send")
            done = True
            return _Sent(self, connection)
        except (RedisError, OSError) as error:
            starved = not begun and is_starved(error)
            odd = not begun and self.endpoint().is_odd(error)
            return Failed(self.endpoint().explained(error) if odd else error, begun)
        finally:
            if not done:
                self._drop(connection, starved)

    def _receive(self, sent: _Sent) -> Any:
        """Return the reply to what was sent, or Failed."""
        clean = False
        try:
            reply = sent.connection.read_response(disable_decoding=True)
            clean = True
            return reply
        except (RedisError, OSError) as error:
            clean = isinstance(error, ResponseError)
            return Failed(error, sent=True)
        finally:
            sent.let_go(clean)

    def _drop(self, connection: sync_redis.AbstractConnection, starved: bool = False) -> None:
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


class _Sent:
    """A command that was sent. It holds a connection, and one of the link's slots, until it is let go."""

    __slots__ = ("_link", "connection")

    def __init__(self, link: Link, connection: sync_redis.AbstractConnection) -> None:
        self._link: Link | None = link
        self.connection = connection

    def let_go(self, clean: bool) -> None:
        """Give the connection back if it is fit for the next command, else close it."""
        link, self._link = self._link, None
        if link is None:
            return
        if clean:
            link._idle.append(self.connection)
        else:
            link._drop(self.connection)
        link._slots.put(None)


@dataclass(frozen=True)
class Begun(Generic[T]):
    """A call that was sent, with its answer to come. It holds a connection until it is finished or closed."""

    finish: Callable[[], T]
    """wait for the answer; raises what `Link.call` does"""
    close: Callable[[], None] = lambda: None
    """forget the answer, and the connection that it would come on"""


def _raise(error: Exception) -> NoReturn:
    raise error


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _part_from_parent() -> None:
    """Leave the connections, and locks that other threads held, to the parent, before the child can use a link."""
    for link in _links:
        link._reset()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_part_from_parent)
