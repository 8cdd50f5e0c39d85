"""The query of a request, read strictly: a parameter that a route does not know is an error, and so is one twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from redisq.gateway.requests.errors import BadRequest

_MOST = 16
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")
_PREFERRED = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its meaning, its JSON Schema, and what reads its name and its text, or raises BadRequest."""

    name: str
    meaning: str
    schema: Mapping[str, Any]
    read: Callable[[str, str], Any]


def query(request: Request, *known: Parameter) -> dict[str, Any]:
    """Return what those parameters say that are there.

    Raises:
        BadRequest: the query is malformed, or has a parameter twice or that is not known here, or says what none takes.
    """
    raw: bytes = request.scope["query_string"]
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except ValueError:
        raise BadRequest("The query cannot be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("The query has a parameter twice.")
    names = [parameter.name for parameter in known]
    if found.keys() - set(names):
        told = f"There are: {', '.join(names)}." if names else "There are none."
        raise BadRequest(f"The query has a parameter that is not known here. {told}")
    return {one.name: one.read(one.name, found[one.name]) for one in known if one.name in found}


def seconds(name: str, meaning: str, most: float = 31_536_000, *, above_zero: bool = False) -> Parameter:
    """Describe a number of seconds."""
    low = "exclusiveMinimum" if above_zero else "minimum"
    return Parameter(name, meaning, {"type": "number", low: 0, "maximum": most}, _seconds)


def number(name: str, meaning: str, low: int, high: int, default: int) -> Parameter:
    """Describe a whole number in its bounds."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return Parameter(name, meaning, schema, partial(_number, low, high))


def moment(name: str, meaning: str) -> Parameter:
    """Describe a time with its zone."""
    return Parameter(name, meaning, {"type": "string", "format": "date-time"}, _moment)


def word(name: str, meaning: str, words: Sequence[str]) -> Parameter:
    """Describe one of some words."""
    return Parameter(name, meaning, {"type": "string", "enum": list(words)}, partial(_word, words))


def _seconds(name: str, text: str) -> float:
    if not _SECONDS.fullmatch(text):
        raise BadRequest(f"{name} takes a number of seconds, like 5 or 0.5.")
    return float(text)


def _number(low: int, high: int, name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise BadRequest(f"{name} takes a whole number from {low:,} to {high:,}.")
    return int(text)


def _moment(name: str, text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.utcoffset() is None:
        raise BadRequest(f"{name} takes a time with its zone, like 2026-12-24T18:00:00Z; write + as %2B.")
    return read


def _word(words: Sequence[str], name: str, text: str) -> str:
    if text not in words:
        raise BadRequest(f"{name} takes one of {', '.join(words)}.")
    return text


def preferred_wait(request: Request, longest: float) -> float | None:
    """Return the seconds that a Prefer header asks to wait, `longest` at most; None when none does."""
    for name, value in request.scope["headers"]:
        if name == b"prefer":
            for preference in value.decode("latin-1").split(","):
                if found := _PREFERRED.fullmatch(preference.partition(";")[0]):
                    return min(float(found[1]), longest)
    return None
