"""Who looks at the page, and that it was this page that sent a form.

The cookie holds the token itself, out of reach of scripts and for `/_ui` alone. A session's id would need a store that
all gateways share, and whoever reads that store would find tokens or what is as good; this way each request is verified
by the same guard as any other, and a revoked token is out of here as soon as everywhere.

A form proves where it comes from in three ways, each of which would do: the cookie is SameSite=Strict; the browser says
which site sends the form; and the form holds a tag made of the token, which no other site knows.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from redisq.errors import InvalidToken, MissingCredentials, RedisQError
from redisq.gateway.access.guard import Guard, address_of
from redisq.gateway.access.sites import why_foreign
from redisq.gateway.context import Context
from redisq.gateway.middleware import APPLICATION
from redisq.gateway.requests.errors import TooManyRequests
from redisq.tokens.encoding import MAX_TOKEN_BYTES
from redisq.tokens.token import Grant

ROOT = "/_ui"
COOKIE = "redisq_token"
NOTICE = "redisq_notice"
_MOST_FORM = 8 * 1024  # bytes: a token is 2,048 at most
_PURPOSE = b"redisq/page/form/v1"


class BadForm(Exception):
    """A form is not taken; the text says why, and what to do, in sentences for whoever sent it."""


_NOT_OURS = "It is no form of this page."
_OLD = "It is an old one, of another sign-in. Go back, load the page again, and send it once more."


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks. `grant` is what the token allows, None where no tokens are asked for; `tag` goes into each form."""

    grant: Grant | None
    token: str
    tag: str

    @property
    def application(self) -> str:
        """Whose token it is; "" where none is asked for."""
        return "" if self.grant is None else self.grant.app

    def allows(self, op: str, queue: str) -> bool:
        """Return whether it allows `op` on a queue."""
        return self.grant is None or self.grant.allows(op, queue)


class Sessions:
    """Signs visitors in and out, and knows them again."""

    def __init__(self, context: Context, guard: Guard) -> None:
        self._context = context
        self._guard = guard
        self.root = context.options.root_path + ROOT  # as browsers see it
        self._own_key = secrets.token_bytes(32)  # for forms where no token is asked for

    @property
    def asks_nobody(self) -> bool:
        """Whether everybody who reaches the gateway may do everything."""
        return self._context.settings.auth == "none"

    async def visitor(self, request: Request) -> Visitor:
        """Let in who sends a request, and give who it is. The request counts like any other of his application.

        Raises:
            MissingCredentials: he has not signed in.
            InvalidToken, TokenExpired, Forbidden: his token is not good, or not any more, or not from his address.
            TooManyRequests: his application, or his address, has reached a limit.
        """
        found = self._recognised(request)
        if found.grant is not None:
            await self._guard.limits.admit(found.application)
        return found

    def known(self, request: Request) -> Visitor | None:
        """Return who sends a request, None when that cannot be told: for what everybody may see."""
        try:
            return self._recognised(request)
        except (RedisQError, TooManyRequests):
            return None

    def _recognised(self, request: Request) -> Visitor:
        if self.asks_nobody:
            return Visitor(None, "", _tag(self._own_key))
        token = request.cookies.get(COOKIE, "")
        if not token:
            raise MissingCredentials
        grant = self._verified(token, request)
        request.scope[APPLICATION] = grant.app
        return Visitor(grant, token, _tag(token.encode()))

    def require(self, request: Request, visitor: Visitor, op: str, queue: str) -> None:
        """Let a visitor do `op` on a queue; raises as `Guard.admit_token` does."""
        if visitor.grant is not None:
            self._guard.admit_token(visitor.token, op, queue, address_of(request.scope))

    async def sign_in(self, request: Request, token: str, response: Response) -> None:
        """Let the browser keep a token for as long as it lasts.

        Raises:
            InvalidToken, TokenExpired, Forbidden: it is not good.
            TooManyRequests: his application, or his address, has reached a limit.
        """
        grant = self._verified(token, request)
        await self._guard.limits.admit(grant.app)
        left = max(1, grant.expires_at - int(time.time()))
        self.set_cookie(request, response, COOKIE, token, left)

    def sign_out(self, request: Request, response: Response) -> None:
        """Let the browser forget the token."""
        self.set_cookie(request, response, COOKIE, "", 0)

    def set_cookie(self, request: Request, response: Response, name: str, value: str, seconds: int) -> None:
        """Set a cookie of this page, or remove it with 0 seconds."""
        secure = request.url.scheme == "https"
        response.set_cookie(
            name, value, max_age=seconds, path=self.root, secure=secure, httponly=True, samesite="strict"
        )

    def _verified(self, token: str, request: Request) -> Grant:
        if not token.isascii() or len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken
        return self._guard.verified(token, address_of(request.scope))


async def form_of(request: Request, visitor: Visitor | None) -> Mapping[str, str]:
    """Read the form that a request sends, if this page sent it. A visitor's own form holds his tag.

    Raises:
        BadForm: it did not, or it is no form of this page.
    """
    _check_site(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise BadForm(_NOT_OURS)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM:
            raise BadForm(_NOT_OURS)
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise BadForm(_NOT_OURS) from None
    form = {name: values[0] for name, values in fields.items()}
    if visitor is not None and not hmac.compare_digest(form.get("tag", "").encode(), visitor.tag.encode()):
        raise BadForm(_OLD)
    return form


def _check_site(request: Request) -> None:
    """Refuse what another site sends. Browsers say where a form comes from: all of them in one of two headers."""
    headers = request.headers
    if (reason := why_foreign(headers)) is not None:
        raise BadForm(f"It comes from a page of another site. {reason}")
    if not ("sec-fetch-site" in headers or "origin" in headers):
        raise BadForm("Nothing says which page it comes from: a browser sends Origin, and Sec-Fetch-Site with it.")


def _tag(secret: bytes) -> str:
    return hmac.new(secret, _PURPOSE, "sha256").hexdigest()
