"""Tell the life of a message: what is known of it, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from redisq.cli import clients, options, output, tables

Found = Mapping[str, Any]  # a message, as `Message.to_dict` gives it
Step = dict[str, Any]  # at, event, attempt, by, error, count
Row = tuple[str, str, str, str, str]  # the same as text

#: How the error of the last attempt is told, after those of all attempts.
_FORMS = {"available": "after {type}: {message}", "error": "{reason}: {type}: {message}"}
_MISSING: Row = ("", "...", "", "", "earlier steps are not kept")


def trace(
    queue: options.Queue,
    id: options.MessageId,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print what happened to a message, step by step: when, in which attempt, by whom; and how it stands now.

    By whom is a worker, or the application that redrove it. Neither the request nor the result is printed.
    """
    with clients.opened(url) as mq:
        found = mq.get_message(queue, id, token).to_dict()
    if as_json:
        head = {name: found[name] for name in ("id", "queue", "status")}
        output.document({**head, "truncated": _truncated(found), "steps": steps(found)})
    else:
        output.text(tables.wrapped(f"{found['status']:<11}{id} in {queue}\n{described(found)}"))


def steps(found: Found) -> list[Step]:
    """Return the steps of a message's life in their order, the last of which is how it stands now."""
    life = _past(found)
    if found["started_at"] is not None and found["status"] != "INPROGRESS":
        _put_start(life, found["started_at"], found["attempts"])
    if found["queued_at"] is not None:
        life.insert(0, _step("queued", found["queued_at"]))
    return [*life, _now(found)]


def described(found: Found) -> str:
    """Describe the steps, one on each line."""
    queued, rows = int(found["queued_at"] is not None), [_row(step) for step in steps(found)]
    return _lines([*rows[:queued], *[_MISSING] * _truncated(found), *rows[queued:]])


def history(found: Found) -> str:
    """Describe what was out of the ordinary, one on each line."""
    return _lines([*[_MISSING] * _truncated(found), *(_row(step) for step in _past(found))])


def brief(history: Sequence[Found]) -> str:
    """Sum a history up: what happened, and how many times in a row."""
    runs = itertools.groupby(history, lambda past: past["event"])
    return ", ".join(_times(event, sum(past["count"] for past in run)) for event, run in runs)


def _times(event: str, count: int) -> str:
    return event if count == 1 else f"{event} {count:,} times"


def _past(found: Found) -> list[Step]:
    return [
        _step(past["event"], past["at"], past["attempt"], past["by"], past["error"], past["count"])
        for past in found["history"]
    ]


def _step(
    event: str,
    at: str | None,
    attempt: int | None = None,
    by: str | None = None,
    error: Found | None = None,
    count: int = 1,
) -> Step:
    return {"at": at, "event": event, "attempt": attempt, "by": by, "error": error, "count": count}


def _put_start(life: list[Step], at: str, attempt: int) -> None:
    """Put the start of the last delivery before what came of it, unless that begins with a worker taking it over."""
    place = next((number for number, step in enumerate(life) if step["attempt"] >= attempt), len(life))
    came = life[place : place + 1]
    if not (came and (came[0]["event"] == "reclaimed" or came[0]["at"] < at)):
        life.insert(place, _step("started", at, attempt))


def _now(found: Found) -> Step:
    attempt = found["attempts"] or None
    match found["status"]:
        case "PENDING":
            return _step("available", found["available_at"], error=found["error"])
        case "INPROGRESS":
            return _step("in progress", found["started_at"], attempt)
        case ended:
            return _step(ended.lower(), found["finished_at"], attempt, error=found["error"])


def _truncated(found: Found) -> bool:
    """Return whether steps are missing: something out of the ordinary came before each attempt but the first."""
    history = found["history"]
    if not history:
        return bool(found["attempts"] > 1)
    first = history[0]
    return bool(first["attempt"] > first["count"] or first["event"] == "redriven")


def _row(step: Step) -> Row:
    error = ""
    if step["error"] is not None:
        form = _FORMS.get(step["event"], "{type}: {message}")
        error = form.format_map(step["error"])
    attempt = "" if step["attempt"] is None else f"attempt {step['attempt']}"
    by = "" if step["by"] is None else f"by {step['by']}"
    return (step["at"] or "", _times(step["event"], step["count"]), attempt, by, output.one_line(error))


def _lines(rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
