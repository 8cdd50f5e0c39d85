"""A gateway that asks nobody for a token serves this machine alone, which a browser on it is no proof of.

Any site that somebody here looks at can have the browser send requests to 127.0.0.1; those that need no permission
(a POST without a body, which purges or claims) get through. And a site may let its own name point to 127.0.0.1, so that
the browser takes the gateway for a part of the site. Both give themselves away: by Origin, and by Host, see `hosts`.

A proxy on this machine may change Host; then the browser itself must say that a request comes from the origin that it
goes to, and that must be this machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from redisq.errors import Forbidden
from redisq.gateway.access.sites import READING, is_at
from redisq.gateway.requests import hosts
from redisq.gateway.requests.errors import answer
from redisq.gateway.requests.fields import values

_REFUSED = (
    "Without tokens (REDISQ_AUTH=none) the gateway serves programs of its own machine: as localhost, by an address or "
    "by a name in REDISQ_HTTP_HOSTS, and no pages of other sites but those in REDISQ_HTTP_CORS_ORIGINS."
)


class LocalOnly:
    """Refuses requests that come from pages of other sites. `origins` may send them all the same; * is any.

    `names` are those that this machine goes by, beside its addresses and localhost.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], names: Sequence[str]) -> None:
        self._app = app
        self._names = names
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and not self._is_from_here(scope):
            await answer(scope, Forbidden(_REFUSED))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_from_here(self, scope: Scope) -> bool:
        if not hosts.all_known(scope, self._names):
            return False
        named, origins, sites = (
            [value.decode("latin-1").lower() for value in values(scope, wanted)]
            for wanted in (b"host", b"origin", b"sec-fetch-site")
        )
        strangers = [one for one in origins if one not in self._origins and "*" not in self._origins]
        if sites not in ([], ["same-origin"]) and scope["method"] not in READING:
            return bool(origins) and not strangers
        own = sites == ["same-origin"]
        return all(
            any(is_at(origin, host) for host in named)
            or (own and hosts.is_known(origin.partition("://")[2], self._names))
            for origin in strangers
        )
