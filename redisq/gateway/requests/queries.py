"""The query of a request, read strictly: a parameter that a route does not know is an error, and so is one twice."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import parse_qsl

from starlette.requests import Request

from redisq.gateway.requests.errors import BadRequest

_MOST = 16
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")
_PREFERRED = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,9}")


def query(request: Request, *known: str) -> dict[str, str]:
    """Return the parameters of a query.

    Raises:
        BadRequest: it is malformed, or has a parameter twice or that is not known here.
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
    if found.keys() - set(known):
        names = f"There are: {', '.join(known)}." if known else "There are none."
        raise BadRequest(f"The query has a parameter that is not known here. {names}")
    return found


def seconds(found: dict[str, str], name: str) -> float | None:
    """Read a number of seconds, 0 or more; None when it is not there."""
    text = found.get(name)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text):
        raise BadRequest(f"{name} takes a number of seconds, like 5 or 0.5.")
    return float(text)


def preferred_wait(request: Request, longest: float) -> float | None:
    """Return the seconds that a Prefer header asks to wait, `longest` at most; None when none does."""
    for name, value in request.scope["headers"]:
        if name == b"prefer":
            for preference in value.decode("latin-1").split(","):
                if found := _PREFERRED.fullmatch(preference.partition(";")[0]):
                    return min(float(found[1]), longest)
    return None


def number(found: dict[str, str], name: str, low: int, high: int) -> int | None:
    """Read a whole number in its bounds; None when it is not there."""
    text = found.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise BadRequest(f"{name} takes a whole number from {low:,} to {high:,}.")
    return int(text)


def moment(found: dict[str, str], name: str) -> datetime | None:
    """Read a time with its zone; None when it is not there."""
    text = found.get(name)
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.utcoffset() is None:
        raise BadRequest(f"{name} takes a time with its zone, like 2026-12-24T18:00:00Z; write + as %2B.")
    return read
