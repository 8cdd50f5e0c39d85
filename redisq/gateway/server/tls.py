"""TLS for connections that are counted first: asyncio itself shows one only when hands have been shaken.

Otherwise connections that never say anything would be neither in the number of all nor in that of their address. It
needs asyncio's own loop: uvloop reads at once what comes, even from a transport that is paused when it is first shown,
and the client's first words would never reach TLS.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from redisq.gateway.server.connection import Connection
from redisq.gateway.server.connections import Connections, Peer

log = logging.getLogger("redisq.gateway.server")


class Handshake(asyncio.Protocol):
    """Counts a connection, begins TLS on it within `head_timeout`, and hands it over to what `connect` makes."""

    def __init__(self, context: ssl.SSLContext, crowd: Connections, connect: Callable[[Peer], Connection]) -> None:
        self._context = context
        self._crowd = crowd
        self._connect = connect
        self._early = bytearray()  # what came between the end of the handshake and the hand-over
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or hang up."""
        plain = cast(asyncio.Transport, transport)
        peer = self._crowd.enter(plain)
        if peer is None:
            plain.abort()
            return
        plain.pause_reading()
        task = asyncio.get_running_loop().create_task(self._shake(plain, peer))
        self._crowd.handshakes.add(task)
        task.add_done_callback(self._crowd.handshakes.discard)

    def data_received(self, data: bytes) -> None:
        """Keep what came early."""
        self._early += data

    def eof_received(self) -> None:
        """Note that the client has gone."""
        self._gone = True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that the client has gone."""
        self._gone = True

    async def _shake(self, plain: asyncio.Transport, peer: Peer) -> None:
        options, loop, handed_over = self._crowd.options, asyncio.get_running_loop(), False
        try:
            secure = await loop.start_tls(
                plain,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=options.head_timeout,
                ssl_shutdown_timeout=options.write_timeout,
            )
            if secure is not None and not self._gone:
                handed_over = True
                self._hand_over(secure, peer)
        except OSError as error:  # of ssl, too
            log.debug("no handshake: %s", type(error).__name__)
        finally:
            if not handed_over:
                plain.abort()
                self._crowd.leave(peer)

    def _hand_over(self, secure: asyncio.Transport, peer: Peer) -> None:
        connection = self._connect(peer)
        secure.set_protocol(connection)
        connection.connection_made(secure)
        if self._early:
            connection.data_received(bytes(self._early))
