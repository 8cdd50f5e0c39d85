"""A gateway that asks nobody for a token serves this machine alone, which a browser on it is no proof of.

Any site that somebody here looks at can have the browser send requests to 127.0.0.1; those that need no permission
(a POST without a body, which purges or claims) get through. And a site may let its own name point to 127.0.0.1, so that
the browser takes the gateway for a part of the site. Both give themselves away: by Origin, and by Host.

A proxy on this machine may change Host; then the browser itself must say that a request comes from the origin that it
goes to, and that must be this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from redisq.errors import Forbidden
from redisq.gateway.errors import answer
from redisq.gateway.fields import values
from redisq.gateway.sites import READING, is_at

_REFUSED = (
    "Without tokens (REDISQ_AUTH=none) the gateway serves programs of its own machine: as localhost, 127.0.0.1 or "
    "[::1], and no pages of other sites but those in REDISQ_HTTP_CORS_ORIGINS."
)


class Home:
    """Refuses requests that come from pages of other sites. `origins` may send them all the same; * is any."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and not self._is_from_here(scope):
            await answer(scope, Forbidden(_REFUSED))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_from_here(self, scope: Scope) -> bool:
        hosts, origins, sites = (
            [value.decode("latin-1").lower() for value in values(scope, wanted)]
            for wanted in (b"host", b"origin", b"sec-fetch-site")
        )
        if not all(map(is_this_machine, hosts)):
            return False
        strangers = [one for one in origins if one not in self._origins and "*" not in self._origins]
        if sites not in ([], ["same-origin"]) and scope["method"] not in READING:
            return bool(origins) and not strangers
        own = sites == ["same-origin"]
        return all(
            any(is_at(origin, host) for host in hosts) or (own and is_this_machine(origin.partition("://")[2]))
            for origin in strangers
        )


def is_this_machine(host: str) -> bool:
    """Tell whether a host, with a port or without, always is the machine itself."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
