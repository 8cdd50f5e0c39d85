"""A queue's JSON Schema (2020-12): compiling it, and checking messages against it. Pure.

The checking is jsonschema-rs', of the extra `schema`. It tells quickly whether a message fits, and that is all it is
asked: its own errors quote the message, and it makes all of them at once, as many as a message has places, which has
ended processes for lack of memory. So what is wrong is looked for here, by asking about ever smaller parts.

`format` is checked where the text of a schema says so, as it is stored: it begins with `{ `, and what a redisq stored
that did not check formats begins with `{` alone. `contentEncoding` is an annotation. A schema sees a message as
`Message.to_dict` shows it: bytes are base64 text, a datetime is ISO 8601 text, and typed values are what they are
written as.

The library holds the interpreter's lock as long as it checks. So what may take longer than `_QUICK` is checked with a
schema that breathes: at each place of the message it calls Python, which lets other threads run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

from redisq.body import codec
from redisq.body.codec import Place, path_of
from redisq.body.schema_cost import DIALECT, FORMATS, MAX_PATTERN_SIZE, Bounds, Work, refuse, skeleton, text_of
from redisq.body.schema_keywords import KEYWORDS, Keyword, begin, exhausted, ours, pay
from redisq.body.violations import HOME, Search, breathing
from redisq.errors import InvalidDefinition, InvalidSettings, SchemaViolation
from redisq.model.message import json_ready

if TYPE_CHECKING:
    import jsonschema_rs

_JSON = frozenset({type(None), bool, int, float, str, dict, list, tuple})
_CONTAINERS = frozenset({dict, list, tuple})
_SHOWN = 200  # characters of the schema in an error
_HUGE = "and {...} may not make it huge: maxLength counts characters at no cost"
_PATTERN_BYTES = 256 * 1024  # of one compiled pattern, and of the memory it works with
_CHECKED = "{ "  # begins the text of a schema whose formats are checked
_LONGEST_NAME = 253  # characters of a host's name

_CHECK = 20e-9  # seconds
_CHARACTER = 10 / 1024  # checks for each byte of a pattern's size: 170 ns for one of 1 KiB
_LIMIT = 50  # checks: see `Work.limits`
_FLOAT = 9  # bytes of a float in a message
_TOO_MUCH = "would take too long to check: it is too large for this schema, or a text in it for one of its patterns"
_QUICK = 0.01 / _CHECK  # checks of a message that is checked wherever it comes
_MOST = int(2.0 / _CHECK)  # checks of any message
_PATIENCE = 0.1  # seconds to look for what is wrong; what was found by then is told
_MOST_OF_A_TEXT = 0.5 / _CHECK  # checks for one text, in which no other thread can run


def compile(schema: object, *, check_formats: bool = False) -> Schema:
    """Make a schema ready to check with.

    Raises:
        InvalidDefinition: it is invalid, or could stall whoever checks with it.
        InvalidSettings: jsonschema-rs is not installed.
    """
    text = text_of(schema)
    return load(_with_formats(text) if check_formats else text)


def stored(schema: object) -> str:
    """Write a schema as the text that is stored; raises as `compile` does."""
    text = _with_formats(text_of(schema))
    load(text)
    return text


def checks_formats(text: str) -> bool:
    """Return whether formats are checked of a schema that is stored as this text, where its queue does not say."""
    return text.startswith(_CHECKED)


def _with_formats(text: str) -> str:
    return _CHECKED + text[1:]


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
    problem = _first_error(lambda: rs.meta.validate(document))
    if problem is not None:
        raise _not_a_schema(problem)
    formats = FORMATS if checks_formats(text) else {}
    bounds = Bounds(document, rs.meta.is_valid, _pattern_size, ours(document), formats)
    work = bounds.check()
    try:
        return Schema(document, bool(formats), work, bounds.prices)
    except ValueError as error:  # of a pattern that is too large to compile, for one
        raise _not_a_schema(error) from None


def _library() -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        from redisq.runtime import extras

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
    """Return where a schema is invalid. Its texts are its author's own, but may be long."""
    steps = getattr(error, "instance_path", [])
    place: Place = None
    for step in steps:
        place = place, step
    problem = (getattr(error, "message", "") or str(error)).partition("\n")[0][:_SHOWN].rstrip(".")
    return refuse(f"{path_of(place)}: {problem}")


def _validator(
    schema: object, registry: object = None, *, keywords: Set[str] = frozenset(), formats: bool = False
) -> jsonschema_rs.Validator:
    rs = _library()
    validator: jsonschema_rs.Validator = rs.Draft202012Validator(
        schema,
        registry=registry,
        offline=True,
        validate_formats=formats,
        formats={"idn-hostname": _is_name} if formats else None,
        pattern_options=rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES),
        keywords={name: _Pattern if name == "pattern" else KEYWORDS[name] for name in keywords},
    )
    return validator


