"""All operations of the API: what each takes, answers, and fails with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redisq.gateway.document.schemas import ID, Schema
from redisq.gateway.requests.bodies import JSON, MSGPACK, NDJSON
from redisq.gateway.routes.health import METRICS_TYPE
from redisq.gateway.routes.token import FORM
from redisq.operations.dead_letters import REASONS
from redisq.operations.options import HIGHEST
from redisq.tokens.scopes import QUEUE_NAME

_FORBIDDEN = ("invalid_token", "token_expired", "forbidden")
_ALWAYS = ("bad_request", "too_many_requests", "internal_error", "unavailable")
_WHOLE = (*_FORBIDDEN, *_ALWAYS, "indeterminate")
_WRITES = (*_WHOLE, "not_found")
_EXISTING = (*_WRITES, "queue_not_found")
_BODY = ("message_too_large", "unsupported_media_type")
_MESSAGE = ("invalid_message", "schema_violation", *_BODY)

MESSAGE_EXAMPLE: dict[str, Any] = {"sku": "A-1", "count": 2}


def _query(name: str, text: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _header(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": text,
        "schema": {"type": "string", **schema},
    }


_PATH: dict[str, dict[str, Any]] = {
    "queue": {
        "name": "queue",
        "in": "path",
        "required": True,
        "description": "The queue's name.",
        "schema": {"type": "string", "pattern": f"^{QUEUE_NAME}$"},
        "example": "orders",
    },
    "id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The message's id, a UUID in lower case.",
        "schema": {"type": "string", "format": "uuid", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        "example": ID,
    },
}
_SECOND: Schema = {"type": "number", "minimum": 0, "maximum": 31_536_000}
_SOME_SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000}
_OPTIONS = (
    _query("delay", "Seconds until a worker may get it; not with `at`.", _SECOND),
    _query("expires_in", "Seconds after which no worker gets it any more.", _SOME_SECONDS),
    _query(
        "at",
        "When a worker may get it, a time with its zone; not with `delay`.",
        {"type": "string", "format": "date-time"},
    ),
    _query(
        "priority",
        "The larger, the earlier among those that are ready; 0 is usual.",
        {"type": "integer", "minimum": 0, "maximum": HIGHEST, "default": 0},
    ),
)
_WAITING = (
    _query("wait", "Seconds to wait until it has finished.", {"type": "number", "minimum": 0, "maximum": 30}),
    _header("Prefer", "`wait=S` does the same, with 30 seconds at most; the answer tells in Preference-Applied."),
)
_CHOICE = (
    _query("reason", "Only those that died of this.", {"type": "string", "enum": list(REASONS)}),
    _query("min_age", "Only those that died at least so many seconds ago.", _SECOND),
    _query("max_age", "Only those that died at most so many seconds ago.", _SECOND),
)
_LIMIT = _query("limit", "So many at most.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})
_KEY = _header(
    "Idempotency-Key",
    "Makes the id: the same key with the same body is one message, however often it is sent.",
    pattern="^[!-~]([ -~]{0,510}[!-~])?$",
)


@dataclass(frozen=True)
class Answer:
    """An answer to a request that succeeds."""

    status: int
    text: str
    schema: str | None = None
    type: str = JSON
    headers: Sequence[str] = ()
    example: Any = None
    links: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One method of one path. `op` is what a token must allow, None for no token; `body` names schemas by type."""

    method: str
    path: str
    name: str
    summary: str
    text: str
    op: str | None
    answers: Sequence[Answer]
    failures: Sequence[str]
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    needs_body: bool = True

    @property
    def path_parameters(self) -> list[dict[str, Any]]:
        """The parameters that stand in the path."""
        return [parameter for name, parameter in _PATH.items() if f"{{{name}}}" in self.path]


def _json(schema: str, example: Any) -> dict[str, tuple[str, Any]]:
    return {JSON: (schema, example)}


def _links(*names: str, id: str = "$response.body#/id", **more: Any) -> dict[str, Any]:
    """Return which operations take what an answer gives, a message's id."""
    parameters = {"queue": "$request.path.queue", "id": id}
    return {name: {"operationId": name, "parameters": parameters, **more} for name in names}


