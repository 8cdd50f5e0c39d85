"""`queue`: while it is open, all that is made or used in this process has a private server, away from any other."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from weakref import WeakKeyDictionary

from pydantic_settings import SettingsConfigDict

from redisq import embedded, settings, store
from redisq.async_client import AsyncRedisQ
from redisq.client import RedisQ
from redisq.errors import TestingError
from redisq.link.aio import AsyncLink
from redisq.link.sync import Link
from redisq.operations.caller import Caller, limits_of
from redisq.operations.options import switch_of, whole_of
from redisq.settings import Settings
from redisq.store.call import BATCH, new_nonce
from redisq.testing.counterparts import Counterparts
from redisq.testing.server import Server, server
from redisq.testing.virtual_clock import Clock
from redisq.urls import Url
from redisq.worker.worker import Worker

_YEAR = 31_536_000.0  # seconds: what finished on the way is still to be seen when the clock has gone far

_open: Opened | None = None


class _Plain(Settings):
    """The defaults, whatever the environment says."""

    model_config = SettingsConfigDict(env_prefix="\0")  # with which no variable's name begins


class Opened:
    """A queue that is open: where it is, its clock, a client of its own."""

    def __init__(self, url: str, memory: Server | None) -> None:
        self.memory = memory
        nobody = dict.fromkeys(("app_id", "app_secret", "master_key"))
        self._here = {"url": Url(url), "namespace": f"testing-{uuid.uuid4().hex[:12]}", "auth": "none", **nobody}
        self.settings = _Plain(retention=_YEAR, dead_retention=_YEAR).model_copy(update=self._here)
        self.counterparts = Counterparts(self.settings_instead)
        self.caller, self.link = Caller(self.settings), self.counterparts.of(Link(self.settings))
        #: how many of the clock's spans a worker's schedules have had
        self.ticked: WeakKeyDictionary[Worker, int] = WeakKeyDictionary()

    @property
    def clock(self) -> Clock:
        """Its virtual clock.

        Raises:
            TestingError: it is on a real server, which has none.
        """
        if self.memory is None:
            raise TestingError("A real server's clock cannot be moved: use the in-memory queue for what takes time.")
        return self.memory.clock

    def settings_instead(self, given: Settings | None) -> Settings:
        """Return what counts in place of the settings of a client or worker: theirs, but for where and who."""
        return self.settings if given is None else given.model_copy(update=self._here)


def current() -> Opened:
    """Return the queue that is open.

    Raises:
        TestingError: none is.
    """
    if _open is None:
        raise TestingError("No queue is open: this works inside of `with testing.queue() as mq:`.")
    return _open


class _Clock:
    """The virtual clock of the queue that is open. It stands still but for what moves it.

    Raises:
        TestingError: no queue is open, or it is on a real server.
    """

    @property
    def now(self) -> datetime:
        """The time, aware and in UTC."""
        return current().clock.now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; the ticks of schedules in this time come with the next `run_until_idle`.

        Raises:
            InvalidArgument: it takes more than 0, at most a year.
        """
        current().clock.advance(seconds)


clock = _Clock()


class queue:  # noqa: N801
    """A context manager that opens a private in-memory queue, and gives a client of it.

    That is a `RedisQ`, or an `AsyncRedisQ` with `async with`. Until it is closed, every client and every worker of this
    process uses that queue, also one that was made before, wherever it would go otherwise and whatever its namespace;
    no access is checked, and no setting is read from the environment. Settings that are given in Python count. The
    server is fakeredis with redisq's own scripts; its time is `clock`. With `real` it is an embedded Redis or Valkey
    instead, whose time goes on as ever.

    Raises:
        TestingError: one is open already. InvalidArgument: `real` is neither True nor False.
        ImportError: fakeredis is missing; the text says how to install it.
        Unavailable: there is no server to start for `real`.
    """

    def __init__(self, *, real: bool = False) -> None:
        self._real = switch_of("real", real)
        self._closing = ExitStack()

    def __enter__(self) -> RedisQ:
        self._begin()
        return self._closing.enter_context(RedisQ())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    async def __aenter__(self) -> AsyncRedisQ:
        self._begin()
        return AsyncRedisQ()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for link in current().counterparts.links(AsyncLink):
                await link.close()
        finally:  # also when the test is cancelled here: the next one opens a queue of its own
            self._closing.close()

    def _begin(self) -> None:
        global _open
        if _open is not None:
            raise TestingError("A queue is open already: they cannot be nested.")
        memory = None if self._real else server()
        if memory is not None:
            memory.reset()
        _open = Opened(embedded.shared("embedded://").url if memory is None else memory.url, memory)
        settings.instead = _open.settings_instead
        self._closing.callback(_close)
        self._closing.enter_context(_open.counterparts.in_place())


def _close() -> None:
    global _open
    settings.instead = _open = None


def abandon(queue: str, count: int = 1) -> list[str]:
    """Claim messages as a worker does that dies at once, and return their ids: they are delivered again later.

    Their leases lapse when the clock has gone forward by one, which `run_until_idle` does.

    Raises:
        TestingError: no queue is open. InvalidQueueName, InvalidArgument: see there.
    """
    opened = current()
    where, limits = opened.caller.keys_of(queue), limits_of(opened.settings)
    count = whole_of("count", count, 1, BATCH)
    claim = opened.link.call(store.deliveries.claim(where, limits, f"abandoned-{new_nonce()}", new_nonce(), count))
    return [store.keys.id_text(claimed.receipt.id) for claimed in claim.deliveries]
