"""What every part of the gateway is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from redisq.async_client import AsyncRedisQ, acting_for
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings
from redisq.gateway.work.waits import Waits
from redisq.settings import Settings
from redisq.tokens.applications import Application
from redisq.tokens.token import Grant

_MOST = 10_000  # clients; each is small


class Verifier(Protocol):
    """What knows the applications, and so can tell a genuine token."""

    def verify(self, token: str, now: float) -> Grant:
        """Return what a token allows, capped by what its application may do.

        Raises:
            TokenExpired, InvalidToken: it is not good, or not any more; `reason` says why.
            Unavailable: the registry of applications has not been seen for too long to tell.
        """

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:
        """Return the application that a secret belongs to.

        Raises:
            InvalidCredentials: they do not belong together, or it is disabled.
            Unavailable: as above.
        """

    def snapshot(self) -> object:
        """Return what is known now.

        Raises:
            Unavailable: as above.
        """


@dataclass(frozen=True, slots=True)
class Context:
    """The client that all of the gateway shares, which checks no token; who checks them; and the settings.

    When `stopping` is set, all `waits` end.
    """

    mq: AsyncRedisQ
    verifier: Verifier
    settings: Settings
    options: GatewaySettings
    waits: Waits = field(default_factory=Waits)
    stopping: Stopping = field(default_factory=Stopping)
    farewells: list[Callable[[], Awaitable[None]]] = field(default_factory=list)  # to call when the gateway has stopped
    readings: list[Callable[[], object]] = field(default_factory=list)  # of files, at the start
    _clients: dict[str, AsyncRedisQ] = field(default_factory=dict, repr=False)

    def acting_for(self, application: str) -> AsyncRedisQ:
        """Return a client that acts in the name of an application whose grant has been checked."""
        found = self._clients.get(application)
        if found is None:
            if len(self._clients) >= _MOST:
                self._clients.clear()
            found = self._clients[application] = acting_for(self.mq, application)
        return found
