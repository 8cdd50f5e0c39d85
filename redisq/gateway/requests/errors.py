"""Errors as answers: a status, and `{"error": {"code", "message", "request_id"}}`. Nothing internal gets out.

What Redis or Python said stays here: of an outage a client learns that there is one, of a bug its request's id, under
which the log tells more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from redisq.errors import (
    Forbidden,
    Indeterminate,
    InvalidArgument,
    InvalidDefinition,
    InvalidMessage,
    InvalidQueueName,
    InvalidToken,
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    MissingCredentials,
    QueueFull,
    QueueNotFound,
    RedisQError,
    SchemaViolation,
    TokenExpired,
    Unavailable,
    UpgradeNeeded,
)

REQUEST_ID = "redisq.request_id"  # in the scope
ROOT = "redisq.root"  # in the scope: the path that the gateway stands under, which its own paths are without


class TooManyRequests(Exception):
    """There are too many requests. Try again later.

    `retry_after` is in seconds. It is the gateway's own, and no RedisQError: no client of Redis ever raises it.
    """

    status = 429
    code = "too_many_requests"

    def __init__(self, retry_after: float, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.retry_after = retry_after


#: Which status an error has; the nearest class counts.
STATUS: Mapping[type[Exception], int] = {
    RedisQError: 500,
    InvalidQueueName: 400,
    InvalidMessage: 400,
    InvalidArgument: 400,
    InvalidDefinition: 400,
    MissingCredentials: 401,
    InvalidToken: 401,
    Forbidden: 403,
    QueueNotFound: 404,
    MessageNotFound: 404,
    MessageConflict: 409,
    LeaseLost: 409,
    MessageTooLarge: 413,
    SchemaViolation: 422,
    QueueFull: 429,
    TooManyRequests: 429,
    Unavailable: 503,
}
#: What is said in place of an error's own text, which could tell of Redis, or of why a token is invalid.
_TEXTS: Mapping[type[Exception], tuple[str, str]] = {
    RedisQError: ("internal_error", "The gateway failed at this request. Its log tells more, under the request's id."),
    InvalidToken: (InvalidToken.code, "There is no token, or it is not valid. Send one as Authorization: Bearer."),
    MissingCredentials: (InvalidToken.code, ""),
    TokenExpired: (TokenExpired.code, "The token has expired. Get a new one."),
    Unavailable: (Unavailable.code, "The queue cannot be reached now. Nothing is known to have changed; try again."),
    UpgradeNeeded: (
        UpgradeNeeded.code,
        "The queue needs a newer gateway than this one. Nothing was changed; try again.",
    ),
    Indeterminate: (
        Indeterminate.code,
        "The answer was lost on the way: it may or may not have happened. Sending the same again is safe with an id "
        "or an idempotency key.",
    ),
}
#: The names that arguments of Python have in a request, where they are others: a parameter has the argument's own.
_NAMES: Mapping[str, str] = {"idempotency_key": "Idempotency-Key"}
_ARGUMENTS = re.compile(
    r"(?<![\w.$\"])(?:(idempotency_key)\b=?|(delay|at|expires_in|priority|headers|wait|reason|m(?:in|ax)_age)=(?!\w))"
)
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_CHALLENGE = 'Bearer realm="redisq", error='
_RETRY_AFTER = "1"  # seconds


class HttpError(Exception):
    """A request that no operation was asked for: its form is wrong, or there is no such route."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})


class BadRequest(HttpError):
    """The request has a wrong form."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "bad_request", message)


class NotFound(HttpError):
    """There is no such route."""

    def __init__(self, root: str = "") -> None:
        super().__init__(404, "not_found", f"There is nothing at this address. {root}/_docs lists what there is.")


class ClientGone(Exception):
    """The client has closed the connection: nobody is there to answer."""


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a JSON document."""
    return Response(_write(value), status, headers, "application/json")


def described(error: Exception) -> dict[str, Any]:
    """Return what a client may know of an error: `code`, `message`, and what it carries for programs."""
    if isinstance(error, HttpError):
        return {"code": error.code, "message": error.message}
    kind = next((kind for kind in type(error).__mro__ if kind in _TEXTS or kind in STATUS), RedisQError)
    if kind is MissingCredentials:
        kind = InvalidToken
    if kind in _TEXTS:
        code, message = _TEXTS[kind]
    else:
        code, message = getattr(error, "code", ""), spelled(str(error))
    found: dict[str, Any] = {"code": code, "message": message}
    if isinstance(error, Indeterminate) and error.id is not None:
        found["id"] = error.id
    if isinstance(error, InvalidMessage) and error.path is not None:
        found["path"] = error.path
    if isinstance(error, SchemaViolation):
        found["errors"] = error.errors
    return found


def spelled(text: str) -> str:
    """Return an error's text as a sentence that spells arguments as requests do."""
    text = _ARGUMENTS.sub(lambda found: _NAMES.get(found[1], found[2]), text)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def status_of(error: Exception) -> int:
    """Return the status of an error; 500 for whatever is unknown."""
    if isinstance(error, HttpError):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def answer(scope: Scope, error: Exception) -> Response:
    """Answer with an error."""
    body = {"error": {**described(error), "request_id": scope.get(REQUEST_ID, "")}}
    return reply(body, status_of(error), _headers(error))


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case HttpError():
            return error.headers
        case InvalidToken() | MissingCredentials():
            return {"WWW-Authenticate": _CHALLENGE + '"invalid_token"'}
        case Forbidden():
            return {"WWW-Authenticate": _CHALLENGE + '"insufficient_scope"'}
        case MessageTooLarge():
            return {"Connection": "close"}  # rather than read the rest of it
        case QueueFull() | TooManyRequests():
            return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
        case Unavailable():
            return {"Retry-After": _RETRY_AFTER}
        case _:
            return {}


def unrouted(request: Request, error: HTTPException) -> Response:
    """Answer what no route takes: an unknown path, or a method that its path does not know."""
    if error.status_code != 405:
        return answer(request.scope, NotFound(request.scope.get(ROOT, "")))
    allow = ", ".join(_methods(request))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allow})
    text = f"This address does not take the method {request.method[:20]}. It takes {allow}."
    return answer(request.scope, HttpError(405, "method_not_allowed", text, {"Allow": allow}))


def _methods(request: Request) -> list[str]:
    """Return the methods that the routes at this path take together."""
    path, found = request.scope["path"], {"OPTIONS"}
    for route in request.app.routes:
        if (regex := getattr(route, "path_regex", None)) and regex.match(path):
            found |= getattr(route, "methods", None) or set()
    return sorted(found)
