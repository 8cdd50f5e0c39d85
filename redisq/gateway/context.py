"""What every part of the gateway is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from redisq.aclient import AsyncRedisQ, acting_for
from redisq.gateway.settings import GatewaySettings
from redisq.settings import Settings
from redisq.tokens import Grant


class Verifier(Protocol):
    """What knows the applications, and so can tell a genuine token."""

    def verify(self, token: str, now: float) -> Grant:
        """Give what a token allows, capped by what its application may do.

        Raises:
            TokenExpired, InvalidToken: it is not good, or not any more; `reason` says why.
            Unavailable: the registry of applications has not been seen for too long to tell.
        """


@dataclass(frozen=True, slots=True)
class Context:
    """The client that all of the gateway shares, which checks no token; who checks them; and the settings."""

    mq: AsyncRedisQ
    verifier: Verifier
    settings: Settings
    options: GatewaySettings

    def acting_for(self, application: str) -> AsyncRedisQ:
        """Give a client that acts in the name of an application whose grant has been checked."""
        return acting_for(self.mq, application)
