"""The server under the gateway: uvicorn's configuration and lifespan, and connections that are held to their limits.

uvicorn's own `Server` is not used: it raises the signal that stopped it once more, asks ten times a second whether to
stop, gives handshakes of TLS a minute, and waits for connections that nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from typing import Any

from uvicorn.config import Config

from redisq.errors import InvalidSettings, RedisQError
from redisq.gateway.server.connection import Connection
from redisq.gateway.server.connections import Connections, Peer
from redisq.gateway.server.limits import Limits
from redisq.gateway.server.refusals import Refused
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.server.tls import Handshake
from redisq.runtime import loops, process

log = logging.getLogger("redisq.gateway.server")

_BACKLOG = 2048
_LOOK = 1.0  # seconds between two looks at all connections, less where a limit is short
_CUT = 2.0  # seconds for requests that were cut to end
_FILES = 256  # beside connections: to Redis, logs, what Python has open


def serve(app: Any, options: Limits, *, stopping: Stopping, on_ready: Callable[[str], None] | None = None) -> int:
    """Serve an ASGI application until `stopping` is set or a signal asks to stop; give the exit code.

    It is 0 when all requests that were under way have ended, 1 when some had to be cut. A second signal cuts them
    without waiting. `on_ready` is told the address, with the real port, when connections are taken.

    Raises:
        InvalidSettings: it cannot listen there, or the certificate cannot be used.
        RedisQError: the application could not start.
    """
    _make_room(options.connections + _FILES)
    return loops.run(_serve(Server(app, options, stopping), on_ready), _loop_factory(options))


@asynccontextmanager
async def running(app: Any, options: Limits, stopping: Stopping | None = None) -> AsyncIterator[str]:
    """Serve an ASGI application on the loop that runs, and give the address; at the end, stop as `serve` does."""
    server = Server(app, options, Stopping() if stopping is None else stopping)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


async def _serve(server: Server, on_ready: Callable[[str], None] | None) -> int:
    with process.catching(lambda _: server.interrupt(), asyncio.get_running_loop()):
        await server.start()
        log.info("listening on %s", server.address)
        if on_ready is not None:
            on_ready(server.address)
        await server.stopping.wait()
        return 0 if await server.stop() else 1


class Server:
    """Listens, hands requests to the application, and looks after the connections."""

    def __init__(self, app: Any, options: Limits, stopping: Stopping) -> None:
        self._app = app
        self._options = options
        self.stopping = stopping
        self.address = ""
        self._crowd = Connections(options)
        self._hurry = asyncio.Event()

    async def start(self) -> None:
        """Start the application, then take connections. See `serve` for what it raises."""
        config = self._config()
        self._lifespan = config.lifespan_class(config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise RedisQError("The gateway's application could not start; its log says why.")
        self._set_date()
        try:
            await self._listen(config)
        except BaseException:
            await self._lifespan.shutdown()
            raise
        self._care = asyncio.create_task(self._look_after_all())

    def _config(self) -> Config:
        options = self._options
        if options.private_key and not options.certificate:
            raise InvalidSettings("REDISQ_HTTP_PRIVATE_KEY is set, but REDISQ_HTTP_CERTIFICATE is not.")
        config = Config(
            self._app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,  # it would hold what stands in queries
            server_header=False,
            proxy_headers=False,  # see Connection, which believes addresses alone
            ssl_certfile=options.certificate,
            ssl_keyfile=options.private_key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "strerror", None) or "it is not a certificate with its key, in PEM"
            raise InvalidSettings(f"REDISQ_HTTP_CERTIFICATE, REDISQ_HTTP_PRIVATE_KEY: {reason}") from None
        return config

    async def _listen(self, config: Config) -> None:
        options, loop, crowd, tls = self._options, asyncio.get_running_loop(), self._crowd, config.ssl

        def connect(peer: Peer | None = None) -> Connection:
            return Connection(config, crowd, self._lifespan.state, loop, peer)

        if tls is not None and not isinstance(loop, asyncio.BaseEventLoop):
            raise RuntimeError("TLS needs asyncio's own event loop; see redisq.gateway.server.tls")
        factory = connect if tls is None else partial(Handshake, tls, crowd, connect)
        try:
            self._listener = await loop.create_server(factory, options.host, options.port, backlog=_BACKLOG)
        except OSError as error:
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror  # a name that is not found has none
            raise InvalidSettings(f"REDISQ_HTTP_HOST, REDISQ_HTTP_PORT: cannot listen there: {reason}") from None
        host, port = self._listener.sockets[0].getsockname()[:2]
        self.address = f"http{'s' * bool(tls)}://{f'[{host}]' if ':' in host else host}:{port}"

    def interrupt(self) -> None:
        """Stop; the second time, without waiting for requests."""
        if self.stopping.is_set:
            self._hurry.set()
        self.stopping.set()

    async def stop(self) -> bool:
        """Take nothing more, let requests end, cut those that outlast the grace; give whether there was none."""
        self.stopping.set()
        self._crowd.stopping = True
        self._listener.close()
        for handshake in self._crowd.handshakes:
            handshake.cancel()
        for connection in self._members():
            connection.shutdown()
        busy = list(self._crowd.tasks)
        if busy:
            log.info("%d requests are under way", len(busy))
        clean = await self._all_ended(self._options.grace)
        if not clean:
            log.warning("cutting %d requests that have not ended", len(self._crowd.tasks))
            self._cut()
            await self._all_ended(_CUT)
        self._care.cancel()
        await asyncio.gather(self._care, return_exceptions=True)
        for connection in self._members():
            connection.transport.abort()
        await asyncio.gather(*self._crowd.handshakes, return_exceptions=True)
        await self._listener.wait_closed()
        await self._lifespan.shutdown()
        return clean

    def _members(self) -> list[Connection]:
        return [connection for connection in self._crowd.connections if isinstance(connection, Connection)]

    def _cut(self) -> None:
        for connection in self._members():
            connection.cut(Refused(503, "the server is being stopped"))

    async def _all_ended(self, seconds: float) -> bool:
        """Wait until no request runs and nothing is left to send."""
        hurry, end = asyncio.ensure_future(self._hurry.wait()), time.monotonic() + seconds
        try:
            while self._crowd.tasks or self._crowd.connections:
                if time.monotonic() >= end or hurry.done():
                    return not self._crowd.tasks
                await asyncio.wait([hurry], timeout=0.02)
            return True
        finally:
            hurry.cancel()

    async def _look_after_all(self) -> None:
        """Look at all connections again and again: one pass costs each of them a microsecond."""
        loop, pause = asyncio.get_running_loop(), self._pause()
        while True:
            await asyncio.sleep(pause)
            self._set_date()
            now = loop.time()
            for connection in self._members():
                try:
                    connection.look(now)
                except Exception:
                    log.exception("a connection could not be looked at, and is cut")
                    connection.transport.abort()

    def _pause(self) -> float:
        options = self._options
        shortest = min(
            options.head_timeout,
            options.body_idle_timeout,
            options.body_timeout,
            options.write_timeout,
            options.keep_alive,
            options.request_timeout,
        )
        return min(_LOOK, shortest / 4)

    def _set_date(self) -> None:
        self._crowd.default_headers = [(b"date", formatdate(usegmt=True).encode("ascii"))]


def _make_room(files: int) -> None:
    """Allow this process as many open files as it may have connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        most = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < files:
            log.warning("%d open files are allowed, fewer than REDISQ_HTTP_CONNECTIONS needs", most)


def _loop_factory(options: Limits) -> loops.Factory | None:
    """Give uvloop's factory when it is installed, but for TLS, see `Handshake`."""
    return None if options.certificate else loops.fastest()
