"""Who may do what: every request of a queue passes here, with its token, before anything else is looked at."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from starlette.requests import Request
from starlette.types import Scope

from redisq.errors import Forbidden, InvalidToken
from redisq.gateway.access.definitions import Definitions
from redisq.gateway.access.limits import Limits
from redisq.gateway.access.sites import changes_from_afar
from redisq.gateway.context import Context
from redisq.gateway.middleware import APPLICATION
from redisq.gateway.requests import hosts
from redisq.gateway.requests.fields import credentials, values
from redisq.gateway.server.addresses import parse, trusted
from redisq.tokens.scopes import is_among
from redisq.tokens.token import MAX_TTL, OPS, Grant

log = logging.getLogger("redisq.gateway")

#: What anybody may do on a queue that is open; never to change it, nor to look at it as a whole.
OPEN = frozenset({"queue", "get", "delete", "work"})
_FOR_NOBODY = ""  # the application of who shows no token
#: What is known of who has not been asked.
NOBODY = Grant(_FOR_NOBODY, frozenset(), (), 0, 0, "")
#: Why a genuine token is refused. Its holder guesses nothing, and shall not lock out whoever shares the address.
_GENUINE = frozenset({"expired", "not_yet", "audience", "revoked"})


class Guard:
    """Admits requests by their tokens."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.definitions = Definitions(context.acting_for(_FOR_NOBODY))
        self.limits = Limits(context.options, context.settings)
        context.farewells.append(self.limits.close)

    async def admit(self, request: Request, op: str, queue: str) -> Grant:
        """Let a request do `op` on a queue, and give what its token allows.

        Raises:
            InvalidToken, TokenExpired: there is no token, or it is not good.
            Forbidden: it does not allow this; or it is not needed, and a page of another site would change something,
                or the request is for a host that the gateway does not know.
            Unavailable: it cannot be told, as Redis does not answer.
            TooManyRequests: its application, or its address, has reached a limit.
        """
        scope = request.scope
        token = bearer(scope)
        if token is not None:
            grant = self.admit_token(token, op, queue, address_of(scope))
        elif op in OPEN and await self._is_open(queue):
            hosts.check(scope, self._context.options.hosts)
            if changes_from_afar(request.method, request.headers, self._context.options.cors_origins):
                raise Forbidden("A page of another site may change nothing here without a token.")
            grant = _everybody(OPEN, queue)
        else:
            grant = self._nobody(queue)
        scope[APPLICATION] = grant.app
        await self.limits.admit(grant.app)
        return grant

    async def again(self, request: Request, op: str, queue: str) -> None:
        """Check once more, after a wait, who was admitted: the token may have expired, or been revoked, meanwhile, or
        the queue is not open any more."""
        token = bearer(request.scope)
        if token is not None:
            self.admit_token(token, op, queue, address_of(request.scope))
        elif not await self._is_open(queue):
            self._nobody(queue)

    def admit_token(self, token: str, op: str, queue: str, address: str) -> Grant:
        """Let who holds a token do `op` on a queue; raises as `admit` does."""
        grant = self.verified(token, address)
        grant.require(op, queue, time.time())
        return grant

    async def admit_all(self, request: Request, op: str) -> Grant:
        """Let a request do `op` on all queues; raises as `admit` does."""
        token = bearer(request.scope)
        grant = self._nobody("*") if token is None else self.verified(token, address_of(request.scope))
        if not grant.allows_everywhere(op):
            raise Forbidden(f"The token does not allow {op} on every queue. Name one queue, or use one that does.")
        request.scope[APPLICATION] = grant.app
        await self.limits.admit(grant.app)
        return grant

    async def admit_scrape(self, request: Request, op: str) -> Grant:
        """Let a request do `op` on all queues, from some addresses without a token; raises as `admit` does."""
        options, scope = self._context.options, request.scope
        if trusted(parse(address_of(scope)), options.metrics_allow):
            if not options.hosts or hosts.all_known(scope, options.hosts):
                return NOBODY
            if bearer(scope) is None:
                hosts.check(scope, options.hosts)
        return await self.admit_all(request, op)

    async def _is_open(self, queue: str) -> bool:
        """Return whether a queue is open to all, where others are not: who runs the gateway wants it so, and its own
        definition does."""
        if self._asks_nobody or not is_among(queue, self._context.options.open_queues):
            return False
        if not await self.definitions.exists(queue):  # so that made-up names cost Redis nothing
            return False
        return (await self.definitions.of(queue)).security == "none"

    @property
    def _asks_nobody(self) -> bool:
        return self._context.settings.auth == "none"

    def verified(self, token: str, address: str) -> Grant:
        """Return what a token allows to who holds it at an address; raises as `admit` does."""
        if self._asks_nobody:
            return _everybody(OPS, "*")
        try:
            grant = self._context.verifier.verify(token, time.time())
        except InvalidToken as error:
            log.debug("a token from %s does not count: %s", address, error.reason)
            if error.reason not in _GENUINE:  # a good one counts, whoever else has this address
                self.limits.failed(address)
            raise
        grant.require_address(address)
        return grant

    def _nobody(self, queue: str) -> Grant:
        if self._asks_nobody:
            return _everybody(OPS, queue)
        raise InvalidToken(reason="missing")


def _everybody(ops: frozenset[str], queue: str) -> Grant:
    now = int(time.time())
    return Grant(_FOR_NOBODY, ops, (queue,), now, now + int(MAX_TTL), "")


class Allowed(Protocol):
    """Somebody of whom is known what they may do: a grant, or a visitor of the page."""

    def allows(self, op: str, queue: str) -> bool: ...


def sees_tracebacks(who: Allowed, queue: str) -> bool:
    """Return whether somebody may see where an error came from: who works on the queue, or runs it."""
    return who.allows("work", queue) or who.allows("admin", queue)


def bearer(scope: Scope) -> str | None:
    """Return the token of the request's only Authorization header; None when there is no such header.

    Raises:
        InvalidToken: there are two of them, or it is of another scheme.
    """
    given = values(scope, b"authorization")
    if not given:
        return None
    scheme, token = credentials(given[0])
    if len(given) > 1 or scheme != b"bearer" or not token.isascii():
        raise InvalidToken
    return str(token, "ascii")


def address_of(scope: Scope) -> str:
    """Return the address that a request came from, "" when it is not known."""
    client = scope.get("client")
    return client[0] if client else ""
