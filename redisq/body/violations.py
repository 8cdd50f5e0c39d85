"""What is wrong with a message that does not fit a schema: searched for by asking whether parts fit. Pure.

An error is a place and a sentence about what the schema wants there. It shows nothing of the message but its keys.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from redisq.body.codec import Place
from redisq.body.schema_keywords import BREATHE, exhausted

MAX_ERRORS = 20
_PATIENCE = 0.1  # seconds to look; what was found by then is told
_SHOWN = 200  # characters of the schema in an error
_HOME = "urn:redisq:schema"  # where the document's references lead while parts of it are compiled
_VALUES = ("const", "enum", "default", "examples")  # keywords that hold no schemas
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
#: Keywords whose schemas are for what lies inside a place: one, or a map or list of several.
_STEPS = (
    *("items", "contains", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames"),
    *("properties", "patternProperties", "prefixItems"),
)

#: Keywords that are judged together: the first says what is wrong, the others it depends on.
_GROUPS: tuple[tuple[str, ...], ...] = (
    ("if", "then", "else"),
    ("contains", "minContains", "maxContains"),
    ("items", "prefixItems"),
    ("additionalProperties", "properties", "patternProperties"),
)
_GROUP = {group[0]: group for group in _GROUPS}
_NO_MATTER = {"then", "else", "minContains", "maxContains", "$defs", "definitions", "$schema", "$anchor", "$comment"}

#: keyword -> what it wants; {} is its value.
_WANTED = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} keys",
    "maxProperties": "must have at most {} keys",
    "pattern": "must match the pattern {}",
    "format": "must be of the format {}",
    "const": "must be {}",
    "enum": "must be one of {}",
    "not": "must not fit the schema under not",
    "uniqueItems": "must not have two equal items",
    "unevaluatedItems": "has items that the schema does not allow",
    "unevaluatedProperties": "has keys that the schema does not allow",
}

_UNPRICED = (1, 0)

Error: TypeAlias = tuple[Place, str]


class Fits(Protocol):
    """A compiled schema."""

    def is_valid(self, instance: Any) -> bool: ...


class Lookup(Protocol):
    """What knows the document by its URI."""

    def resolver(self, base_uri: str) -> Any: ...


class _Enough(Exception):
    """There are enough errors, or there was enough time."""


class Search:
    """Finds what is wrong with messages, for one document. `validator` compiles parts of it, whose references lead to
    what `registry` makes of the document."""

    def __init__(
        self, document: Mapping[str, Any], registry: Callable[[str, Any], Any], validator: Callable[[Any, Any], Fits]
    ) -> None:
        self._document = _with_references_home(copy.deepcopy(document))
        self._registry = registry(_HOME, self._document)
        self._compile = validator
        self._parts: dict[tuple[int, str], Fits] = {}
        self._targets: dict[str, Any] = {}

    def errors(self, message: Any) -> list[Error]:
        """Return the first errors of a message that does not fit, at least one."""
        found: dict[Error, None] = {}
        end = time.monotonic() + _PATIENCE
        with contextlib.suppress(Exception):  # not enough time, above all; that the message does not fit is certain
            for error in self._of(self._document, message, None, end):
                found[error] = None
                if len(found) == MAX_ERRORS:
                    break
        return list(found) or [(None, "does not fit")]

    def _fits(self, schema: Any, value: Any, end: float, keyword: str = "") -> bool:
        """Ask whether a value fits a schema, or what of it concerns one keyword."""
        if time.monotonic() > end:
            raise _Enough
        part = self._parts.get((id(schema), keyword))
        if part is None:
            wanted = schema
            if keyword:
                wanted = {name: schema[name] for name in _GROUP.get(keyword, (keyword,)) if name in schema}
                if keyword == "additionalProperties":
                    wanted["properties"] = dict.fromkeys(schema.get("properties", {}), True)
                    wanted["patternProperties"] = dict.fromkeys(schema.get("patternProperties", {}), True)
                elif keyword == "items" and "prefixItems" in schema:
                    wanted["prefixItems"] = [True] * len(schema["prefixItems"])
                elif keyword.startswith("unevaluated"):
                    wanted = schema
            part = self._parts[id(schema), keyword] = self._compile(wanted, self._registry)
        fits = part.is_valid(value)
        if exhausted():
            raise _Enough
        return fits

    def _of(self, schema: Any, value: Any, place: Place, end: float) -> Iterator[Error]:
        """Return the errors of a value that does not fit a schema."""
        if not isinstance(schema, dict):
            yield place, "must not be there"
            return
        found = False
        for keyword in sorted(schema, key=lambda name: name.startswith("unevaluated")):
            if keyword in _NO_MATTER or keyword == BREATHE or (found and keyword.startswith("unevaluated")):
                continue  # what is unevaluated depends on all the others
            if not self._fits(schema, value, end, keyword):
                found = True
                yield from self._of_keyword(keyword, schema, value, place, end)

    def _of_keyword(
        self, keyword: str, schema: Mapping[str, Any], value: Any, place: Place, end: float
    ) -> Iterator[Error]:
        """Return the errors of a value that does not fit one keyword."""
        told = schema[keyword]
        match keyword:
            case "$ref":
                yield from self._of(self._target(told), value, place, end)
            case "allOf":
                for inner in told:
                    if not self._fits(inner, value, end):
                        yield from self._of(inner, value, place, end)
            case "anyOf" | "oneOf":
                yield from self._of_alternatives(keyword, told, value, place, end)
            case "if":
                inner = schema["then" if self._fits(told, value, end) else "else"]
                yield from self._of(inner, value, place, end)
            case "dependentSchemas":
                for name, inner in told.items():
                    if name in value and not self._fits(inner, value, end):
                        yield from self._of(inner, value, place, end)
            case "items" | "prefixItems" | "properties" | "patternProperties" | "additionalProperties":
                yield from self._of_inner(keyword, schema, value, place, end)
            case "propertyNames":
                for name in value:
                    if not self._fits(told, name, end):
                        yield from (((place, name), f"the key {text}") for _, text in self._of(told, name, None, end))
            case _:
                yield from _of_leaf(keyword, schema, value, place)

    def _of_alternatives(
        self, keyword: str, alternatives: list[Any], value: Any, place: Place, end: float
    ) -> Iterator[Error]:
        fitting = sum(self._fits(inner, value, end) for inner in alternatives)
        if fitting:
            yield place, f"must fit one of the {len(alternatives)} alternatives only, and fits {fitting}"
            return
        meant = [inner for inner in alternatives if self._could_be_meant(inner, value, end)]
        if len(meant) == 1:
            yield from self._of(meant[0], value, place, end)
        else:
            yield place, f"must fit one of the {len(alternatives)} alternatives of {keyword}"

    def _could_be_meant(self, schema: Any, value: Any, end: float) -> bool:
        """Return whether an alternative is for values of this type, with the words in it that tell kinds apart."""
        while isinstance(schema, dict) and "$ref" in schema and len(schema) == 1:
            schema = self._target(schema["$ref"])
        if not isinstance(schema, dict):
            return False
        if not all(self._fits(schema, value, end, word) for word in ("type", "const", "enum") if word in schema):
            return False
        if isinstance(value, dict):
            for name, inner in schema.get("properties", {}).items():
                told = isinstance(inner, dict) and "const" in inner and name in value
                if told and not self._fits(inner, value[name], end, "const"):
                    return False
        return True

    def _of_inner(
        self, keyword: str, schema: Mapping[str, Any], value: Any, place: Place, end: float
    ) -> Iterator[Error]:
        """Return the errors of items, or of values under keys."""
        told = schema[keyword]
        if keyword in ("items", "prefixItems"):
            first = len(schema.get("prefixItems", ())) if keyword == "items" else 0
            for index, item in enumerate(value[first:], first):
                if keyword == "prefixItems" and index == len(told):
                    break
                inner = told if keyword == "items" else told[index]
                if not self._fits(inner, item, end):
                    yield from self._of(inner, item, (place, index), end)
            return
        for name, item in value.items():
            if keyword == "properties":
                if name in told and not self._fits(told[name], item, end):
                    yield from self._of(told[name], item, (place, name), end)
            elif not self._fits(schema, {name: item}, end, keyword):
                if keyword == "additionalProperties":
                    if told is False:
                        yield (place, name), "the schema does not allow this key"
                    else:
                        yield from self._of(told, item, (place, name), end)
                    continue
                for inner in told.values():
                    if not self._fits(inner, item, end):
                        yield from self._of(inner, item, (place, name), end)

    def _target(self, reference: str) -> Any:
        if reference not in self._targets:
            self._targets[reference] = self._registry.resolver(_HOME).lookup(reference).contents
        return self._targets[reference]


def _of_leaf(keyword: str, schema: Mapping[str, Any], value: Any, place: Place) -> Iterator[Error]:
    told = schema[keyword]
    match keyword:
        case "required":
            yield from (((place, name), "must be there") for name in told if name not in value)
        case "dependentRequired":
            for name, others in told.items():
                if name in value:
                    yield from (
                        ((place, other), f"must be there, as {_shown(name)} is")
                        for other in others
                        if other not in value
                    )
        case "type":
            types = [told] if isinstance(told, str) else told
            yield place, f"must be {' or '.join(types)}"
        case "contains":
            least, most = schema.get("minContains", 1), schema.get("maxContains")
            limit = f"at least {least}" if most is None else f"{least} to {most}"
            yield place, f"must have {limit} items that fit the schema under contains"
        case "enum":
            yield place, _WANTED[keyword].format(_shown(told)[1:-1] if len(_shown(told)) <= _SHOWN else _shown(told))
        case _:
            yield place, _WANTED.get(keyword, f"does not fit {keyword}").format(_shown(told))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _with_references_home(schema: Any, *, is_map: bool = False) -> Any:
    """Let all references of a schema begin with the document's URI, so that its parts can be compiled alone."""
    if isinstance(schema, list):
        for inner in schema:
            _with_references_home(inner)
    elif isinstance(schema, dict):
        if not is_map and isinstance(schema.get("$ref"), str):
            schema["$ref"] = _HOME + schema["$ref"]
        for keyword, inner in schema.items():
            if is_map or keyword not in _VALUES:
                _with_references_home(inner, is_map=not is_map and keyword in _MAPS)
    return schema


def breathing(schema: Any, prices: Mapping[int, Sequence[int]], *, is_map: bool = False, is_step: bool = False) -> Any:
    """Copy a schema, and let it call Python at each place inside the message's first, with the price of that place."""
    if isinstance(schema, list):
        return [breathing(inner, prices, is_step=is_step) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {
        keyword: inner
        if keyword in _VALUES and not is_map
        else breathing(
            inner,
            prices,
            is_map=not is_map and keyword in _MAPS,
            is_step=is_step if is_map else keyword in _STEPS,
        )
        for keyword, inner in schema.items()
    }
    if is_step and not is_map:
        copied[BREATHE] = [*prices.get(id(schema), _UNPRICED)]
    return copied
