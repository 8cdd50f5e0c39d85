"""Schemas: what is refused, what a violation says, and that nothing stalls whoever checks.

What could stall runs in a process of its own, which is ended after a while: a library written in Rust holds Python up,
and when its stack or its memory is full it ends the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redisq import InvalidDefinition, InvalidSettings, SchemaViolation
from redisq.body import schemas
from redisq.body.schema_cost import FORMATS, MAX_SCHEMA_BYTES, skeleton

ITEM = {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}, "required": ["price"]}
ORDER = {
    "type": "object",
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]-[0-9]+$"},
        "items": {"items": {"$ref": "#/$defs/item"}},
        "gift": {"anyOf": [{"$ref": "#/$defs/item"}, {"type": "null"}]},
    },
    "required": ["sku"],
    "additionalProperties": False,
    "$defs": {"item": ITEM},
}


def errors(schema: dict[str, Any], message: object) -> list[tuple[str, str]]:
    """What is wrong with a message, as paths and texts; nothing when it fits."""
    try:
        schemas.compile(schema).check(message)
    except SchemaViolation as refused:
        violation = refused
    else:
        return []
    assert violation.errors[0]["path"] == violation.path
    assert f"{violation.path}: {violation.errors[0]['message']}" in str(violation)
    return [(error["path"], error["message"]) for error in violation.errors]


# --- Checking ---


def test_what_fits_fits() -> None:
    assert errors(ORDER, {"sku": "A-1"}) == []
    assert errors(ORDER, {"sku": "A-1", "items": [{"price": 1}, {"price": 0.5}], "gift": None}) == []
    assert errors({}, [1, "two", None]) == []


def test_every_error_has_its_place() -> None:
    message = {"sku": "secret", "items": [{"price": 1}, {"price": "secret"}, {}], "gift": {"price": -77}, "zeal": 1}
    assert sorted(errors(ORDER, message)) == [
        ("$.gift.price", "must be at least 0"),
        ("$.items[1].price", "must be number"),
        ("$.items[2].price", "must be there"),
        ("$.sku", 'must match the pattern "^[A-Z]-[0-9]+$"'),
        ("$.zeal", "the schema does not allow this key"),
    ]
    assert errors(ORDER, []) == [("$", "must be object")]
    assert errors(ORDER, {}) == [("$.sku", "must be there")]


@pytest.mark.parametrize(
    ("schema", "message", "told"),
    [
        ({"type": ["string", "null"]}, 5, "must be string or null"),
        ({"const": {"a": 1}}, 5, 'must be {"a": 1}'),
        ({"enum": ["a", 1]}, 5, 'must be one of "a", 1'),
        ({"exclusiveMinimum": 5}, 5, "must be more than 5"),
        ({"multipleOf": 2}, 5, "must be a multiple of 2"),
        ({"minLength": 2}, "x", "must have at least 2 characters"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 items"),
        ({"minProperties": 1}, {}, "must have at least 1 keys"),
        ({"uniqueItems": True}, [1, 2, 1.0], "must not have two equal items"),
        ({"not": {"type": "integer"}}, 5, "must not fit the schema under not"),
        ({"contains": {"const": 5}}, [1], "must have at least 1 items that fit the schema under contains"),
        (
            {"contains": {"const": 5}, "maxContains": 1},
            [5, 5],
            "must have 1 to 1 items that fit the schema under contains",
        ),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 5, "must fit one of the 2 alternatives only, and fits 2"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, 5, "must fit one of the 2 alternatives of anyOf"),
        ({"unevaluatedProperties": False}, {"a": 1}, "has keys that the schema does not allow"),
        ({"allOf": [True, {"if": {"minimum": 1}, "then": {"maximum": 4}}]}, 5, "must be at most 4"),
        ({"$ref": "#x", "$defs": {"a": {"$anchor": "x", "type": "null"}}}, 5, "must be null"),
    ],
    ids=str,
)
def test_what_is_wanted_is_told(schema: dict[str, Any], message: object, told: str) -> None:
    assert errors(schema, message) == [("$", told)]


@pytest.mark.parametrize(
    ("schema", "message", "place"),
    [
        ({"prefixItems": [True], "items": {"type": "null"}}, [1, None, 2], "$[2]"),
        ({"prefixItems": [True, {"type": "null"}]}, [1, 2, 3], "$[1]"),
        ({"patternProperties": {"^x": {"type": "null"}}}, {"x y": 1, "z": 1}, '$["x y"]'),
        ({"properties": {"a": True}, "additionalProperties": {"type": "null"}}, {"a": 1, "b": 1}, "$.b"),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1, "ab": 1}, "$.ab"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "$.b"),
        ({"dependentSchemas": {"a": {"properties": {"b": False}}}}, {"a": 1, "b": 1}, "$.b"),
        ({"properties": {"n": {"$ref": "#"}}, "type": "object"}, {"n": {"n": {"n": 5}}}, "$.n.n.n"),
    ],
    ids=str,
)
def test_where_it_is_wanted_is_told(schema: dict[str, Any], message: object, place: str) -> None:
    assert [where for where, _ in errors(schema, message)] == [place]


def test_of_alternatives_the_one_that_is_meant_is_told() -> None:
    kinds = [
        {"properties": {"kind": {"const": name}, "size": {"type": kind}}, "required": ["kind"]}
        for name, kind in (("box", "integer"), ("bag", "string"))
    ]
    assert errors({"oneOf": kinds}, {"kind": "bag", "size": 5}) == [("$.size", "must be string")]


def test_no_value_of_the_message_is_told() -> None:
    message = {"sku": "secret", "items": ["secret", {"price": "secret"}], "gift": "secret"}
    with pytest.raises(SchemaViolation) as refused:
        schemas.compile(ORDER).check(message)
    assert "secret" not in str(refused.value) + repr(refused.value.errors)


def test_errors_are_bounded_in_number_and_length() -> None:
    assert len(errors({"items": {"type": "string"}}, list(range(100)))) == 20
    ((_, told),) = errors({"enum": ["x" * 50] * 1 + ["y" * 1000]}, 5)
    assert len(told) < 300


def test_bytes_and_times_are_seen_as_json_has_them() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert errors({"items": {"type": "string"}}, [b"\xff", moment]) == []
    assert errors({"items": {"enum": ["/w==", "2026-01-02T00:00:00.000Z"]}}, [b"\xff", moment]) == []
    assert errors({"maxLength": 3}, b"\xff") == [("$", "must have at most 3 characters")]
    assert errors({"items": {"maxLength": 3}}, (b"\xff",)) == [("$[0]", "must have at most 3 characters")]


def test_formats_are_annotations() -> None:
    assert errors({"format": "email", "contentMediaType": "application/json"}, "x") == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("time", "12:00:00Z", "25:00:00Z"),
        ("date-time", "2026-01-01T00:00:00Z", "yesterday"),
        ("duration", "P1DT2H", "P"),
        ("email", "a@example.com", "a"),
        ("idn-email", "\u00e9@example.com", "a"),
        ("hostname", "example.com", "-a"),
        ("idn-hostname", "b\u00fccher.example", "\u00fc" * 300),
        ("ipv4", "127.0.0.1", "256.0.0.1"),
        ("ipv6", "::1", "1::2::3"),
        ("uri", "https://example.com/a", "a b"),
        ("uri-reference", "/a", "\\\\a"),
        ("iri", "https://example.com/\u00e9", "a b"),
        ("uuid", "05749898-74a0-47e1-b10d-5acf29d040c4", "05749898"),
        ("json-pointer", "/a/0", "a"),
        ("regex", "^a+$", "("),
    ],
)
def test_formats_are_checked_where_that_is_asked_for(name: str, good: str, bad: str) -> None:
    schema = schemas.compile({"items": {"format": name}}, check_formats=True)
    schema.check([good, 5, None])
    with pytest.raises(SchemaViolation) as refused:
        schema.check([good, bad])
    assert refused.value.errors == [{"path": "$[1]", "message": f'must be of the format "{name}"'}]
    schemas.compile({"items": {"format": "nobody-knows"}}, check_formats=True).check(["x"])


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({"multipleOf": 0.0001}, [0.0075, 1, 0, -0.0075, 1e308, "x"], [0.00751, 5e-324]),
        ({"multipleOf": 0.01}, [19.99, 4.35, 1e300], [19.999]),
        ({"multipleOf": 1e-300}, [5, 2**62 + 1, 1e308], [5e-324]),
        ({"multipleOf": 10**400}, [0, 0.0], [1, 1e308, 2**62]),
        ({"multipleOf": 1e300}, [1e300, 0], [1e299, 7]),
        ({"multipleOf": 3}, [9, -9.0], [10, 1.5]),
        ({"minimum": 2**62 + 1}, [2**62 + 1, 1e308], [2**62, 4.6e18]),
        ({"exclusiveMinimum": 2**62 + 1}, [2**62 + 2], [2**62 + 1, float(2**62)]),
        ({"exclusiveMaximum": 0.1}, [0.09, 0, -(10**18)], [0.1, 1]),
        ({"maximum": 10**400}, [1e308, 2**62], []),
        ({"minimum": -1.5e308}, [-1.4e308, 0], [-1.6e308]),
        ({"const": 1}, [1, 1.0], [True, "1", 2, [1]]),
        ({"const": False}, [False], [0, None, ""]),
        ({"const": {"a": [1, {"b": 0.5}]}}, [{"a": [1.0, {"b": 0.5}]}], [{"a": [True, {"b": 0.5}]}, {"a": [1]}, {}]),
        ({"enum": [1, "1", None, [2], 10**400]}, [1.0, "1", None, [2.0]], [True, 0, [], 1e308, {}]),
        ({"enum": [0, []]}, [0.0, []], [False, None, "", {}]),
    ],
    ids=str,
)
def test_operands_are_compared_as_json_has_them(schema: dict[str, Any], fitting: list[Any], others: list[Any]) -> None:
    for message in fitting:
        assert errors(schema, message) == [], message
    for message in others:
        assert len(errors(schema, message)) == 1, message


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, True, "1", [1], {"a": 1}, None, 0, False, "", [], {}], True),
        ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], False),
        ([[1, [2.0]], [1, [2]]], False),
        ([2**62, 2**62 + 1, float(2**62)], False),
        ([2**62, 2**62 + 1], True),
        (["a,b", ["a", "b"], '"a"'], True),
        ([b"x", b"x"], False),
    ],
    ids=str,
)
def test_unique_items(items: list[object], unique: bool) -> None:
    assert (errors({"uniqueItems": True}, items) == []) is unique
    assert errors({"uniqueItems": False}, items) == []


# --- What is refused ---


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (True, "must be a JSON object"),
        ([], "must be a JSON object"),
        ({"type": "objekt"}, "$.type"),
        ({"properties": {"a": {"minLength": -1}}}, "$.properties.a.minLength"),
        ({"required": "sku"}, "$.required"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema must be"),
        ({"$schema": 5}, "$schema must be"),
        (
            {"properties": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}},
            "$schema stands at the top",
        ),
        ({"$id": "https://example.com/order"}, "$id cannot be used"),
        ({"items": {"dependencies": {"a": ["b"]}}}, "dependencies cannot be used"),
        ({"unevaluatedItems": {"$ref": "#"}, "contains": {"items": {"$ref": "#"}}}, "past unevaluatedItems"),
        ({"$defs": {"a": {"$id": "a"}}}, "$id cannot be used"),
        ({"$ref": "https://example.com/order"}, "leaves the document"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "leaves the document"),
        ({"items": {"$ref": "other.json#/a"}}, "leaves the document"),
        ({"$dynamicRef": "#x", "$defs": {"a": {"$dynamicAnchor": "x"}}}, "cannot be used"),
        ({"$ref": "#/$defs/a"}, "not there"),
        ({"$ref": "#a"}, "not there"),
        ({"$ref": "#/required", "required": ["a"]}, "no schema"),
        ({"$ref": "#/parts/a", "parts": {"a": {"type": "objekt"}}}, "no schema"),
        ({"$ref": "#/parts/a", "parts": {"a": {"$ref": "http://example.com"}}}, "leaves the document"),
        ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, "two places"),
        ({"$ref": "#"}, "back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}}, "back to"),
        ({"pattern": "("}, 'the pattern "(" cannot be used'),
        ({"pattern": r"(a)\1"}, "look-around and back references"),
        ({"patternProperties": {"^(?=a)": True}}, "look-around and back references"),
        ({"pattern": "(a?){100}(a){300}x"}, "patterns would take too long"),
        ({"pattern": "((a{1,100}){1,100}){1,100}"}, "huge"),
        ({"allOf": [{"pattern": f"[0-9a-f]{{30}}{i}"} for i in range(40)]}, "patterns would take too long"),
        ({"items": {"$ref": "#"}, "uniqueItems": True}, "past uniqueItems"),
        ({"items": {"$ref": "#"}, "allOf": [{"uniqueItems": True}]}, "past uniqueItems"),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/a"}},
                "$defs": {
                    "a": {"uniqueItems": True, "prefixItems": [True, {"properties": {"b": {"$ref": "#/$defs/a"}}}]}
                },
            },
            "past uniqueItems",
        ),
        ({"const": float("nan")}, "JSON cannot hold"),
        ({"const": "\ud800"}, "JSON cannot hold"),
        ({"const": b"x"}, "bytes"),
        ({"const": {1: 2}}, "no text"),
        ({"title": "x" * MAX_SCHEMA_BYTES}, "bytes"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_schema_is_refused(schema: object, told: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        schemas.compile(schema)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 500


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def doubling(levels: int, below: str | None = None) -> dict[str, Any]:
    """Each schema leads to the next one twice."""
    twice = [[{"$ref": f"#/$defs/d{i + 1}"}] * 2 for i in range(levels)]
    defs: dict[str, Any] = {
        f"d{i}": {"allOf": [{below: one} if below else one for one in twice[i]]} for i in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "integer"}}}


def clique(size: int) -> dict[str, Any]:
    """Each schema leads to all."""
    alternatives = [{"$ref": f"#/$defs/d{i}"} for i in range(size)]
    one = {"type": ["object", "integer"], "properties": {"a": {"anyOf": alternatives}}}
    return {"$ref": "#/$defs/d0", "$defs": {f"d{i}": one for i in range(size)}}


def looking_back(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": True}}
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


BOMBS = {
    "deep": nested(65),
    "deeper": nested(5000),
    "doubling": doubling(30),
    "doubling below": doubling(30, "items"),
    "chain": {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(150)} | {"d150": True},
    },
    "targets": {"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(1500)} | {"d1500": True}},
    "clique": clique(12),
    "looking back": looking_back(12),
    "alternatives": {"items": {"anyOf": [{"type": "null"}] * 2000}},
    "odd enum": {"items": {"enum": [[i] for i in range(5000)]}},
    "patterns": {"patternProperties": {f"k.*{i}": True for i in range(101)}},
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_stall_is_refused(name: str) -> None:
    with pytest.raises(InvalidDefinition, match=r"^schema: "):
        schemas.compile(BOMBS[name])


# --- What is taken may not stall ---

TREE = {"properties": {"a": {"$ref": "#"}, "kind": {"type": "string"}}, "type": ["object", "integer"]}
#: As much as is taken, about, each with a message that makes as much work as one can, or nearly.
HEAVY: dict[str, tuple[dict[str, Any], str]] = {
    "recursion": (TREE, "deep({'a': 0}, 'a')"),
    "two ways down": (clique(2), "deep({'a': 0}, 'a')"),
    "doubling": (doubling(7), "'x'"),
    "alternatives": ({"items": {"not": {"anyOf": [{"minimum": i + 9} for i in range(400)]}}}, "[1] * 99_999"),
    "all errors": ({"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "null"}}]}, "[1] * 99_999"),
    "required": ({"items": {"required": [f"k{i}" for i in range(5000)]}}, "[{}] * 99_999"),
    "unique integers": ({"uniqueItems": True}, "[2**62 + i for i in range(99_999)]"),
    "unique lists": ({"uniqueItems": True}, "[[2**62 + i] for i in range(49_999)]"),
    "enum": ({"items": {"enum": [f"o{i}" for i in range(5000)]}}, "['o4999'] * 99_998 + ['x']"),
    "slow pattern": ({"pattern": "[ab]*a[ab]{90}c"}, "''.join(random.choice('ab') for _ in range(1_000_000))"),
    "exponential pattern": ({"pattern": "^(a+)+$"}, "'a' * 1_000_000 + 'b'"),
    "looking back": (looking_back(4), "{f'a{i}': 1 for i in range(99_999)}"),
    "keys": (
        {"patternProperties": {f"k.*{i}": {"type": "null"} for i in range(50)}},
        "{f'k{i}': 1 for i in range(50_000)}",
    ),
}
RUN = """
import json, random, sys
from redisq import SchemaViolation
from redisq.body import schemas
def deep(leaf, key):
    for _ in range(30):
        leaf = {key: leaf, "kind": 5}
    return leaf
