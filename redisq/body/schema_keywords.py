"""Keywords that are checked here, in Python, each in constant time or in that of reading its operands. Pure.

The library computes with fractions of any length (jsonschema-rs 0.60, CPython 3.11, one quiet core; ns for one number):

    keyword and operand          7       0.1     1e308    5e-324    here
    minimum: 7                   20        30       760        30       -
    minimum: 0.1                390       570     1,270    13,800     600
    minimum: 10**400            100       290     1,130       600     600
    multipleOf: 7                20       470     1,300       590     800
    multipleOf: 1e-300       15,800    17,100    32,700    18,700   2,000
    const: 7                    160     1,200     1,260    15,300     600
    enum: 100 integers           21   251,000   455,000 3,586,000     600

Measured by `is_valid` of {"items": {"anyOf": [{keyword: operand}, true]}} and a list of 20,000 times that number. So
what takes the library long goes through here; a call from there to here takes half a microsecond.
"""

from __future__ import annotations

import math
import operator
import threading
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

_SMALL = 2**63  # integers below it the library compares as they are
_HUGE = 50  # checks that one more limit of such a float is worth
_LARGEST = 2**1024  # beyond it no float goes
_PLAIN = frozenset({str, bool, type(None)})  # kinds of values that the library compares as they are
_NUMBERS = frozenset({int, float})
_DIGITS = 20  # of a number in a message; an integer of 64 bits has 19
LIMITS = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}
COMPARED = (*LIMITS, "const", "enum")

#: In a schema that is checked off the event loop: lets other threads run, as the library never does.
BREATHE = "x-redisq-breathe"


class Keyword:
    """A keyword as the library wants it."""

    def __init__(self, _schema: object, operand: Any, _path: object) -> None:
        self.operand = operand

    def is_valid(self, value: Any) -> bool:
        """Return whether a value fits."""
        raise NotImplementedError

    def validate(self, value: Any) -> None:
        """Return if a value fits; what else it says nobody reads."""
        if not self.is_valid(value):
            raise ValueError("does not fit")


class _Breathe(Keyword):
    """Pays for a place: [checks, limits that the library compares itself]. When nothing is left, nothing fits."""

    def is_valid(self, value: Any) -> bool:
        checks, limits = self.operand
        if limits and type(value) is float and not -_SMALL <= value <= _SMALL:
            checks += limits * _HUGE
        return pay(checks)


class _UniqueItems(Keyword):
    def is_valid(self, value: Any) -> bool:
        if not self.operand or not isinstance(value, list | tuple):
            return True
        return len(value) < 2 or len(set(map(_spelling, value))) == len(value)


class _MultipleOf(Keyword):
    """By decimal digits, as JSON has them: 0.0075 is a multiple of 0.0001."""

    def __init__(self, schema: object, operand: Any, path: object) -> None:
        super().__init__(schema, operand, path)
        self._whole = int(operand) if operand == int(operand) else None
        self._digits, self._exponent = (0, 0) if self._whole else _decimal(operand)

    def is_valid(self, value: Any) -> bool:
        if type(value) not in _NUMBERS or not value:
            return True
        if self._whole is None:
            return self._divides(*(_decimal(value) if isinstance(value, float) else (abs(value), 0)))
        if self._whole >= _LARGEST or (isinstance(value, float) and not value.is_integer()):
            return False
        return int(value) % self._whole == 0

    def _divides(self, digits: int, exponent: int) -> bool:
        shift = exponent - self._exponent
        if shift >= 0:
            return digits * pow(10, shift, self._digits) % self._digits == 0
        return shift >= -_DIGITS and digits % (self._digits * 10**-shift) == 0


class _Limit(Keyword):
    compare = staticmethod(operator.ge)

    def is_valid(self, value: Any) -> bool:
        return type(value) not in _NUMBERS or bool(self.compare(value, self.operand))


class _Enum(Keyword):
    def __init__(self, schema: object, operand: Any, path: object) -> None:
        super().__init__(schema, operand, path)
        self._numbers = {option for option in operand if type(option) in _NUMBERS}
        self._plain = {option for option in operand if type(option) in _PLAIN}
        self._containers = [option for option in operand if isinstance(option, list | dict)]

    def is_valid(self, value: Any) -> bool:
        kind = type(value)
        if kind in _PLAIN:
            return value in self._plain
        if kind in _NUMBERS:
            return value in self._numbers
        return any(_same(value, option) for option in self._containers)


class _Const(_Enum):
    def __init__(self, schema: object, operand: Any, path: object) -> None:
        super().__init__(schema, [operand], path)


KEYWORDS: Mapping[str, type[Keyword]] = {
    BREATHE: _Breathe,
    "uniqueItems": _UniqueItems,
    "multipleOf": _MultipleOf,
    "const": _Const,
    "enum": _Enum,
    **{name: type(f"_{name}", (_Limit,), {"compare": staticmethod(test)}) for name, test in LIMITS.items()},
}


def ours(document: object) -> frozenset[str]:
    """Return the keywords of a document that are to be checked here: all of them when one of their operands is odd."""
    found = {BREATHE, "uniqueItems", "multipleOf"}
    for schema in _objects(document):
        for keyword in LIMITS:
            limit = schema.get(keyword, 0)
            if not (type(limit) is int and -_SMALL <= limit < _SMALL):
                found.add(keyword)
        if "const" in schema and type(schema["const"]) not in _PLAIN:
            found.add("const")
        options = schema.get("enum", ())
        if not (isinstance(options, list | tuple) and all(type(option) in _PLAIN for option in options)):
            found.add("enum")
    return frozenset(found)


def _objects(document: object) -> Iterator[Mapping[str, Any]]:
    """Return all objects of a document, whether they are schemas or not."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _decimal(number: float) -> tuple[int, int]:
    """Return the digits of a number as JSON writes it, and the power of ten that they are multiplied with."""
    _, digits, exponent = Decimal(repr(abs(number))).normalize().as_tuple()
    return int("".join(map(str, digits))), int(exponent)


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON: 1 is 1.0, true is not 1. It reads no more than the smaller one."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and len(one) == len(other)
            and all(key in other and _same(item, other[key]) for key, item in one.items())
        )
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


class _Check(threading.local):
    """The check that is under way in a thread: containers that were spelled, so that what lies inside others is not
    spelled at every level; how many checks are still paid for; and when it has to end, by the monotonic clock."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.left = 0
        self.end = math.inf


_check = _Check()


def begin(checks: int, seconds: float = math.inf) -> None:
    """Begin a check of so many checks at most, that takes so many seconds at most."""
    _check.texts, _check.left, _check.end = {}, checks, time.monotonic() + seconds


def pay(checks: int) -> bool:
    """Take checks from those that are left, and tell whether there were as many."""
    _check.left -= checks
    return _check.left >= 0


def exhausted() -> bool:
    """Return whether the check took more than it had: then what was found does not count."""
    return _check.left < 0 or time.monotonic() > _check.end


def _spelling(value: Any) -> str:
    """Write a value as the one text that all equal ones have. (Numbers and tuples can be made to collide, text not.)"""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        return int.__repr__(value)
    if kind is float:
        return str(int(value)) if -_SMALL <= value <= _SMALL and value.is_integer() else float.__repr__(value)
    if value is None or kind is bool:
        return str(value)
    known = _check.texts.get(id(value))
    if known is None:
        if kind is dict:
            known = "{" + ",".join(sorted(f"{_quoted(key)}:{_spelling(item)}" for key, item in value.items())) + "}"
        else:
            known = "[" + ",".join(map(_spelling, value)) + "]"
        _check.texts[id(value)] = known
    return known
