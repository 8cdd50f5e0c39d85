"""Schemas: what is refused, what a violation says, and that nothing stalls whoever checks.

What could stall runs in a process of its own, which is ended after a while: a library written in Rust holds Python up,
and when its stack or its memory is full it ends the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from redisq import InvalidDefinition, InvalidSettings, SchemaViolation, schemas
from redisq.schema_bounds import MAX_SCHEMA_BYTES, skeleton

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
from redisq import SchemaViolation, schemas
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