for schema, message in json.load(sys.stdin):
    ready, made = schemas.compile(schema), eval(message)
    try:
        ready.check(made)
        print("fits")
    except SchemaViolation as violation:
        print(len(violation.errors))
"""


def test_what_is_taken_neither_stalls_nor_ends_the_process() -> None:
    """All of it takes some seconds of one core; what this guards against would take hours, or ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(list(HEAVY.values())),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(HEAVY)


#: Operands for which a library that counts with fractions, or compares all with all, takes longest; and what is legal.
NUMBERS = (7, 0.1, 1e-300, 5e-324, 1e308, 2**62 + 1, 10**400, 10**4000)
EXTREMES: list[dict[str, Any]] = [
    *({"multipleOf": number} for number in NUMBERS),
    *({keyword: number} for keyword in ("minimum", "exclusiveMaximum") for number in (*NUMBERS, -(10**400))),
    *({"const": number} for number in NUMBERS),
    {"const": [0.1] * 500},
    {"enum": list(range(2000))},
    {"enum": [number * (i + 1) for i in range(100) for number in (7, 0.1, 5e-324, 1e-300, 10**400)]},
    {"enum": [{"a": i / 7} for i in range(300)]},
    {"uniqueItems": True},
    {"items": {"uniqueItems": True, "items": {"uniqueItems": True}}, "uniqueItems": True},
    {"required": [f"k{i}" for i in range(2000)]},
    {"properties": {f"k{i}": {"type": "integer"} for i in range(1500)}, "additionalProperties": False},
    {"dependentRequired": {f"k{i}": [f"k{j}" for j in range(20)] for i in range(100)}},
    {"dependentSchemas": {f"k{i}": {"required": ["k0"]} for i in range(500)}},
    {"propertyNames": {"enum": [f"k{i}" for i in range(2000)]}},
    {"patternProperties": {f"k.*{i}$": True for i in range(20)}, "unevaluatedProperties": {"type": "integer"}},
    {"allOf": [{"properties": {f"k{i}": True}} for i in range(100)], "unevaluatedProperties": {"type": "integer"}},
    {"contains": {"enum": [0.5 * i for i in range(1, 50)]}, "unevaluatedItems": {"type": "integer"}},
    {"pattern": "[ab]*a[ab]{60}c"},
    *({"format": name} for name in FORMATS),
]
#: Each is a list of what one place may hold; their msgpack takes 3 to 100 kB.
MESSAGES = {
    "integers": "[2**62 + i for i in range(1_500)]",
    "whole floats": "[float(2**62 + 1024 * i) for i in range(1_500)]",
    "large floats": "[1.5e300 * i for i in range(1_500)]",
    "tiny floats": "[5e-324 * i for i in range(1_500)]",
    "lists": "[[0.1] * 499 + [5e-324 * i] for i in range(20)]",
    "deep lists": "[deep([i], None) for i in range(50)]",
    "objects": "[{'a': i / 9} for i in range(1_000)]",
    "keys": "[{f'k{i}': i for i in range(1_000)}] * 3",
    "texts": "['ab' * 10_000, chr(233) * 10_000, '1' * 20_000, (chr(233) + '.') * 9_000] + [chr(233) * 250] * 50",
}
EACH = """
import json, sys, time
from redisq import InvalidDefinition, SchemaViolation
from redisq.body import schemas
def deep(leaf, _):
    for _ in range(28):
        leaf = [leaf]
    return leaf
extremes, messages = json.load(sys.stdin)
made = {name: eval(text) for name, text in messages.items()}
def check(schema, message):
    began = time.process_time()
    try:
        schema.check(message)
    except SchemaViolation:
        pass
    return time.process_time() - began
baseline = max(check(schemas.compile({"items": {"type": "integer"}, "minProperties": 1}), list(range(1_500))), 1e-4)
for extreme in extremes:
    for schema in (extreme, {"items": extreme}, {"items": {"anyOf": [{"not": extreme}, extreme]}}):
        try:
            ready = schemas.compile(schema, check_formats=True)
        except InvalidDefinition:
            continue
        for name, message in made.items():
            took = check(ready, message)
            if took > 1000 * baseline:  # again, as something else may have been under way
                took = check(ready, message)
            if took > 1000 * baseline:
                print(str(schema)[:80], name, round(took / baseline))
"""


