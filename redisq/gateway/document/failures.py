"""How requests fail: each error's code with its status, an example, and which headers its answer has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from redisq.errors import (
    Forbidden,
    Indeterminate,
    InvalidDefinition,
    InvalidMessage,
    InvalidToken,
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    QueueNotFound,
    RedisQError,
    SchemaViolation,
    TokenExpired,
    Unavailable,
    UpgradeNeeded,
)
from redisq.gateway.document.schemas import ID
from redisq.gateway.operation import Operation
from redisq.gateway.requests.errors import BadRequest, HttpError, NotFound, TooManyRequests, described, status_of
from redisq.gateway.server.refusals import CODES

REQUEST_ID = "4f1c2ab09d3e5f6071829304"

_OAUTH = {
    "invalid_request": (400, "grant_type is missing."),
    "invalid_client": (401, "The client's id or its secret is not right."),
    "invalid_scope": (400, "The application may not have all of this scope."),
    "unsupported_grant_type": (400, "grant_type takes client_credentials."),
}
_TOKEN = ("invalid_token", "token_expired", "forbidden", "too_many_requests", "unavailable")
_BODY = ("invalid_message", "message_too_large", "unsupported_media_type")
_MEANINGS = {
    400: "The request has a wrong form.",
    401: "There is no token, or it is not good, or not any more.",
    403: "The token does not allow this.",
    404: "There is no such message or queue, or no such address.",
    408: "The request came too slowly.",
    409: "It conflicts with what is there.",
    413: "The body is too large.",
    415: "The body has a type that is not taken here.",
    422: "The content does not fit.",
    429: "There is too much; try again later.",
    431: "The request's head is too large.",
    500: "The gateway failed. Its log tells more, under the request's id.",
    503: "The queue cannot be reached now; try again.",
}
_HEADERS = {
    401: "WWW-Authenticate",
    403: "WWW-Authenticate",
    415: "Accept",
    429: "Retry-After",
    503: "Retry-After",
}


def header(text: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """Describe a header of an answer."""
    return {"description": text, "required": required, "schema": {"type": "string", **schema}}


HEADERS: dict[str, Any] = {
    "WWW-Authenticate": header("How to authenticate."),
    "Accept": header("The types that are taken."),
    "Retry-After": header("Seconds to wait.", pattern="^[0-9]+$"),
    "X-Request-Id": header("The request's own, or one made for it.", pattern="^[A-Za-z0-9._-]{1,64}$"),
    "Location": header("The message's address."),
    "Preference-Applied": header("The wait that was asked for by Prefer.", required=False),
}


#: An error of each code that clients meet; what the server itself answers is beside it, in `refusals`.
EXAMPLES: dict[str, Exception] = {
    "bad_request": BadRequest("wait takes a number of seconds, like 5 or 0.5."),
    "invalid_message": InvalidMessage("The body is not JSON (Expecting value, column 1)."),
    "invalid_definition": InvalidDefinition("lease takes seconds from 0.1 to 86,400."),
    "invalid_token": InvalidToken(),
    "token_expired": TokenExpired(),
    "forbidden": Forbidden("The token does not allow get on queue 'orders'. Use one that allows it."),
    "queue_not_found": QueueNotFound("There is no queue order. Did you mean orders?"),
    "message_not_found": MessageNotFound(),
    "not_found": NotFound(),
    "message_conflict": MessageConflict(),
    "lease_lost": LeaseLost(),
    "message_too_large": MessageTooLarge(),
    "unsupported_media_type": HttpError(
        415, "unsupported_media_type", "The body must be application/json, as its Content-Type says."
    ),
    "schema_violation": SchemaViolation(
        "The message does not fit the queue's schema at $.price: it must be at least 0.",
        "$.price",
        [{"path": "$.price", "message": "must be at least 0"}],
    ),
    "invalid_result": HttpError(
        422, InvalidMessage.code, "The result cannot be stored. A whole number must fit into 64 bits."
    ),
    "queue_full": QueueFull("The queue is at its max_length of 1,000 waiting messages. Queue again later."),
    "too_many_requests": TooManyRequests(1.0),
    "internal_error": RedisQError(),
    "unavailable": Unavailable(),
    "upgrade_needed": UpgradeNeeded("groups", "1.4.0"),
    "indeterminate": Indeterminate(id=ID),
}


def _example(code: str) -> tuple[int, dict[str, Any]]:
    error = EXAMPLES[code]
    return status_of(error), {**described(error), "request_id": REQUEST_ID}


def failures_of(operation: Operation) -> dict[str, Any]:
    """Describe how an operation fails: by what its right, its path and its body bring along, and by its own."""
    if operation.right == "secret":
        return _oauth_responses()
    codes = ["bad_request", "internal_error", *_TOKEN * bool(operation.op), *_BODY * bool(operation.body)]
    codes += ["indeterminate"] * (operation.op is not None and operation.right != "metrics")
    return _responses([*codes, *["not_found", "upgrade_needed"] * ("{queue}" in operation.path), *operation.fails])


def _responses(codes: Iterable[str]) -> dict[str, Any]:
    """Describe the answers to requests that fail, by status, each code with an example."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for code in codes:
        status, body = _example(code)
        found[status][code] = {"value": {"error": body}}
    for status, code in CODES.items():
        body = {"code": code, "message": _MEANINGS[status], "request_id": REQUEST_ID}
        found[status].setdefault(code, {"value": {"error": body}})
    return {str(status): _response(status, examples, "Error") for status, examples in sorted(found.items())}


def _oauth_responses() -> dict[str, Any]:
    """Describe the answers of the token endpoint, in the words of RFC 6749."""
    found = _responses(["too_many_requests", "internal_error", "unavailable"])
    by_status: dict[int, dict[str, Any]] = defaultdict(dict)
    for code, (status, text) in _OAUTH.items():
        by_status[status][code] = {"value": {"error": code, "error_description": text}}
    mine = {str(status): _response(status, examples, "OAuthError") for status, examples in by_status.items()}
    both = mine["400"]["content"]["application/json"]
    both["schema"] = {"anyOf": [both["schema"], {"$ref": "#/components/schemas/Error"}]}  # the server's own is another
    both["examples"] |= found["400"]["content"]["application/json"]["examples"]
    return dict(sorted({**found, **mine}.items()))


def _response(status: int, examples: dict[str, Any], schema: str) -> dict[str, Any]:
    described = {"description": _MEANINGS[status]}
    names = [name for name in (_HEADERS.get(status),) if name]
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}}
    return {**described, "headers": headers_of(names), "content": content}


def headers_of(names: Sequence[str]) -> dict[str, Any]:
    """Describe the headers of an answer: these, and what each has."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}
