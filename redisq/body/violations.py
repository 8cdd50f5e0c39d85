"""What is wrong with a message that does not fit a schema: searched for by asking whether parts fit. Pure.

An error is a place and a sentence about what the schema wants there. It shows nothing of the message but its keys.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from redisq.body.codec import Place
from redisq.body.schema_keywords import BREATHE, exhausted

if TYPE_CHECKING:
    import jsonschema_rs

MAX_ERRORS = 20
_SHOWN = 200  # characters of the schema in an error
HOME = "urn:redisq:schema"  # where the document's references lead while parts of it are compiled
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
#: Keywords that say by which schemas something has to fit, at the same place or inside it.
_LEADING = {"$ref", "allOf", "if", "dependentSchemas"} | {
    *("items", "prefixItems", "properties", "patternProperties", "additionalProperties")
}
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


class _Enough(Exception):
    """There are enough errors, or there was enough time."""


class Search:
    """Finds what is wrong with messages, for one document, whose references `registry` resolves at HOME.

    `compile` makes a part of the document ready, whose references then lead to HOME.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        registry: jsonschema_rs.Registry,
        compile: Callable[[object], jsonschema_rs.Validator],
    ) -> None:
        self._document = document
        self._resolver = registry.resolver(HOME)
        self._compile = compile
        self._parts: dict[tuple[int, str], jsonschema_rs.Validator] = {}
        self._targets: dict[str, Any] = {}

    def errors(self, message: Any) -> list[Error]:
        """Return the first errors of a message that does not fit, at least one, within the check that has begun."""
        found: dict[Error, None] = {}
        with contextlib.suppress(Exception):  # not enough time, above all; that the message does not fit is certain
            for error in self._of(self._document, message, None):
                found[error] = None
                if len(found) == MAX_ERRORS:
                    break
        return list(found) or [(None, "does not fit")]

    def _fits(self, schema: Any, value: Any, keyword: str = "") -> bool:
        """Ask whether a value fits a schema, or what of it concerns one keyword."""
        part = self._parts.get((id(schema), keyword))
        if part is None:
            wanted = schema
            if keyword and not keyword.startswith("unevaluated"):
                wanted = {name: schema[name] for name in _GROUP.get(keyword, (keyword,)) if name in schema}
                if keyword == "additionalProperties":
                    wanted["properties"] = dict.fromkeys(schema.get("properties", {}), True)
                    wanted["patternProperties"] = dict.fromkeys(schema.get("patternProperties", {}), True)
                elif keyword == "items" and "prefixItems" in schema:
                    wanted["prefixItems"] = [True] * len(schema["prefixItems"])
            part = self._parts[id(schema), keyword] = self._compile(wanted)
        fits = part.is_valid(value)
        if exhausted():
            raise _Enough
        return fits

    def _of(self, schema: Any, value: Any, place: Place) -> Iterator[Error]:
        """Return the errors of a value that does not fit a schema."""
        if not isinstance(schema, dict):
            yield place, "must not be there"
            return
        found = False
        for keyword in sorted(schema, key=lambda name: name.startswith("unevaluated")):
            if keyword in _NO_MATTER or keyword == BREATHE or (found and keyword.startswith("unevaluated")):
                continue  # what is unevaluated depends on all the others
            if not self._fits(schema, value, keyword):
                found = True
                yield from self._of_keyword(keyword, schema, value, place)

    def _of_keyword(self, keyword: str, schema: Mapping[str, Any], value: Any, place: Place) -> Iterator[Error]:
        """Return the errors of a value that does not fit one keyword."""
        told = schema[keyword]
        if keyword in ("anyOf", "oneOf"):
            yield from self._of_alternatives(keyword, told, value, place)
        elif keyword == "propertyNames":
            for name in value:
                if not self._fits(told, name):
                    yield from (((place, name), f"the key {text}") for _, text in self._of(told, name, None))
        elif keyword in _LEADING:
            for inner, item, where in self._led_to(keyword, schema, value, place):
                if inner is False and keyword == "additionalProperties":
                    yield where, "the schema does not allow this key"
                elif not self._fits(inner, item):
                    yield from self._of(inner, item, where)
        else:
            yield from _of_leaf(keyword, schema, value, place)

    def _of_alternatives(self, keyword: str, alternatives: list[Any], value: Any, place: Place) -> Iterator[Error]:
        fitting = sum(self._fits(inner, value) for inner in alternatives)
        if fitting:
            yield place, f"must fit one of the {len(alternatives)} alternatives only, and fits {fitting}"
            return
        meant = [inner for inner in alternatives if self._could_be_meant(inner, value)]
        if len(meant) == 1:
            yield from self._of(meant[0], value, place)
        else:
            yield place, f"must fit one of the {len(alternatives)} alternatives of {keyword}"

    def _could_be_meant(self, schema: Any, value: Any) -> bool:
        """Return whether an alternative is for values of this type, with the words in it that tell kinds apart."""
        while isinstance(schema, dict) and "$ref" in schema and len(schema) == 1:
            schema = self._target(schema["$ref"])
        if not isinstance(schema, dict):
            return False
        if not all(self._fits(schema, value, word) for word in ("type", "const", "enum") if word in schema):
            return False
        if isinstance(value, dict):
            for name, inner in schema.get("properties", {}).items():
                told = isinstance(inner, dict) and "const" in inner and name in value
                if told and not self._fits(inner, value[name], "const"):
                    return False
        return True

    def _led_to(
        self, keyword: str, schema: Mapping[str, Any], value: Any, place: Place
    ) -> Iterator[tuple[Any, Any, Place]]:
        """Return what a keyword leads to: a schema, the value that has to fit it, and that one's place."""
        told = schema[keyword]
        match keyword:
            case "$ref":
                yield self._target(told), value, place
            case "allOf":
                yield from ((inner, value, place) for inner in told)
            case "if":
                yield schema["then" if self._fits(told, value) else "else"], value, place
            case "dependentSchemas":
                yield from ((inner, value, place) for name, inner in told.items() if name in value)
            case "prefixItems":
                pairs = enumerate(zip(told, value, strict=False))
                yield from ((inner, item, (place, index)) for index, (inner, item) in pairs)
            case "items":
                first = len(schema.get("prefixItems", ()))
                yield from ((told, item, (place, index)) for index, item in enumerate(value[first:], first))
            case "properties":
                yield from ((told[name], item, (place, name)) for name, item in value.items() if name in told)
            case _:  # patternProperties, additionalProperties
                inners = list(told.values()) if keyword == "patternProperties" else [told]
                for name, item in value.items():
                    if not self._fits(schema, {name: item}, keyword):
                        yield from ((inner, item, (place, name)) for inner in inners)

    def _target(self, reference: str) -> Any:
        if reference not in self._targets:
            self._targets[reference] = self._resolver.lookup(reference).contents
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


def breathing(
    schema: Any,
    prices: Mapping[int, Sequence[int]],
    home: str = "",
    *,
    is_map: bool = False,
    is_step: bool = False,
) -> Any:
    """Copy a schema, and let it call Python at each place inside the message's first, with the price of that place.

    Its references then begin with `home`, so that a part of a document can be compiled alone.
    """
    if isinstance(schema, list):
        return [breathing(inner, prices, home, is_step=is_step) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {
        keyword: inner
        if keyword in _VALUES and not is_map
        else breathing(
            inner,
            prices,
            home,
            is_map=not is_map and keyword in _MAPS,
            is_step=is_step if is_map else keyword in _STEPS,
        )
        for keyword, inner in schema.items()
    }
    if not is_map and "$ref" in copied:
        copied["$ref"] = home + copied["$ref"]
    if is_step and not is_map:
        copied[BREATHE] = [*prices.get(id(schema), _UNPRICED)]
    return copied