class _Pattern(Keyword):
    """Pays for matching a text: nothing else can run meanwhile."""

    def __init__(self, schema: object, operand: str, path: object) -> None:
        super().__init__(schema, operand, path)
        self._size = _pattern_size(operand)
        self._pattern = _validator({"pattern": operand})

    def is_valid(self, value: Any) -> bool:
        if type(value) is not str:
            return True
        checks = int(len(value) * self._size * _CHARACTER)
        return pay(checks if checks <= _MOST_OF_A_TEXT else 2 * _MOST) and self._pattern.is_valid(value)


def _is_name(text: str) -> bool:
    """Return whether this is a host's name of any language: the library takes half a microsecond for each character."""
    return len(text) <= _LONGEST_NAME and _names().is_valid(text)


@lru_cache(maxsize=1)
def _names() -> jsonschema_rs.Validator:
    rs = _library()
    validator: jsonschema_rs.Validator = rs.Draft202012Validator({"format": "idn-hostname"}, validate_formats=True)
    return validator


@lru_cache(maxsize=1024)
def _pattern_size(pattern: str) -> int:
    """Return how many bytes a pattern takes when compiled, as a power of two; each class of characters counts as one.

    Raises:
        InvalidDefinition: it cannot be used.
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


class Schema:
    """A schema that was found to be one, ready to check messages with. Safe to share between threads."""

    def __init__(self, document: dict[str, Any], formats: bool, work: Work, prices: Mapping[int, Work]) -> None:
        self.document = document
        self._work = work
        self._prices = {place: (price.checks, price.limits) for place, price in prices.items()}
        self._compile = partial(_validator, formats=formats)
        self._keywords = ours(document)
        self._validator = self._compile(document, keywords=self._keywords)

    @cached_property
    def _slow(self) -> jsonschema_rs.Validator:
        return self._breathing(breathing(self.document, self._prices))

    @cached_property
    def _search(self) -> Search:
        rs = _library()
        registry = rs.Registry([(HOME, breathing(self.document, {}))], draft=rs.Draft202012)
        return Search(self.document, registry, lambda part: self._breathing(breathing(part, {}, HOME), registry))

    def _breathing(self, schema: object, registry: jsonschema_rs.Registry | None = None) -> jsonschema_rs.Validator:
        return self._compile(schema, registry, keywords={*self._keywords, "pattern"})

    def is_quick(self, size: int) -> bool:
        """Return whether a message that is encoded in so many bytes is checked at once, whatever it holds."""
        checks, patterns, limits = self._work
        return size * (checks + patterns * _CHARACTER) + size // _FLOAT * limits * _LIMIT <= _QUICK

    def check(self, message: Any, size: int | None = None) -> None:
        """Return if a message, which `codec` has found to be one and encoded in `size` bytes, fits.

        Raises:
            SchemaViolation: it does not, or it would take too long to tell; no error shows a value of the message.
        """
        quick = self.is_quick(len(codec.encode(message, sys.maxsize)) if size is None else size)
        if not _is_plain(message):
            message = json_ready(codec.decode(codec.encode(message, sys.maxsize)))
        begin(_MOST)
        try:
            if not quick and _longest_key(message) * self._work.patterns * _CHARACTER > _MOST_OF_A_TEXT:
                raise _violation([(None, _TOO_MUCH)])
            fits = (self._validator if quick else self._slow).is_valid(message)
            if exhausted():
                raise _violation([(None, _TOO_MUCH)])
            if not fits:
                begin(_MOST, _PATIENCE)
                raise _violation(self._search.errors(message))
        finally:
            begin(0)


def _containers(message: object) -> Iterator[tuple[Any, set[type]]]:
    """Return all lists and maps of a message, with the kinds of their items."""
    waiting = [message] if type(message) in _CONTAINERS else []
    while waiting:
        container: Any = waiting.pop()
        items = container.values() if type(container) is dict else container
        kinds = set(map(type, items))  # 20 ns each; a loop would take four times as long
        yield container, kinds
        if not kinds.isdisjoint(_CONTAINERS):
            waiting += [item for item in items if type(item) in _CONTAINERS]


def _is_plain(message: object) -> bool:
    """Return whether a message has only what JSON has: the library would pass over bytes, datetimes, typed values."""
    return type(message) in _JSON and all(kinds <= _JSON for _, kinds in _containers(message))


def _longest_key(message: object) -> int:
    """Count the characters of a message's longest key: patternProperties match it, and nobody else pays for that."""
    maps = (found for found, _ in _containers(message) if type(found) is dict)
    return max((len(key) for found in maps for key in found), default=0)


def _violation(errors: list[tuple[Place, str]]) -> SchemaViolation:
    told = [{"path": path_of(place), "message": text} for place, text in errors]
    first = f"{told[0]['path']}: {told[0]['message']}"
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return SchemaViolation(f"The message does not fit the queue's schema. {first}{more}.", told[0]["path"], told)