def test_no_operand_takes_a_thousand_times_longer_than_another() -> None:
    """Each keyword with extreme operands against extreme messages, in CPU time; what this guards against took 100,000
    times as long as the check of a type."""
    done = subprocess.run(
        [sys.executable, "-c", EACH],
        input=json.dumps([EXTREMES, MESSAGES]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_message_is_refused_that_would_take_too_long() -> None:
    schema = schemas.compile({"items": {"not": {"anyOf": [{"minimum": i} for i in range(400)]}}})
    with pytest.raises(SchemaViolation, match="too long to check"):
        schema.check([-1e308] * 99_999)
    schema.check([-1] * 1_000)
    matched = schemas.compile({"properties": {"a": {"pattern": "[ab]*a[ab]{90}c"}, "b": {"type": "string"}}})
    with pytest.raises(SchemaViolation, match="too long to check"):
        matched.check({"a": "ab" * 500_000})
    matched.check({"b": "ab" * 500_000})  # nothing matches it


def test_a_long_check_lets_other_threads_run() -> None:
    """The library never does. How often they run is counted, not how fast."""
    schema = schemas.compile({"items": {"not": {"anyOf": [{"minimum": i + 9} for i in range(400)]}}})
    message = [1] * 50_000
    assert not schema.is_quick(50_000)
    checking = threading.Thread(target=schema.check, args=(message,))
    checking.start()
    turns = 0
    while checking.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 5


def test_public_schemas_are_taken_or_refused_for_a_reason() -> None:
    """Those of `check-jsonschema`, without what names their draft and their place, as our errors ask for."""
    package = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    refusals: dict[str, str] = {}
    found = sorted((Path(package.__file__).parent / "builtin_schemas" / "vendor").glob("*.json"))
    for path in found:
        document = json.loads(path.read_text("utf-8"))
        try:
            schemas.compile({key: value for key, value in document.items() if key not in ("$schema", "$id", "id")})
        except InvalidDefinition as error:
            refusals[path.name] = str(error)
    understood = (
        "bytes, and 65,536 at most are stored",
        "leaves the document",
        "dependencies cannot be used",
        "no schema",
    )
    assert len(found) - len(refusals) >= 15
    assert [name for name, told in refusals.items() if not any(reason in told for reason in understood)] == []


def test_a_pattern_counts_by_its_characters_not_their_kinds() -> None:
    assert skeleton(r"^\p{L}+[^a-z\]]{2}.\.x$") == "^a+a{2}aax$"
    assert errors({"pattern": r"^\p{L}+$"}, "été") == []


# --- Without the library ---


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    schemas.load.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(InvalidSettings, match=r"pip install 'jsonschema-rs>=[\d.]+'$"):
        schemas.compile({"type": "object"})


def test_the_library_is_loaded_for_a_schema_alone() -> None:
    told = "import sys, redisq.client, redisq.cli; print('jsonschema_rs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