_FIRST = "$response.body#/deliveries/0"
_SETTLE = _links(
    "complete", "fail", "renew", "release", id=f"{_FIRST}/id", requestBody={"receipt": f"{_FIRST}/receipt"}
)
_LOOK = {
    **_links("getMessage", "deleteMessage"),
    "claim": {"operationId": "claim", "parameters": {"queue": "$request.path.queue"}},
}
_QUEUED = {"id": ID}
_REFUSED = {"error": {"code": "invalid_message", "message": "The body is not JSON (Expecting value, column 1)."}}
_SETTINGS = {"lease": 60, "max_attempts": 3}
_RECEIPT = "1.Xk3nRw_0aLpQ"
_WORK = (*_WRITES, "invalid_message", "message_not_found", "lease_lost", *_BODY)

OPERATIONS: Sequence[Operation] = (
    Operation(
        "post", "/{queue}", "queueMessage", "Queue a message",
        "The body is the message. As `application/x-ndjson` it is a stream of messages, one a line, and the answer has "
        "a line for each of them, in order, written while the stream is still being read: read it while you send. "
        "Blank lines are skipped, and have no answer. A stream takes neither options nor an idempotency key, and ends "
        "early when the queue cannot be reached.",
        "queue",
        [
            Answer(201, "It is queued.", "Queued", headers=["Location"], example=_QUEUED, links=_LOOK),
            Answer(200, "A line for each line of the stream.", "Lines", NDJSON, example=[_QUEUED, _REFUSED]),
        ],
        [*_WRITES, *_MESSAGE, "message_conflict", "queue_full"],
        [*_OPTIONS, _KEY],
        {JSON: ("Value", MESSAGE_EXAMPLE), MSGPACK: ("Bytes", None), NDJSON: ("Values", [{"sku": "A-1"}, "next"])},
    ),
    Operation(
        "put", "/{queue}/{id}", "putMessage", "Queue a message under an id of your own",
        "The same again changes nothing, so a request whose answer was lost is sent again.",
        "queue",
        [
            Answer(201, "It is queued.", "Queued", headers=["Location"], example=_QUEUED, links=_LOOK),
            Answer(200, "It was queued before, with the same body.", "Queued", headers=["Location"], example=_QUEUED),
        ],
        [*_WRITES, *_MESSAGE, "message_conflict", "queue_full"],
        _OPTIONS,
        {JSON: ("Value", MESSAGE_EXAMPLE), MSGPACK: ("Bytes", None)},
    ),
    Operation(
        "get", "/{queue}/{id}", "getMessage", "Look a message up",
        "With `wait`, when it has finished, or else after that time as it is then.",
        "get",
        [Answer(200, "The message.", "Message", headers=["Preference-Applied"])],
        [*_WRITES, "message_not_found", "invalid_message"],
        _WAITING,
    ),
    Operation(
        "delete", "/{queue}/{id}", "deleteMessage", "Delete a message", "Whatever its status.",
        "delete", [Answer(204, "It is deleted.")], [*_WRITES, "message_not_found"],
    ),
    Operation(
        "get", "/{queue}", "getStats", "Count what a queue holds", "",
        "stats", [Answer(200, "What it holds, and its totals.", "Stats")], _EXISTING,
    ),
    Operation(
        "get", "/_queues", "listQueues", "List all queues", "The token must allow it on all of them.",
        "stats", [Answer(200, "Their names.", "Queues", example={"queues": ["mail", "orders"]})], _WHOLE,
    ),
    Operation(
        "get", "/{queue}/_config", "getDefinition", "Show a queue's settings", "",
        "stats", [Answer(200, "Its own settings.", "Definition")], _EXISTING,
    ),
    Operation(
        "put", "/{queue}/_config", "replaceDefinition", "Replace a queue's settings",
        "What is not named goes back to the default.",
        "admin", [Answer(200, "Its own settings.", "Definition")],
        [*_WRITES, "invalid_message", "invalid_definition", "queue_full", *_BODY], (), _json("Settings", _SETTINGS),
    ),
    Operation(
        "patch", "/{queue}/_config", "changeDefinition", "Change some of a queue's settings",
        "What is not named stays.",
        "admin", [Answer(200, "Its own settings.", "Definition")],
        [*_WRITES, "invalid_message", "invalid_definition", "queue_full", *_BODY], (), _json("Settings", _SETTINGS),
    ),
    Operation(
        "get", "/{queue}/_dead", "listDeadLetters", "List dead letters", "Oldest first.",
        "admin", [Answer(200, "The messages.", "Messages")], _EXISTING,
        [_LIMIT, *_CHOICE],
    ),
    Operation(
        "post", "/{queue}/_redrive", "redrive", "Queue dead letters anew", "",
        "admin", [Answer(200, "How many.", "Redriven", example={"redriven": 3})], [*_EXISTING, "queue_full"], _CHOICE,
    ),
    Operation(
        "post", "/{queue}/_purge", "purge", "Remove all waiting messages", "",
        "admin", [Answer(200, "How many.", "Purged", example={"purged": 3})], _EXISTING,
    ),
    Operation(
        "post", "/{queue}/_pause", "pause", "Pause a queue", "Workers claim nothing; queueing goes on.",
        "admin", [Answer(200, "Its own settings.", "Definition")], [*_EXISTING, "queue_full"],
    ),
    Operation(
        "post", "/{queue}/_resume", "resume", "Resume a queue", "",
        "admin", [Answer(200, "Its own settings.", "Definition")], [*_EXISTING, "queue_full"],
    ),
    Operation(
        "post", "/{queue}/_claim", "claim", "Claim messages to work on",
        "With `worker` and a `claim` of 12 random characters the same request again gets the same deliveries. `Prefer: "
        "wait=S` serves in place of `wait`. A client that goes away hands back what it was about to get. Of "
        "large messages there may be fewer than `max`: they have 16 MiB together at most, a larger one comes alone.",
        "work",
        [Answer(200, "The deliveries, if there are any.", "Claimed", headers=["Preference-Applied"], links=_SETTLE)],
        [*_WRITES, "invalid_message", *_BODY], [_WAITING[1]], _json("Claim", {"max": 10, "wait": 20}), needs_body=False,
    ),
    Operation(
        "post", "/{queue}/{id}/_complete", "complete", "Complete a delivery with its result",
        "A result that cannot be stored ends the message as ERROR, reason `rejected`: 413 or 422.",
        "work", [Answer(204, "It is complete.")], [*_WORK, "invalid_result"], (),
        _json("Completion", {"receipt": _RECEIPT, "result": {"total": 5}}),
    ),
    Operation(
        "post", "/{queue}/{id}/_fail", "fail", "Fail a delivery",
        "With `final` the message has ended; else it is tried again, as long as attempts are left.",
        "work", [Answer(200, "Seconds to the next attempt, or null.", "Failed", example={"retry_in": 2.5})], _WORK, (),
        _json("Failure", {"receipt": _RECEIPT, "error": {"type": "Timeout", "message": "the bank did not answer"}}),
    ),
    Operation(
        "post", "/{queue}/{id}/_renew", "renew", "Renew a delivery's lease", "It can show progress, too.",
        "work", [Answer(200, "When it lapses now.", "Renewed")], _WORK, (),
        _json("Renewal", {"receipt": _RECEIPT, "progress": 0.5}),
    ),
    Operation(
        "post", "/{queue}/{id}/_release", "release", "Hand a delivery back", "No attempt is charged.",
        "work", [Answer(204, "It waits again.")], _WORK, (), _json("Release", {"receipt": _RECEIPT}),
    ),
    Operation(
        "post", "/_token", "getToken", "Get an access token",
        "OAuth 2.0 client credentials (RFC 6749, section 4.4): the application's id and secret by HTTP Basic or in the "
        "form, never in both.",
        None, [Answer(200, "The token.", "Token")], (), (),
        {FORM: ("TokenRequest", {"grant_type": "client_credentials", "scope": "queue:orders get:orders"})},
    ),
    Operation(
        "get", "/_health", "getHealth", "Whether the process answers", "",
        None, [Answer(200, "It does.", "Health", example={"status": "ok"})], ("bad_request", "internal_error"),
    ),
    Operation(
        "get", "/_ready", "getReadiness", "Whether requests can be served", "Redis answers, applications are known.",
        None, [Answer(200, "They can.", "Health", example={"status": "ready"})],
        ("bad_request", "internal_error", "unavailable"),
    ),
    Operation(
        "get", "/_metrics", "getMetrics", "Metrics for Prometheus",
        "The token must allow it on all queues; some addresses need none, by a setting of the gateway.",
        "stats", [Answer(200, "In Prometheus' text format.", "Text", METRICS_TYPE)], [*_FORBIDDEN, *_ALWAYS],
    ),
    Operation(
        "get", "/_openapi.json", "getDocument", "This document", "",
        None, [Answer(200, "In OpenAPI 3.1.", "Document")], ("bad_request", "internal_error"),
    ),
    Operation(
        "get", "/_docs", "getPage", "This document as a page", "",
        None, [Answer(200, "The page.", "Text", "text/html; charset=utf-8")], ("bad_request", "internal_error"),
    ),
)  # fmt: skip
