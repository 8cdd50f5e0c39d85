"""What bodies look like, as JSON Schemas. What has a dataclass in Python is read from that."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from redisq.model.bounds import DEFINITION_BOUNDS, SECURITY
from redisq.model.message import Message, Status, Transition
from redisq.model.queue import Definition, QueueStats

Schema = dict[str, Any]

ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
MESSAGE: dict[str, Any] = {"sku": "A-1", "count": 2}

_NULL: Schema = {"type": "null"}
_MOMENT: Schema = {"type": "string", "format": "date-time"}
_ID: Schema = {"type": "string", "format": "uuid"}
_VALUE: Schema = {"$ref": "#/components/schemas/Value"}
#: How dataclasses' annotations read, where they say all.
_TYPES: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": _MOMENT,
    "Any": _VALUE,
    "Status": {"type": "string", "enum": [status.value for status in Status]},
}
#: It does not refer to itself, which generators of clients cannot read: what is inside of a list or an object is any.
VALUE: Schema = {
    "description": "What a message can be: any JSON, with whole numbers of 64 bits, at most 32 levels deep.",
}


def strict(properties: dict[str, Schema], **more: Any) -> Schema:
    """Describe an object that has just these properties, all of them unless told otherwise."""
    required = {"required": list(properties)} if properties else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **required, **more}


def _is(name: str, **schema: Any) -> Schema:
    """Describe an object that has a property of this kind."""
    return {"properties": {name: schema}, "required": [name]}


def _implies(condition: Schema, rest: Schema) -> Schema:
    """Return what holds where something else does: generators of clients make two types of an `anyOf`, or none."""
    return {"if": condition, "then": rest}


def nullable(schema: Schema) -> Schema:
    """Allow null, too."""
    return {"anyOf": [schema, _NULL]}


def _of(annotation: str) -> Schema:
    kind, _, rest = annotation.partition(" | ")
    known = _TYPES.get(kind, {})
    return nullable(known) if rest == "None" and known else known


def _read(kind: type, **special: Schema) -> Schema:
    """Describe what a dataclass' `to_dict` gives."""
    return strict({field.name: special.get(field.name, _of(str(field.type))) for field in fields(kind)})


_SETTINGS: dict[str, Schema] = {
    "paused": {"type": "boolean"},
    "security": {"type": "string", "enum": [*SECURITY]},
    "schema": {"type": "object", "description": "A JSON Schema (2020-12) that requests have to fit, within bounds."},
    "check_formats": {"type": "boolean", "description": "Whether the schema's `format` is checked; by default it is."},
}


def _setting(name: str) -> Schema:
    if name not in DEFINITION_BOUNDS:
        return _SETTINGS.get(name, {})
    low, high = DEFINITION_BOUNDS[name]
    kind = "number" if name in Definition.SECONDS else "integer"
    return {"type": kind, "minimum": low, "maximum": high}


def _definition() -> dict[str, Schema]:
    return {field.name: nullable(_setting(field.name)) for field in fields(Definition)}


def _to_give() -> dict[str, Schema]:
    """Describe the settings that can be given over HTTP: all but `security`, which stays as it is."""
    return {name: schema for name, schema in _definition().items() if name != "security"}


_GIVING = "Settings to give; null goes back to the default. `security` is the operator's: it can be repeated as it is."
_TEXT: Schema = {"type": "string"}
_ERROR = {"type": _TEXT, "message": _TEXT}
_TRACEBACK: Schema = {"type": "string", "description": "where it came from; not for whom `get` alone is allowed"}
_HEADERS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_PROBLEM = strict(
    {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "request_id": {"type": "string"},
        "id": {"type": "string", "description": "of a message that may be in the queue"},
        "path": {"type": "string", "description": "the place in the message, like $.items[3].price"},
        "errors": {
            "type": "array",
            "description": "what does not fit the queue's schema",
            "items": {"$ref": "#/components/schemas/Violation"},
        },
    },
    required=["code", "message"],
)

