"""Values: what they say as JSON, how statistics add up, and which definitions are sound."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from redisq.errors import InvalidDefinition
from redisq.model.bounds import DEFINITION_BOUNDS, NOT_BUILT_YET, check_definition
from redisq.model.message import Message, Status, Transition
from redisq.model.queue import Definition, QueueStats

ID = "05749898-74a0-47e1-b10d-5acf29d040c4"


def test_there_are_four_statuses() -> None:
    assert [str(status) for status in Status] == ["PENDING", "INPROGRESS", "COMPLETE", "ERROR"]


def test_a_message_as_json() -> None:
    moment = datetime(2026, 1, 2, 5, 4, 5, 678_900, tzinfo=timezone(timedelta(hours=2)))
    message = Message(
        ID,
        "orders",
        Status.COMPLETE,
        {"raw": b"\xff\x00", "when": moment, 5: [Status.ERROR, None, 1.5, True]},
        result=(1, 2),
        error=None,
        attempts=2,
        queued_at=moment,
        headers={"tenant": "a"},
        history=(Transition("lost", 1, moment, "w-1"),),
    )
    assert message.to_dict() == {
        "id": ID,
        "queue": "orders",
        "status": "COMPLETE",
        "request": {"raw": "/wA=", "when": "2026-01-02T03:04:05.678Z", "5": ["ERROR", None, 1.5, True]},
        "result": [1, 2],
        "error": None,
        "attempts": 2,
        "progress": None,
        "queued_at": "2026-01-02T03:04:05.678Z",
        "available_at": None,
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "priority": 0,
        "headers": {"tenant": "a"},
        "history": [
            {"event": "lost", "attempt": 1, "at": "2026-01-02T03:04:05.678Z", "by": "w-1", "count": 1, "error": None}
        ],
    }
    assert type(message.to_dict()["status"]) is str
    assert json.loads(json.dumps(message.to_dict())) == message.to_dict()


@pytest.mark.parametrize(("status", "finished"), list(zip(Status, [False, False, True, True], strict=True)))
def test_finished(status: Status, finished: bool) -> None:
    assert Message(ID, "orders", status, None).finished is finished


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Message(ID, "orders", Status.PENDING, None).status = Status.COMPLETE  # type: ignore[misc]


def test_the_statistics_of_partitions_add_up() -> None:
    numbers = {field.name: 2 for field in fields(QueueStats) if field.name not in ("queue", "oldest_age", "paused")}
    one = QueueStats("orders", oldest_age=5.0, **numbers)
    other = QueueStats("orders", oldest_age=7.0, paused=True, **numbers)
    both = one + other
    assert both == QueueStats("orders", oldest_age=7.0, paused=True, **dict.fromkeys(numbers, 4))
    assert (one + QueueStats("orders")) == one
    assert (QueueStats("orders") + QueueStats("orders")).oldest_age is None
    assert json.loads(json.dumps(both.to_dict())) == both.to_dict()


# --- Definitions ---

SETTINGS = {field.name for field in fields(Definition)}


def test_each_setting_has_bounds() -> None:
    assert set(DEFINITION_BOUNDS) == SETTINGS - {"paused", "security", "schema", "check_formats"}
    assert SETTINGS > Definition.SECONDS


@pytest.mark.parametrize("name", DEFINITION_BOUNDS)
def test_bounds_are_inclusive(name: str) -> None:
    low, high = DEFINITION_BOUNDS[name]
    for value in (low, high, None):
        assert check_definition({name: value}) == {name: value}
    for value in (low - 1, high + 1, math.nan, math.inf, -math.inf, "5", True, [5]):
        with pytest.raises(InvalidDefinition, match=f"^{name} takes "):
            check_definition({name: value})


@pytest.mark.parametrize("name", DEFINITION_BOUNDS)
def test_only_times_have_fractions(name: str) -> None:
    low, _ = DEFINITION_BOUNDS[name]
    if name in Definition.SECONDS:
        assert check_definition({name: low + 0.5}) == {name: low + 0.5}
    else:
        with pytest.raises(InvalidDefinition, match="a whole number"):
            check_definition({name: low + 0.5})


@pytest.mark.parametrize("value", [0, 1, "true", "0"])
def test_paused_is_true_or_false(value: Any) -> None:
    assert check_definition({"paused": True}) == {"paused": True}
    assert check_definition({"paused": None}) == {"paused": None}
    with pytest.raises(InvalidDefinition, match="paused takes true or false"):
        check_definition({"paused": value})


@pytest.mark.parametrize("name", NOT_BUILT_YET)
def test_what_is_not_built_yet_is_refused(name: str) -> None:
    assert name not in SETTINGS
    with pytest.raises(InvalidDefinition, match=f"{name} cannot be set yet"):
        check_definition({name: None})


def test_an_unknown_setting_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(InvalidDefinition) as refused:
        check_definition({"max_length": 5, "maxlen": 5})
    assert "'maxlen' is no setting of a queue" in str(refused.value)
    assert all(name in str(refused.value) for name in SETTINGS)


def test_all_changes_are_checked() -> None:
    with pytest.raises(InvalidDefinition):
        check_definition({"max_length": 5, "lease": -1})


def test_moments_before_and_after_utc_are_the_same_moment() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    message = Message(ID, "orders", Status.PENDING, moment.astimezone(timezone(timedelta(hours=-11))))
    assert message.to_dict()["request"] == "2026-01-01T00:00:00.000Z"


def test_messages_may_be_kept_in_sets() -> None:
    message = Message(ID, "orders", Status.PENDING, 1, headers={"tenant": "a"})
    assert {message, Message(ID, "orders", Status.PENDING, 1, headers={"tenant": "a"})} == {message}
