"""How many connections there are, in all and of each address, and how many requests of each client behind proxies."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from uvicorn._types import HTTPScope
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.server import ServerState

from redisq.gateway.server import addresses
from redisq.gateway.server.limits import Limits
from redisq.gateway.server.refusals import Refused


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: its address and port, under what it is counted, and whether it is a trusted proxy."""

    client: tuple[str, int] | None
    counted: str
    trusted: bool


class Connections(ServerState):
    """What the connections of one server share: its limits, and how many there are in all and of each address."""

    def __init__(self, options: Limits) -> None:
        super().__init__()
        self.options = options
        self.stopping = False
        self.count = 0
        self.of: Counter[str] = Counter()
        self.behind: Counter[str] = Counter()  # trusted proxies: requests under way of each client
        self.handshakes: set[asyncio.Task[None]] = set()

    def enter(self, transport: asyncio.Transport) -> Peer | None:
        """Count a new connection; None when there are too many. A trusted proxy stands for many clients."""
        options, told = self.options, get_remote_addr(transport)
        host = told[0] if told else ""
        trusted = addresses.trusted(addresses.parse(host), options.trusted_proxies)
        counted = addresses.neighbourhood(host)
        if self.stopping or self.count >= options.connections:
            return None
        if not trusted and self.of[counted] >= options.connections_per_address:
            return None
        self.count += 1
        self.of[counted] += 1
        return Peer((addresses.plain(host), told[1]) if told else None, counted, trusted)

    def begin(self, client: str) -> bool:
        """Count a request that a trusted proxy forwards for a client; False when that has too many under way.

        Of whom the proxy says nothing ("") there may be any number.
        """
        if client and self.behind[client] >= self.options.connections_per_address:
            return False
        self.behind[client] += 1
        return True

    def end(self, client: str) -> None:
        """Count such a request no more."""
        self.behind[client] -= 1
        if not self.behind[client]:
            del self.behind[client]

    def leave(self, peer: Peer) -> None:
        """Count a connection no more."""
        self.count -= 1
        self.of[peer.counted] -= 1
        if not self.of[peer.counted]:
            del self.of[peer.counted]


class Behind:
    """The requests under way that a trusted proxy forwards on one connection, each counted under its client."""

    def __init__(self, crowd: Connections) -> None:
        self._crowd = crowd
        self._clients: deque[str] = deque()  # the first request's first

    def begin(self, scope: HTTPScope, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Believe what the proxy says of a request, and count it under its client until it is answered.

        Raises:
            Refused: that client has too many under way.
        """
        forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
        proxy, client = scope["client"], ""
        if forwarded and proxy:
            client = addresses.client_of(proxy[0], forwarded, self._crowd.options.trusted_proxies)
            scope["client"] = (client, 0)
        counted = addresses.neighbourhood(client) if client else ""
        if not self._crowd.begin(counted):
            raise Refused(503, "there are too many requests under way from this address")
        self._clients.append(counted)
        schemes = [value for name, value in headers if name == b"x-forwarded-proto"]
        if schemes and schemes[-1].lower() in (b"http", b"https"):
            scope["scheme"] = "https" if schemes[-1].lower() == b"https" else "http"

    def end_first(self) -> None:
        """Count the one that was answered no more, if there is any."""
        if self._clients:
            self._crowd.end(self._clients.popleft())

    def end_all(self) -> None:
        """Count none of them any more."""
        while self._clients:
            self.end_first()
