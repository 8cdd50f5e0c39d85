"""The gateway's view of the registry of applications: read again every few seconds, and closed when it is too old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping

from redisq import store
from redisq.async_client import AsyncRedisQ, run
from redisq.errors import Unavailable
from redisq.gateway.settings import GatewaySettings
from redisq.model.application import Records
from redisq.operations.applications import masters_of
from redisq.operations.flow import Flow
from redisq.store import keys
from redisq.tokens import lineage
from redisq.tokens.applications import Application, Registry
from redisq.tokens.token import Grant

log = logging.getLogger("redisq.gateway")

_STRAYED = (
    "was not made of the one seen before, but of an old one that somebody put back, or that a failover or a backup "
    "brought back; `redisq app create --replace` makes it anew, and a gateway that starts takes it as it is"
)
_OVERTAKEN = (
    f"names no record as old as the one seen before: it was changed more than {lineage.MOST:,} times in between, or "
    "made anew by a clock that is behind, so nobody can tell what it was made of; look at it (`redisq app show`), then "
    "start the gateway again, which takes it as it is, or make it anew by `redisq app create --replace`"
)


class LiveRegistry:
    """Tells what tokens allow, by a snapshot of the registry that follows it every `registry_poll` seconds.

    A gateway that has not seen the registry for `registry_stale_after` seconds cannot know what was revoked meanwhile,
    so it lets nobody in. Once in that time it reads all of it, whether or not Redis says that it has changed: whoever
    can write there can say that it has not. `clock` gives seconds that only go forward.

    Raises:
        InvalidSettings: REDISQ_MASTER_KEY is not set.
    """

    def __init__(
        self, mq: AsyncRedisQ, options: GatewaySettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mq = mq
        self._options = options
        self._clock = clock
        self._masters = masters_of(mq.settings)
        self._audience = mq.settings.token_audience
        self._generation = b""
        self._registry: Registry | None = None
        self._records: Mapping[str, bytes] = {}
        self._seen_at = 0.0
        self._read_at = -math.inf
        self._failing = False
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow the registry. A Redis that is away keeps nothing from starting; until it is back, nobody
        gets in."""
        first = asyncio.Event()
        self._following = asyncio.create_task(self._follow(first))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), self._options.registry_poll)

    async def stop(self) -> None:
        """End following it."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            self._following = None

    def verify(self, token: str, now: float) -> Grant:
        """Return what a token allows, capped by the allowance of its application.

        Raises:
            TokenExpired, InvalidToken: it is not good, or not any more; `reason` says why.
            Unavailable: the registry has not been seen for too long to tell.
        """
        return self.snapshot().verify(token, now, self._audience)

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:
        """Return the application that a secret belongs to. Whatever is wrong takes as long, and is told alike.

        Raises:
            InvalidCredentials: id and secret do not belong together, or it is disabled.
            Unavailable: the registry has not been seen for too long to tell.
        """
        return self.snapshot().authenticate(app_id, secret, now)

    def snapshot(self) -> Registry:
        """Return the registry as it was seen last.

        Raises:
            Unavailable: that was too long ago.
        """
        registry = self._registry
        if registry is None or self._clock() - self._seen_at > self._options.registry_stale_after:
            raise Unavailable(
                "The registry of applications cannot be read, so nobody can be told from anybody else. Is Redis there?"
            )
        return registry

    async def refresh(self) -> None:
        """Read the registry now.

        Raises:
            Unavailable: Redis cannot be asked; what was seen last stays, until it is too old.
        """
        began = self._clock()  # what is read is not older than this
        whole = began - self._read_at >= self._options.registry_stale_after
        await run(self._mq, lambda _: self._read(None if whole else self._generation))
        self._seen_at = began
        if whole:
            self._read_at = began

    def _read(self, known: bytes | None) -> Flow[None]:
        settings = self._mq.settings
        found: Records | None = yield store.applications.applications(keys.apps_key(settings.namespace), known)
        if found is None:
            return
        self._generation, before = found.generation, self._registry
        if before is not None and found.records == self._records:
            return
        self._records = found.records
        self._registry = Registry(settings.namespace, self._masters, found.records, before)
        self._complain(before, self._registry)

    def _complain(self, before: Registry | None, now: Registry) -> None:
        """Tell of records that do not count, once each time that something about them changes."""
        for what, names, old in (
            ("does not verify with REDISQ_MASTER_KEY", now.unverified, before and before.unverified),
            ("is older than one seen before; was a backup restored, or a revocation undone", now.replayed, None),
            (_STRAYED, now.strayed, None),
            (_OVERTAKEN, now.overtaken, None),
        ):
            if names and names != old:
                log.warning("the record of application %s %s: it counts as none", ", ".join(names[:10]), what)

    async def _follow(self, first: asyncio.Event) -> None:
        while True:
            try:
                await self.refresh()
                if self._failing:
                    log.warning("the registry of applications can be read again")
                self._failing = False
            except Exception as error:  # whatever it is, it shall not end the following
                if not self._failing:
                    log.warning("the registry of applications cannot be read: %s", error)
                self._failing = True
            first.set()
            await asyncio.sleep(self._options.registry_poll)
