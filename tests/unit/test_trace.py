"""The life of a message as `redisq trace` tells it, from what a look-up gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line is an extra")

from redisq.cli.commands import trace
from redisq.model.message import Message, Status, Transition

QUEUED = datetime(2026, 1, 5, 9, tzinfo=UTC)
ERROR = {"type": "ValueError", "message": "no stock", "reason": "failed"}


def at(second: float) -> datetime:
    return QUEUED + timedelta(seconds=second)


def found(status: Status, *history: tuple[str, int, float, str], **fields: Any) -> dict[str, Any]:
    """A message as `to_dict` gives it."""
    past = tuple(Transition(event, attempt, at(second), by) for event, attempt, second, by in history)
    fields = {"queued_at": QUEUED, "history": past, **fields}
    return Message("id", "orders", status, request={"card": "4111"}, **fields).to_dict()


def told(message: dict[str, Any]) -> list[tuple[str, int | None]]:
    """The events with their attempts; each must come with a time, and these in order."""
    steps = trace.steps(message)
    times = [step["at"] for step in steps]
    assert None not in times
    assert times == sorted(times)
    return [(step["event"], step["attempt"]) for step in steps]


def test_a_message_that_waits() -> None:
    message = found(Status.PENDING, available_at=at(60))
    assert told(message) == [("queued", None), ("available", None)]
    assert trace.described(message) == "2026-01-05T09:00:00.000Z  queued\n2026-01-05T09:01:00.000Z  available"


def test_each_attempt_that_failed_says_how() -> None:
    errors = [{"type": "ValueError", "message": "no\nstock"}, {"type": "KeyError", "message": "'sku'"}]
    past = tuple(Transition("failed", n, at(n), "w-1", error=error) for n, error in enumerate(errors, 1))
    times = {"queued_at": QUEUED, "started_at": at(1.9), "finished_at": at(2)}
    message = Message("id", "orders", Status.ERROR, 1, error=ERROR, attempts=2, history=past, **times).to_dict()
    assert [step["error"] for step in trace.steps(message) if step["event"] == "failed"] == errors
    told = trace.described(message).splitlines()
    assert told[1].endswith("  failed   attempt 1  by w-1  ValueError: no stock")
    assert told[3].endswith("  failed   attempt 2  by w-1  KeyError: 'sku'")
    assert told[4].endswith("  error    attempt 2          failed: ValueError: no stock")
    assert "ValueError: no stock" in trace.history(message)


def test_a_message_that_completed() -> None:
    message = found(Status.COMPLETE, attempts=1, started_at=at(1), finished_at=at(2.5), result={"cvc": "123"})
    assert told(message) == [("queued", None), ("started", 1), ("complete", 1)]
    assert trace.described(message).splitlines() == [
        "2026-01-05T09:00:00.000Z  queued",
        "2026-01-05T09:00:01.000Z  started   attempt 1",
        "2026-01-05T09:00:02.500Z  complete  attempt 1",
    ]


def test_a_message_that_waits_for_its_retry_says_why() -> None:
    message = found(Status.PENDING, ("failed", 1, 2, "w-1"), attempts=1, available_at=at(5), error=ERROR)
    assert told(message) == [("queued", None), ("failed", 1), ("available", None)]
    assert trace.described(message).splitlines() == [
        "2026-01-05T09:00:00.000Z  queued",
        "2026-01-05T09:00:02.000Z  failed     attempt 1  by w-1",
        "2026-01-05T09:00:05.000Z  available                     after ValueError: no stock",
    ]


def test_a_message_in_progress_after_a_lapse() -> None:
    history = ("lost", 1, 2, "w-1"), ("reclaimed", 2, 2, "w-2")
    message = found(Status.INPROGRESS, *history, attempts=2, started_at=at(2), progress={"cvc": "123"})
    assert told(message) == [("queued", None), ("lost", 1), ("reclaimed", 2), ("in progress", 2)]
    assert "123" not in trace.described(message)


def test_being_taken_over_is_the_start() -> None:
    history = ("lost", 1, 2, "w-1"), ("reclaimed", 2, 2, "w-2")
    message = found(Status.COMPLETE, *history, attempts=2, started_at=at(2), finished_at=at(3))
    assert told(message) == [("queued", None), ("lost", 1), ("reclaimed", 2), ("complete", 2)]


def test_a_dead_letter() -> None:
    history = ("failed", 1, 2, "w-1"), ("failed", 2, 4, "w-2")
    message = found(Status.ERROR, *history, attempts=2, started_at=at(3), finished_at=at(4), error=ERROR)
    assert told(message) == [("queued", None), ("failed", 1), ("started", 2), ("failed", 2), ("error", 2)]
    assert trace.described(message).splitlines()[-1].endswith("failed: ValueError: no stock")


def test_a_redriven_one() -> None:
    history = ("failed", 1, 2, "w-1"), ("redriven", 1, 60, "shop")
    waiting = found(Status.PENDING, *history, attempts=1, available_at=at(60))
    assert told(waiting) == [("queued", None), ("failed", 1), ("redriven", 1), ("available", None)]
    done = found(Status.COMPLETE, *history, attempts=2, started_at=at(61), finished_at=at(62))
    assert told(done)[2:] == [("redriven", 1), ("started", 2), ("complete", 2)]


def test_one_that_expired_before_any_attempt() -> None:
    message = found(Status.ERROR, ("expired", 0, 9, "w-1"), finished_at=at(9), error={**ERROR, "reason": "expired"})
    assert told(message) == [("queued", None), ("expired", 0), ("error", None)]


def test_one_that_expired_while_it_waited_for_its_retry() -> None:
    """Its record no longer knows when its last attempt began, but when the next was due."""
    history = ("failed", 1, 2, "w-1"), ("expired", 1, 9, "w-2")
    message = found(Status.ERROR, *history, attempts=1, started_at=at(8), finished_at=at(9), error=ERROR)
    assert told(message) == [("queued", None), ("failed", 1), ("expired", 1), ("error", 1)]


def test_one_that_has_lost_its_body() -> None:
    message = found(Status.ERROR, ("unreadable", 0, 9, "w-1"), queued_at=None, finished_at=at(9), error=ERROR)
    assert told(message) == [("unreadable", 0), ("error", None)]


@pytest.mark.parametrize(
    ("history", "attempts", "missing"),
    [
        ([], 1, False),
        ([], 2, True),
        ([("failed", 1, 1, "w")], 2, False),
        ([("failed", 2, 1, "w")], 2, True),
        ([("redriven", 1, 1, "shop")], 2, True),
        ([("expired", 0, 1, "w"), ("redriven", 0, 2, "shop")], 1, False),
    ],
    ids=repr,
)
def test_steps_that_were_not_kept_are_told(history: list[Any], attempts: int, missing: bool) -> None:
    message = found(Status.COMPLETE, *history, attempts=attempts, started_at=at(5), finished_at=at(6))
    lines = [line.split("  ", 1)[1].strip() for line in trace.described(message).splitlines()]
    assert ("earlier steps are not kept" in lines[1]) == missing
    assert trace.history(message).count("not kept") == missing


def test_a_history_is_summed_up() -> None:
    history = [("failed", 1, 1, "w"), ("failed", 2, 2, "w"), ("redriven", 2, 3, "shop"), ("failed", 3, 4, "w")]
    assert trace.brief(found(Status.ERROR, *history)["history"]) == "failed 2 times, redriven, failed"
    assert trace.brief([]) == ""


def test_no_body_is_told_and_an_error_takes_one_line() -> None:
    error = {**ERROR, "message": "first\nsecond\t\x1b[31m\u202e"}
    message = found(Status.ERROR, attempts=1, started_at=at(1), finished_at=at(2), error=error)
    lines = trace.described(message).splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith(r"failed: ValueError: first second\t\x1b[31m\u202e")
    assert "4111" not in repr(trace.steps(message))


def test_deferrals_are_counted() -> None:
    history = (Transition("deferred", 7, at(2), "w-1", 7), Transition("failed", 8, at(3), "w-1"))
    message = Message(
        "id", "orders", Status.PENDING, 1, attempts=8, queued_at=QUEUED, available_at=at(9), history=history
    )
    described = message.to_dict()
    assert trace.brief(described["history"]) == "deferred 7 times, failed"
    assert [step["count"] for step in trace.steps(described)] == [1, 7, 1, 1]
    lines = trace.described(described).splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [  # and nothing is missing before them
        "queued",
        "deferred 7 times  attempt 7  by w-1",
        "failed            attempt 8  by w-1",
        "available",
    ]
