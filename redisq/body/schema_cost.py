"""What a queue's schema may say, and how much work it may make: judged before it is compiled. Pure.

A check never stalls and never ends the process, whoever wrote the schema and the message. So references stay in the
document, and the work for one place of a message is bounded: see `work_of`. Depth and number of places are bounded by
`codec`. The validator's own behaviour was measured (jsonschema-rs 0.60) for what is said here of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Set
from functools import reduce
from typing import Any, NamedTuple
from urllib.parse import unquote

from redisq.body.codec import MAX_DEPTH
from redisq.body.schema_keywords import COMPARED, LIMITS
from redisq.errors import InvalidDefinition

MAX_SCHEMA_BYTES = 64 * 1024
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_SCHEMA_DEPTH = 64  # objects and lists inside each other
_MAX_CHAIN = 100  # schemas that lead to each other without a step into the message: the validator recurses
_MAX_TARGETS = 200
_MAX_PATTERNS = 100  # each takes up to a quarter of a megabyte when compiled
_SHOWN = 100  # characters of a reference in an error
_MAX_STEPS = 50_000  # of this judgement
MAX_CHECKS = 4_000  # at one place of a message, each as long as the library takes for a type: 10 to 20 ns
MAX_PATTERN_SIZE = 60 * 1024  # of all patterns at one place, as `pattern_size` tells it; 0.1 us per KiB and character

# What else is done at a place, in checks: the worst operand's time, measured as `schema_keywords` says.
_REMEMBERED = 5  # looking up a recursive reference: the validator remembers its outcomes
_MATCH = 5  # matching a short text
_OURS = 40  # a keyword that is checked in Python
_MULTIPLE = 150  # multipleOf, by the digits of a fraction
_UNIQUE = 80  # uniqueItems, of each item and all inside
_UNEVALUATED = 4  # times that the validator goes over what unevaluatedItems and unevaluatedProperties look back on
_LOOKED_UP = 2  # bytes of a pattern that comparing a text with those of an enum is worth

#: Formats that are checked -> checks, and bytes of a pattern, that each is worth: 437 ns for each character of an
#: international host name, of which 253 are looked at; up to 11 for one of a regular expression; elsewhere up to 5.
FORMATS = {
    **dict.fromkeys(("date", "time", "date-time", "duration", "ipv4", "ipv6", "uuid", "hostname"), (_MATCH, 32)),
    **dict.fromkeys(("email", "idn-email", "json-pointer", "relative-json-pointer"), (2 * _MATCH, 64)),
    **dict.fromkeys(("uri", "uri-reference", "iri", "iri-reference", "uri-template"), (_MATCH, 64)),
    "regex": (_MATCH, 128),
    "idn-hostname": (120, 4608),
}

#: keyword -> how its schemas are held: one, a list, or a map. Those in the first row concern the same place.
HERE = {"not": 1, "if": 1, "then": 1, "else": 1, "allOf": 2, "anyOf": 2, "oneOf": 2, "dependentSchemas": 3}
BELOW = {"items": 1, "contains": 1, "additionalProperties": 1, "unevaluatedItems": 1, "unevaluatedProperties": 1}
_REFUSED = {
    "$id": "it has one place, this queue's definition; leave it out",
    "$dynamicRef": "in a single document it means what $ref means; write that",
    "$dynamicAnchor": "in a single document it means what $anchor means; write that",
    "$vocabulary": "it belongs into meta-schemas",
    "dependencies": "2020-12 has dependentSchemas and dependentRequired in its place; write those",
}


class Work(NamedTuple):
    """What a schema costs at one place of a message: checks, how large the patterns are that are matched there, and how
    many limits of numbers the library checks itself, which takes it long for a float of more than 64 bits."""

    checks: int = 0
    patterns: int = 0
    limits: int = 0

    def __add__(self, other: Work) -> Work:  # type: ignore[override]  # not as tuples
        return Work(self.checks + other.checks, self.patterns + other.patterns, self.limits + other.limits)

    def __mul__(self, times: int) -> Work:  # type: ignore[override]
        return Work(self.checks * times, self.patterns * times, self.limits * times)

    def most(self, other: Work) -> Work:
        """Return the work of the costlier one, in each respect."""
        return Work(*map(max, self, other))


class _Followed(NamedTuple):
    """At which depth in the message a reference was followed, and which keywords were met since that go over all below
    a place once more."""

    depth: int
    looked_back: bool = False
    compared: bool = False


def refuse(problem: str) -> InvalidDefinition:
    """Make the error of a schema that cannot be taken."""
    return InvalidDefinition(f"schema: {problem}.")


def text_of(schema: object) -> str:
    """Write a schema as the one JSON text that is stored.

    Raises:
        InvalidDefinition: it is no JSON object, or too large or too deep.
    """
    if not isinstance(schema, dict):
        raise refuse("it must be a JSON object")
    _check_json(schema)
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        size = len(text.encode())
    except ValueError:  # NaN, a number of thousands of digits, half a surrogate pair
        raise refuse("it holds a number or a text that JSON cannot hold") from None
    if size > MAX_SCHEMA_BYTES:
        raise refuse(f"it takes {size:,} bytes, and {MAX_SCHEMA_BYTES:,} at most are stored")
    return text


def _check_json(schema: object) -> None:
    waiting: list[tuple[object, int]] = [(schema, 1)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > _SCHEMA_DEPTH or seen > MAX_SCHEMA_BYTES:
            raise refuse(f"it has objects and lists more than {_SCHEMA_DEPTH} levels deep, or too many of them")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise refuse("a key in it is no text")
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
        elif not (value is None or isinstance(value, str | int | float)):
            raise refuse(f"it holds {type(value).__name__}, which JSON does not have")


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return all schemas directly inside one, each with its keyword."""
    for keyword, held in {**HERE, **BELOW, "propertyNames": 1, "prefixItems": 2, "$defs": 3, "definitions": 3}.items():
        if keyword in schema:
            value = schema[keyword]
            inside = [value] if held == 1 else value if held == 2 else value.values()
            yield from ((keyword, item) for item in inside)
    for keyword in ("properties", "patternProperties"):
        yield from ((keyword, item) for item in schema.get(keyword, {}).values())


