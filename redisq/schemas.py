"""A queue's JSON Schema (2020-12): compiling it, and checking messages against it. Pure.

The checking is jsonschema-rs', of the extra `schema`. It tells quickly whether a message fits, and that is all it is
asked: its own errors quote the message, and it makes all of them at once, as many as a message has places, which has
ended processes for lack of memory. So what is wrong is looked for here, by asking about ever smaller parts.

`format` and `contentEncoding` are annotations, as 2020-12 has it: they are not checked. A schema sees a message as
`Message.to_dict` shows it: bytes are base64 text, a datetime is ISO 8601 text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from redisq.codec import Place, path_of
from redisq.errors import InvalidDefinition, InvalidSettings, SchemaViolation
from redisq.model import json_ready
from redisq.schema_bounds import DIALECT, MAX_PATTERN_SIZE, Bounds, refuse, skeleton, text_of
from redisq.schema_errors import Search

if TYPE_CHECKING:
    import jsonschema_rs

_ODD = frozenset({bytes, datetime})
_CONTAINERS = frozenset({dict, list, tuple})
_SHOWN = 200  # characters of the schema in an error
_HUGE = "and {...} may not make it huge: maxLength counts characters at no cost"
_PATTERN_BYTES = 256 * 1024  # of one compiled pattern, and of the memory it works with


def compile(schema: object) -> Schema:
    """Make a schema ready to check with.

    Raises:
        InvalidDefinition: it is none, or one that could stall whoever checks with it.
        InvalidSettings: jsonschema-rs is not installed.
    """
    return load(text_of(schema))


def stored(schema: object) -> str:
    """Write a schema as the text that is stored; raises as `compile` does."""
    text = text_of(schema)
    load(text)
    return text


@lru_cache(maxsize=32)
def load(text: str) -> Schema:
    """Make a schema ready that is stored as this text; raises as `compile` does."""
    rs = _library()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise refuse("it is not JSON") from None
    text_of(document)
    if document.get("$schema", DIALECT) != DIALECT:
        raise refuse(f"$schema must be {DIALECT}, or be left out")
    error = _first_error(lambda: rs.meta.validate(document))
    if error is not None:
        raise _not_a_schema(error)
    Bounds(document, rs.meta.is_valid, _pattern_size).check()
    made = _first_error(lambda: _validator(document))
    if made is not None:
        raise _not_a_schema(made)
    return Schema(document)


def _library() -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        from redisq import extras

        raise InvalidSettings(
            "This queue has a schema, and jsonschema-rs, which checks it, is not installed here: "
            f"{extras.install('schema')}"
        ) from None
    return jsonschema_rs


def _first_error(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:  # ValidationError, ValueError and others: whichever, it is no schema
        return error
    return None


def _not_a_schema(error: Exception) -> InvalidDefinition:
    """Say where a schema is none. Its texts are its author's own, but may be long."""
    steps = getattr(error, "instance_path", [])
    place: Place = None
    for step in steps:
        place = place, step
    problem = (getattr(error, "message", "") or str(error)).partition("\n")[0][:_SHOWN].rstrip(".")
    return refuse(f"{path_of(place)}: {problem}")


def _registry(uri: str, document: object) -> jsonschema_rs.Registry:
    rs = _library()
    registry: jsonschema_rs.Registry = rs.Registry([(uri, document)], draft=rs.Draft202012)
    return registry


def _validator(schema: object, registry: object = None) -> jsonschema_rs.Validator:
    rs = _library()
    validator: jsonschema_rs.Validator = rs.Draft202012Validator(
        schema,
        registry=registry,
        offline=True,
        validate_formats=False,
        pattern_options=rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES),
        keywords={"uniqueItems": _UniqueItems},
    )
    return validator


def _pattern_size(pattern: str) -> int:
    """Say how many bytes a pattern takes when compiled, as a power of two; each class of characters counts as one.

    Raises:
        InvalidDefinition: it is none that can be used.
    """
    if not _is_pattern(pattern, _PATTERN_BYTES):
        shown = json.dumps(pattern[:_SHOWN])
        raise refuse(f"the pattern {shown} cannot be used: look-around and back references are not known, {_HUGE}")
    size, counted = 256, skeleton(pattern)
    while size <= MAX_PATTERN_SIZE and not _is_pattern(counted, size):
        size *= 2
    return size


def _is_pattern(pattern: str, limit: int) -> bool:
    rs = _library()
    options = rs.RegexOptions(size_limit=limit)
    return _first_error(lambda: rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)) is None


class _UniqueItems:
    """`uniqueItems`. The library's own takes a second for 40,000 integers beyond 2**53, and its square for more."""

    def __init__(self, _schema: object, wanted: bool, _path: object) -> None:
        self._wanted = wanted

    def validate(self, items: object) -> None:
        if self._wanted and isinstance(items, list | tuple) and len(set(map(_spelling, items))) < len(items):
            raise ValueError("two items are equal")


def _spelling(value: Any) -> str:
    """Write a value as the one text that all equal ones have. (Numbers and tuples can be made to collide, text not.)"""
    kind = type(value)
    if kind is str:
        return json.dumps(value)
    if kind is dict:
        return "{" + ",".join(sorted(f"{json.dumps(key)}:{_spelling(item)}" for key, item in value.items())) + "}"
    if kind is list or kind is tuple:
        return "[" + ",".join(map(_spelling, value)) + "]"
    if kind is float and value.is_integer():
        return str(int(value))
    return json.dumps(value)


class Schema:
    """A schema that was found to be one, ready to check messages with. Safe to share between threads."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._validator = _validator(document)
        self._search: Search | None = None

    def check(self, message: Any) -> None:
        """Return if a message, which `codec` has found to be one, fits.

        Raises:
            SchemaViolation: it does not; no error shows a value of the message.
        """
        if not _is_plain(message):
            message = json_ready(message)
        if self._validator.is_valid(message):
            return
        if self._search is None:
            self._search = Search(self.document, _registry, _validator)
        raise _violation(self._search.errors(message))


def _is_plain(message: object) -> bool:
    """Tell whether a message has neither bytes nor datetimes, which the library would pass over."""
    if type(message) in _ODD:
        return False
    waiting = [message]
    while waiting:
        container = waiting.pop()
        items: Any = container.values() if isinstance(container, dict) else container
        if not isinstance(container, dict | list | tuple):
            continue
        kinds = set(map(type, items))  # 20 ns each; a loop would take four times as long
        if not kinds.isdisjoint(_ODD):
            return False
        if not kinds.isdisjoint(_CONTAINERS):
            waiting += [item for item in items if type(item) in _CONTAINERS]
    return True


def _violation(errors: list[tuple[Place, str]]) -> SchemaViolation:
    told = [{"path": path_of(place), "message": text} for place, text in errors]
    first = f"{told[0]['path']}: {told[0]['message']}"
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return SchemaViolation(f"The message does not fit the queue's schema. {first}{more}.", told[0]["path"], told)
