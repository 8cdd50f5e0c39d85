"""How values read on the page: numbers, times, and the content of messages, which is data whatever it says. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from redisq.model.message import json_ready

LONGEST = 100_000  # characters of one value on a page
_BRIEF = 140  # characters of one in a list
#: Signs that show nothing, or turn the text around them, are shown by their numbers: nothing reads as what it is not.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


def plain(text: object) -> str:
    """Give text with its hidden signs visible."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def content(value: Any) -> tuple[str, int]:
    """Return a value as indented JSON, bytes in base64, and how many characters of it were cut."""
    text = plain(json.dumps(json_ready(value), ensure_ascii=False, indent=2))
    return text[:LONGEST], max(0, len(text) - LONGEST)


def brief(value: Any) -> str:
    """Return the beginning of a value on one line."""
    text = plain(json.dumps(json_ready(value), ensure_ascii=False))
    return text if len(text) <= _BRIEF else text[: _BRIEF - 1] + "…"


def number(value: float | None) -> str:
    """Return a count with its thousands apart; of millions, in short."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash, for no number
    if value >= 10_000_000:
        return f"{value / 1e6:,.1f} M"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def rate(value: float | None) -> str:
    """Return a number per second."""
    if value is None:
        return "–"  # noqa: RUF001
    if value == 0:
        return "0"
    return f"{value:,.2f}" if value < 1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Return a span of time in the one or two units that matter."""
    if seconds is None:
        return "–"  # noqa: RUF001
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10 and seconds % 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def size(count: int) -> str:
    """Return a number of bytes."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:,.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:,.1f} MiB"


def instant(at: datetime) -> str:
    """Return a time to the millisecond, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}"


def since(at: datetime, now: datetime) -> str:
    """Return how long ago a time was, or how far ahead it is."""
    seconds = round((now - at).total_seconds())
    if seconds == 0:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def iso(at: datetime) -> str:
    """Return a time for machines."""
    return str(json_ready(at))


FILTERS = {made.__name__: made for made in (plain, content, brief, number, rate, duration, size, instant, since, iso)}
