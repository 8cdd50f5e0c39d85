"""The OpenAPI document, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redisq import __version__
from redisq.gateway.document.failures import HEADERS, failures_of, headers_of
from redisq.gateway.document.schemas import ID, SCHEMAS
from redisq.gateway.operation import Answer, Operation
from redisq.gateway.requests.queries import Parameter
from redisq.tokens.scopes import OPS, QUEUE_NAME

_ABOUT = """Queue messages, look them up, delete them, and work on them.

Send an access token in each request: `Authorization: Bearer <token>`. An application gets one from `/_token`, or signs
one itself from its secret. A token allows operations (`queue`, `get`, `delete`, `work`, `stats`, `admin`) on queues.

Every answer has an `X-Request-Id`; a given one is kept. An error is `{"error": {"code", "message", "request_id"}}`.
With 429 and 503 comes `Retry-After`. A message that has an id of yours, or an idempotency key, is sent again safely.

An unknown path is answered with 404, a method that an address does not take with 405: `OPTIONS` tells which it
takes. What has a `GET` has a `HEAD`.
"""
_TAGS = {
    "queue": "Messages",
    "get": "Messages",
    "delete": "Messages",
    "work": "Work",
    "stats": "Queues",
    "admin": "Queues",
    None: "Gateway",
}
_FREE = {
    "Bytes": {"type": "string", "format": "binary", "description": "msgpack, as redisq writes it"},
    "Text": {"type": "string"},
    "Document": {"type": "object"},
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


def document(operations: Sequence[Operation], root_path: str = "") -> dict[str, Any]:
    """Make the document of operations, those of a gateway that stands under a path."""
    paths: dict[str, Any] = {}
    for operation in operations:
        if operation.answers:
            paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    scopes = {f"{op}:*": f"{op} on all queues; a queue's name, or the beginning of one and *, limits it" for op in OPS}
    flow = {"tokenUrl": f"{root_path}/_token", "scopes": dict(sorted(scopes.items()))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "redisq", "version": __version__, "description": _ABOUT},
        "servers": [{"url": root_path or "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_TAGS.values())],
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, **_FREE},
            "headers": HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "rq1"},
                "oauth2": {"type": "oauth2", "flows": {"clientCredentials": flow}},
                "application": {"type": "http", "scheme": "basic", "description": "An application's id and secret."},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    tag = _TAGS[operation.op]
    allowed = f"Needs a token that allows `{operation.op}`." if operation.op else ""
    answers = {str(answer.status): _answer(answer) for answer in operation.answers}
    in_path = [parameter for name, parameter in _PATH.items() if f"{{{name}}}" in operation.path]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": " ".join(text for text in (operation.text, allowed) if text),
        "tags": [tag],
        "parameters": [*in_path, *map(_in_query, operation.query), *operation.headers],
        "responses": {**answers, **failures_of(operation)},
        "security": _security(operation),
    }
    if operation.body:
        found["requestBody"] = {
            "required": operation.needs_body,
            "content": {
                kind: {"schema": {"$ref": f"#/components/schemas/{name}"}, **_example(example)}
                for kind, (name, example) in operation.body.items()
            },
        }
    return found


def _in_query(parameter: Parameter) -> dict[str, Any]:
    told = {"name": parameter.name, "in": "query", "required": False, "description": parameter.meaning}
    return {**told, "schema": parameter.schema}


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.right == "secret":
        return [{"application": []}, {}]
    return [] if operation.op is None else [{"bearer": []}, {"oauth2": [f"{operation.op}:*"]}]


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.text}
    described["headers"] = headers_of(answer.headers)
    if answer.links:
        described["links"] = answer.links
    if answer.schema is not None:
        schema = {"$ref": f"#/components/schemas/{answer.schema}"}
        described["content"] = {answer.type: {"schema": schema, **_example(answer.example)}}
    return described


def _example(value: Any) -> dict[str, Any]:
    return {} if value is None else {"example": value}
