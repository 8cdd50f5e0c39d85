"""The token endpoint of OAuth 2.0 (RFC 6749): an application's id and secret against an access token, section 4.4.

Any OAuth library knows it. Errors are those of section 5.2, in its words. A scope is `op:pattern`, several are
separated by spaces; who asks for none gets all that the application may have.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl, unquote_plus

from starlette.responses import Response

from redisq import tokens
from redisq.errors import InvalidCredentials, MessageTooLarge
from redisq.gateway.access.guard import address_of
from redisq.gateway.middleware import APPLICATION
from redisq.gateway.operation import Admitted, Answer, Operation
from redisq.gateway.requests.bodies import Body
from redisq.gateway.requests.errors import HttpError, reply
from redisq.gateway.requests.fields import credentials, values
from redisq.tokens.scopes import Scopes
from redisq.tokens.token import Credentials

FORM = "application/x-www-form-urlencoded"
GRANT_TYPE = "client_credentials"

_MOST_BYTES = 16 * 1024
_MOST_FIELDS = 32


class Refusal(Exception):
    """A token is refused: one of the error codes of RFC 6749, section 5.2, and why."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code

    def answer(self) -> Response:
        """Write it as the standard wants it."""
        headers = {"Pragma": "no-cache"}
        if self.code == "invalid_client":
            headers["WWW-Authenticate"] = 'Basic realm="redisq", charset="UTF-8"'
        status = 401 if self.code == "invalid_client" else 400
        return reply({"error": self.code, "error_description": str(self)}, status, headers)


async def token(request: Admitted) -> Response:
    """Return an application an access token."""
    try:
        return await _issue(request)
    except Refusal as refusal:
        return refusal.answer()


async def _issue(request: Admitted) -> Response:
    context, limits = request.gateway.context, request.gateway.guard.limits
    address = address_of(request.scope)
    form = await _form(request)
    app_id, secret = _client(request, form)
    kind = form.get("grant_type")
    if kind is None:
        raise Refusal("invalid_request", "grant_type is missing.")
    if kind != GRANT_TYPE:
        raise Refusal("unsupported_grant_type", f"grant_type takes {GRANT_TYPE}.")
    now = time.time()
    try:
        app = context.verifier.authenticate(app_id, secret, now)
        credentials = Credentials.parse(app_id, secret)
    except InvalidCredentials:
        limits.failed(address)
        raise Refusal("invalid_client", "The client's id or its secret is not right.") from None
    request.scope[APPLICATION] = app.name
    await limits.admit(app.name)
    scopes = _wanted(form.get("scope"), app.allowance)
    lifetime, at = int(context.settings.token_ttl), app.issued_at(now)
    signed = _sign(credentials, scopes, context.settings.token_audience, lifetime, at, whole="scope" not in form)
    told = {"access_token": signed, "token_type": "Bearer", "expires_in": lifetime, "scope": " ".join(scopes.texts())}
    return reply(told, headers={"Pragma": "no-cache"})


async def _form(request: Admitted) -> dict[str, str]:
    """Read the parameters. One without a value counts as left out; one that is not known here is ignored."""
    try:
        request.read_query()
        request.type_of_body()
        raw = await Body(request, _MOST_BYTES).whole()
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except (HttpError, MessageTooLarge) as error:
        raise Refusal("invalid_request", str(error)) from None
    except ValueError:
        raise Refusal("invalid_request", "The form cannot be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refusal("invalid_request", "A parameter is there twice.")
    return {name: value for name, value in found.items() if value}


def _client(request: Admitted, form: Mapping[str, str]) -> tuple[str, str]:
    """Return the client's id and secret, by client_secret_basic or by client_secret_post, never by both."""
    given = values(request.scope, b"authorization")
    if not given:
        if "client_id" not in form or "client_secret" not in form:
            raise Refusal("invalid_client", "The client's id and secret are missing.")
        return form["client_id"], form["client_secret"]
    if len(given) > 1 or "client_secret" in form:
        raise Refusal("invalid_request", "The client must authenticate in one way.")
    app_id, secret = _basic(given[0])
    if form.get("client_id", app_id) != app_id:
        raise Refusal("invalid_request", "There are two different client ids.")
    return app_id, secret


def _basic(header: bytes) -> tuple[str, str]:
    """Read HTTP Basic; id and secret are form-encoded in it (RFC 6749, section 2.3.1)."""
    scheme, encoded = credentials(header)
    if scheme != b"basic":
        raise Refusal("invalid_client", "The client must authenticate by HTTP Basic, or in the form.")
    try:
        app_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        if not colon:
            raise ValueError
        return unquote_plus(app_id, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise Refusal("invalid_client", "The client's id and secret cannot be read.") from None


def _wanted(scope: str | None, allowance: Scopes) -> Scopes:
    """Return what a token shall allow: what is asked for, when the application may have all of it."""
    if scope is None:
        return allowance
    try:
        wanted = Scopes.parse(scope.split(" "))
    except ValueError:
        raise Refusal("invalid_scope", "A scope reads op:pattern, like get:orders or work:reports.*.") from None
    if not allowance.covers(wanted):
        raise Refusal("invalid_scope", "The application may not have all of this scope.")
    return wanted


def _sign(credentials: Credentials, scopes: Scopes, audience: str, ttl: float, now: float, *, whole: bool) -> str:
    """Make the token. One that fits no other way and is for the `whole` allowance leaves it to that to bound it."""
    ops = sorted(scopes.ops)
    patterns = sorted({pattern for _, pattern in scopes.pairs})
    is_product = len(scopes.pairs) == len(ops) * len(patterns)
    try:
        queues = patterns if is_product else ["*"]
        token = tokens.sign(credentials, audience=audience, ops=ops, queues=queues, ttl=ttl, now=now)
        return token if is_product else tokens.narrow(token, scope=scopes.texts())
    except ValueError:
        if not whole:
            _refuse_size()
        return tokens.sign(credentials, audience=audience, ops=ops, queues=["*"], ttl=ttl, now=now)


def _refuse_size() -> NoReturn:
    raise Refusal("invalid_scope", "A token has no room for so many scopes: ask for fewer, or use a prefix.")


OPERATIONS = (
    Operation(
        "post", "/_token", "secret", token, "getToken", "Get an access token",
        "OAuth 2.0 client credentials (RFC 6749, section 4.4): the application's id and secret by HTTP Basic or in the "
        "form, never in both.",
        [Answer(200, "The token.", "Token")],
        body={FORM: ("TokenRequest", {"grant_type": GRANT_TYPE, "scope": "queue:orders get:orders"})},
        query_later=True,
    ),
)  # fmt: skip