#: The schemas that have a name.
SCHEMAS: dict[str, Schema] = {
    "Value": VALUE,
    "Message": _read(
        Message,
        id=_ID,
        error=nullable(
            strict(
                {**_ERROR, "reason": _TEXT, "traceback": _TRACEBACK},
                required=[*_ERROR, "reason"],
            )
        ),
        headers=_HEADERS,
        history={"type": "array", "items": _read(Transition, error=nullable(strict(_ERROR))), "maxItems": 20},
    ),
    "Queued": strict({"id": _ID}),
    "Line": {
        "description": "The answer to one line of a stream.",
        "anyOf": [{"$ref": "#/components/schemas/Queued"}, {"$ref": "#/components/schemas/Error"}],
    },
    "Lines": {
        "description": "A line for each line of the stream, in its order.",
        "type": "array",
        "items": {"$ref": "#/components/schemas/Line"},
    },
    "Values": {"description": "One message a line.", "type": "array", "items": _VALUE},
    "Stats": _read(QueueStats),
    "Queues": strict({"queues": {"type": "array", "items": {"type": "string"}}}),
    "Definition": strict(_definition(), description="A queue's own settings; null is the gateway's default."),
    "Settings": strict(_to_give(), required=[], description=_GIVING),
    "Messages": strict({"messages": {"type": "array", "items": {"$ref": "#/components/schemas/Message"}}}),
    "Redriven": strict({"redriven": {"type": "integer"}}),
    "Purged": strict({"purged": {"type": "integer"}}),
    "Error": strict({"error": {"$ref": "#/components/schemas/Problem"}}),
    "Problem": _PROBLEM,
    "Violation": strict({"path": {"type": "string"}, "message": {"type": "string"}}),
    "OAuthError": strict({"error": {"type": "string"}, "error_description": {"type": "string"}}),
    "Token": strict(
        {
            "access_token": {"type": "string"},
            "token_type": {"type": "string", "const": "Bearer"},
            "expires_in": {"type": "integer", "description": "seconds"},
            "scope": {"type": "string", "description": "op:pattern, separated by spaces"},
        }
    ),
    "TokenRequest": {
        "type": "object",
        "properties": {
            "grant_type": {"type": "string", "const": "client_credentials"},
            "scope": {
                "type": "string",
                "description": "op:pattern, separated by spaces; all that is allowed if left out",
            },
            "client_id": {"type": "string", "description": "where HTTP Basic does not tell it"},
            "client_secret": {"type": "string", "description": "where HTTP Basic does not tell it"},
        },
        "required": ["grant_type"],
    },
    "Health": strict({"status": {"type": "string"}}),
}

_RECEIPT: Schema = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,14}\\.[A-Za-z0-9_-]{12}$",
    "description": "as it came with the delivery",
}
_DELAY: Schema = nullable({"type": "number", "minimum": 0, "maximum": 31_536_000})
_SECONDS: Schema = {"type": "number", "minimum": 0, "maximum": 30}
SCHEMAS |= {
    "Claim": strict(
        {
            "max": {"type": "integer", "minimum": 1, "maximum": 100, "description": "1 if left out"},
            "wait": {**nullable(_SECONDS), "description": "seconds, when there is nothing yet; 0 if left out"},
            "worker": nullable({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}),
            "claim": nullable({"type": "string", "pattern": "^[A-Za-z0-9_-]{12}$"}),
        },
        required=[],
        **_implies(_is("claim", type="string"), _is("worker", type="string")),
    ),
    "Claimed": strict(
        {
            "deliveries": {
                "type": "array",
                "items": strict(
                    {
                        "id": _ID,
                        "queue": {"type": "string"},
                        "request": _VALUE,
                        "attempt": {"type": "integer"},
                        "receipt": {"type": "string"},
                        "deadline": _MOMENT,
                        "headers": _HEADERS,
                        "max_attempts": {"type": "integer"},
                        "is_last_attempt": {"type": "boolean", "description": "a failure ends the message"},
                        "queued_at": _MOMENT,
                        "priority": {"type": "integer"},
                    }
                ),
            },
            "lease": {"type": "number", "description": "seconds"},
        }
    ),
    "Completion": strict({"receipt": _RECEIPT, "result": _VALUE}, required=["receipt"]),
    "Failure": strict(
        {
            "receipt": _RECEIPT,
            "error": strict({**_ERROR, "traceback": _TEXT}, required=[*_ERROR]),
            "retry_after": _DELAY,
            "final": {"type": "boolean", "description": "false if left out"},
        },
        required=["receipt", "error"],
        **_implies(_is("final", const=True), {"properties": {"retry_after": _NULL}}),
    ),
    "Failed": strict({"retry_in": nullable({"type": "number"})}),
    "Renewal": strict({"receipt": _RECEIPT, "progress": _VALUE}, required=["receipt"]),
    "Renewed": strict({"deadline": _MOMENT, "lease": {"type": "number"}, "cancelled": {"type": "boolean"}}),
    "Cancelled": strict({"cancelled": nullable({"type": "boolean"})}),
    "Release": strict({"receipt": _RECEIPT, "after": _DELAY}, required=["receipt"]),
}
