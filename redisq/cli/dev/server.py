"""The development Redis: started, started again on the same data when it dies, and looked at."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from redisq import embedded
from redisq.async_client import AsyncRedisQ, run
from redisq.cli.dev.folder import Folder
from redisq.cli.dev.state import Journal, Queue
from redisq.embedded.folder import STATE_FILE
from redisq.embedded.server import EmbeddedServer
from redisq.errors import RedisQError, UpgradeNeeded
from redisq.model.queue import QueueStats
from redisq.operations import applications
from redisq.settings import Settings
from redisq.tokens.scopes import EVERYTHING

_LOOK = 0.5  # seconds between looks whether the server lives


class Server:
    """The server of a folder. It is shared with every process that uses the folder's URL."""

    def __init__(self, folder: Folder, journal: Journal) -> None:
        self._folder = folder
        self._journal = journal
        self._server: EmbeddedServer | None = None
        self.address = ""

    def __str__(self) -> str:
        server = self._server
        return f"{server.kind} {server.version}" if server else "no Redis"

    @property
    def place(self) -> str:
        """The address without what nobody need see, such as a password."""
        parts = urlsplit(self.address)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    async def start(self) -> None:
        """Start the server, or attach to the running one, and set `address`.

        `address` stays the same when the server is replaced, unless the server has no socket, as fakeredis, or the
        folder's path is too long for one.

        Raises:
            Unavailable, InvalidSettings: there is none.
        """
        server = await asyncio.to_thread(embedded.shared, self._folder.url)
        if server is self._server:
            return
        self._server = server
        parts = urlsplit(server.url)
        link = self._folder.link(unquote(parts.path)) if parts.scheme == "unix" else None
        self.address = f"unix://{quote(link)}" if link else server.url

    async def keep(self, moved: Callable[[str], None]) -> None:
        """Start the server again whenever it is gone; call `moved` when its address is another one then."""
        said = ""
        while True:
            await asyncio.sleep(_LOOK)
            server, address = self._server, self.address
            try:
                await self.start()
            except (RedisQError, OSError) as error:
                self._server = None
                if said != (said := str(error)):
                    self._journal.say(f"Redis is gone and does not start again: {error}", "ERROR")
                continue
            said = ""
            if self._server is not server:
                self._journal.say("Redis was gone; it runs again, on the same data", "WARNING")
            if self.address != address:
                moved(self.address)

    async def close(self) -> bool:
        """End the server; False when it goes on, because other processes use it."""
        if self._server is None:
            return True
        await asyncio.to_thread(self._server.close)
        with contextlib.suppress(OSError):
            return (self._server.directory / STATE_FILE).stat().st_size == 0
        return True


class Looks:
    """Looks at all queues, through one client as long as the address stays.

    Settings come from the environment, but for the master key, with which the application is enrolled.
    """

    def __init__(self, master_key: str) -> None:
        self._master_key = SecretStr(master_key)
        self._client: AsyncRedisQ | None = None
        self._address = ""
        self._before: dict[str, QueueStats] = {}
        self._at = 0.0
        self._enrolled = False

    async def take(self, address: str) -> list[Queue]:
        """Look at the queues. Rates are since the last look, 0 at first.

        Raises:
            RedisQError: Redis does not answer, or refuses.
        """
        if self._client is None or address != self._address:
            await self.close()
            settings = Settings(url=address, retry_deadline=0.0, master_key=self._master_key)
            self._client, self._address = AsyncRedisQ(settings=settings), address
            self._enrolled = False
        if not self._enrolled:
            await _enrol(self._client)
            self._enrolled = True
        found: dict[str, QueueStats] = {}
        for name in await self._client.queues():
            with contextlib.suppress(UpgradeNeeded):  # that one is for a newer redisq
                found[name] = await self._client.stats(name)
        now = time.monotonic()
        queues = [Queue.of(stats, self._rate(stats, now)) for stats in found.values()]
        self._before, self._at = found, now
        return queues

    def _rate(self, stats: QueueStats, now: float) -> float:
        before = self._before.get(stats.queue)
        return max(0, stats.completed - before.completed) / (now - self._at) if before else 0.0

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()


async def _enrol(client: AsyncRedisQ) -> None:
    """Let the gateway know the development application."""
    known = client.settings.credentials()
    if known is not None:
        await run(client, lambda _: applications.enrol(client.settings, known.app, known.kid, EVERYTHING))