class Bounds:
    """The judgement of one schema that is valid by 2020-12's own. `is_schema` asks that of a part of it, `pattern_size`
    measures a pattern, or refuses it; the keywords `ours` are checked in Python; `formats` are checked, at their costs.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        is_schema: Callable[[Any], bool],
        pattern_size: Callable[[str], int],
        ours: Set[str],
        formats: Mapping[str, tuple[int, int]],
    ) -> None:
        self._document = document
        self._is_schema = is_schema
        self._pattern_size = pattern_size
        self._ours = ours
        self._formats = formats
        self._compares: dict[int, bool] = {}
        self.prices: dict[int, Work] = {}  # of one place alone, by the id of the schema that it has to fit
        self._anchors: dict[str, Any] = {}
        self._targets: dict[str, Any] = {}
        self._leads_to: dict[str, set[str]] = {}
        self._known: dict[tuple[int, int, frozenset[tuple[str, _Followed]]], Work] = {}
        self._sizes: dict[str, int] = {}
        self._steps = 0

    def check(self) -> Work:
        """Return what the schema costs at one place, if it can be used.

        Raises:
            InvalidDefinition: it leaves the document, goes round in circles, or makes too much work.
        """
        try:
            return self._check()
        except RecursionError:
            raise refuse("its schemas lead to each other too deeply") from None

    def _check(self) -> Work:
        self._collect_anchors(self._document)
        self._leads_to["#"] = self._look_over(self._document)
        recursive = {name for name in self._targets if name in self._reach(name)}
        total = self._work(self._document, {}, 0, 0, recursive)
        for name in sorted(recursive):
            total += self._work(self._targets[name], {name: _Followed(0)}, 0, 0, recursive)
        if total.checks > MAX_CHECKS:
            raise refuse(
                f"it would check one place of a message up to {total.checks:,} times, and {MAX_CHECKS:,} are allowed; "
                "use fewer alternatives, or references that lead to each other less often"
            )
        if total.patterns > MAX_PATTERN_SIZE:
            raise refuse(
                "its patterns would take too long on a long text; use fewer for one text, or maxLength instead of {...}"
            )
        return total

    # --- References ---

    def _collect_anchors(self, schema: object) -> None:
        if isinstance(schema, dict):
            anchor = schema.get("$anchor")
            if anchor is not None and self._anchors.setdefault(anchor, schema) is not schema:
                raise refuse(f"two places in it have the $anchor {anchor!r}")
            for _, inner in subschemas(schema):
                self._collect_anchors(inner)

    def _look_over(self, schema: object) -> set[str]:
        """Check the references and other names in a schema and all inside, and give where they lead."""
        found: set[str] = set()
        waiting = [schema]
        while waiting:
            inner = waiting.pop()
            self._count_step()
            if not isinstance(inner, dict):
                continue
            for keyword, why in _REFUSED.items():
                if keyword in inner:
                    raise refuse(f"{keyword} cannot be used: {why}")
            if "$schema" in inner and inner is not self._document:
                raise refuse("$schema stands at the top, or nowhere")
            if "$ref" in inner:
                found.add(self._target(inner["$ref"]))
            waiting += [item for _, item in subschemas(inner)]
        return found

    def _target(self, reference: str) -> str:
        if reference in self._leads_to:
            return reference
        if not reference.startswith("#"):
            raise refuse("a $ref leaves the document; it must begin with #")
        schema = self._resolve(reference)
        self._targets[reference] = schema
        if len(self._targets) > _MAX_TARGETS:
            raise refuse(f"its references have more than {_MAX_TARGETS} targets")
        self._leads_to[reference] = set()
        self._leads_to[reference] = self._look_over(schema)
        return reference

    def _resolve(self, reference: str) -> Any:
        fragment = unquote(reference[1:])
        if fragment and not fragment.startswith("/"):
            if fragment not in self._anchors:
                raise refuse("a $ref leads to an $anchor that is not there")
            return self._anchors[fragment]
        place: Any = self._document
        try:
            for step in fragment.split("/")[1:]:
                name = step.replace("~1", "/").replace("~0", "~")
                place = place[int(name)] if isinstance(place, list) else place[name]
        except (KeyError, IndexError, ValueError, TypeError):
            place = None
        if not isinstance(place, dict | bool) or not self._is_schema(place):
            shown = json.dumps(reference[:_SHOWN])
            raise refuse(f"the $ref {shown} leads to something that is not there, or no schema")
        return place

    def _reach(self, name: str) -> set[str]:
        reached: set[str] = set()
        waiting = list(self._leads_to[name])
        while waiting:
            other = waiting.pop()
            if other not in reached:
                reached.add(other)
                waiting += self._leads_to[other]
        return reached

    # --- Work ---

    def _work(self, schema: object, within: dict[str, _Followed], depth: int, chain: int, recursive: set[str]) -> Work:
        """Return what one place of a message costs at most, with all below it on the costliest way down.

        `within` are the recursive references that were followed to come here. The validator expands others each time,
        and remembers the outcome of one that leads back to itself; but not while it looks for what is unevaluated.
        """
        if not isinstance(schema, dict) or depth > MAX_DEPTH:  # no message goes deeper
            return Work(1)
        if within and not chain and self._compares_items(schema):
            within = {name: followed._replace(compared=True) for name, followed in within.items()}
        known = (id(schema), depth, frozenset(within.items()))
        if known in self._known:
            return self._known[known]
        self._count_step()
        if chain > _MAX_CHAIN:
            raise refuse(f"more than {_MAX_CHAIN} schemas in it lead to each other without a step into the message")

        looks_back = "unevaluatedItems" in schema or "unevaluatedProperties" in schema
        if looks_back:
            within = {name: followed._replace(looked_back=True) for name, followed in within.items()}

        def here(inner: object) -> Work:
            return self._work(inner, within, depth, chain + 1, recursive)

        def below(inner: object) -> Work:
            return self._work(inner, within, depth + 1, 0, recursive)

        work = sum((here(item) for keyword, item in subschemas(schema) if keyword in HERE), self._own(schema))
        if "$ref" in schema:
            name = schema["$ref"]
            if name in within:
                if within[name].depth == depth:
                    raise refuse("a $ref in it leads back to itself without a step into the message")
                if within[name].looked_back:
                    raise refuse(
                        "a $ref in it leads back to itself past unevaluatedItems or unevaluatedProperties; "
                        "use items or additionalProperties there"
                    )
                if within[name].compared:
                    raise refuse(
                        "a $ref in it leads back to itself past uniqueItems, which would compare the same items again "
                        "at every level; leave uniqueItems out there"
                    )
                work += Work(_REMEMBERED)
            else:
                inner_within = {**within, name: _Followed(depth)} if name in recursive else within
                work += self._work(self._targets[name], inner_within, depth, chain + 1, recursive)
        if looks_back:
            work *= _UNEVALUATED
        if not chain:
            self.prices[id(schema)] = work.most(self.prices.get(id(schema), Work()))
        work += self._below(schema, below)
        self._known[known] = work
        return work

    def _below(self, schema: Mapping[str, Any], below: Callable[[object], Work]) -> Work:
        """Return the costliest of what is checked of one item, or of one key and its value."""
        every = sum((below(schema[keyword]) for keyword in BELOW if keyword in schema), Work())
        for pattern, inner in schema.get("patternProperties", {}).items():
            every += below(inner) + Work(_MATCH, self._size(pattern))
        if "propertyNames" in schema:
            every += below(schema["propertyNames"])
        named = [below(inner) for inner in (*schema.get("properties", {}).values(), *schema.get("prefixItems", ()))]
        return every + reduce(Work.most, named, Work())

    def _own(self, schema: Mapping[str, Any]) -> Work:
        """Return what the keywords of a schema cost that hold no others."""
        checks, patterns = 1 + (len(schema) + 3) // 4 + len(schema.get("dependentSchemas", ())), 0
        checks += sum(1 + len(names) for names in schema.get("dependentRequired", {}).values())
        checks += sum(_OURS for keyword in COMPARED if keyword in schema and keyword in self._ours)
        checks += _MULTIPLE * ("multipleOf" in schema) + _UNIQUE * bool(schema.get("uniqueItems"))
        for option in (*schema.get("enum", ()), schema.get("const")):
            if isinstance(option, dict | list):
                checks += 4 + len(json.dumps(option)) // 2
        if "enum" in schema:
            patterns += _LOOKED_UP
        if "format" in schema:
            more, size = self._formats.get(schema["format"], (0, 0))
            checks, patterns = checks + more, patterns + size
        if "pattern" in schema:
            checks, patterns = checks + _MATCH, patterns + self._size(schema["pattern"])
        return Work(checks, patterns, sum(keyword in schema and keyword not in self._ours for keyword in LIMITS))

    def _compares_items(self, schema: object) -> bool:
        """Return whether a schema, or another one for the same place, has uniqueItems."""
        if not isinstance(schema, dict):
            return False
        if id(schema) not in self._compares:
            self._count_step()
            self._compares[id(schema)] = False  # for those that lead back here
            inner = [item for keyword, item in subschemas(schema) if keyword in HERE]
            inner += [self._targets[schema["$ref"]]] if "$ref" in schema else []
            self._compares[id(schema)] = bool(schema.get("uniqueItems")) or any(map(self._compares_items, inner))
        return self._compares[id(schema)]

    def _size(self, pattern: str) -> int:
        if pattern not in self._sizes:
            if len(self._sizes) == _MAX_PATTERNS:
                raise refuse(f"it has more than {_MAX_PATTERNS} patterns")
            self._sizes[pattern] = self._pattern_size(pattern)
        return self._sizes[pattern]

    def _count_step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise refuse("its references lead to each other in too many ways")


_ATOM = re.compile(r"\\[pP]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\.", re.DOTALL)


def skeleton(pattern: str) -> str:
    """Put one letter for each class of characters: how long matching takes depends on how many there are, not which."""
    return _ATOM.sub("a", pattern)
