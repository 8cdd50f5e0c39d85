"""Every error survives pickle and copy with its fields, and so do the values that travel with them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import pytest

import redisq
from redisq import (
    BatchError,
    Credentials,
    Defer,
    Definition,
    Delivery,
    Finding,
    Indeterminate,
    InvalidMessage,
    InvalidToken,
    Message,
    QueueFull,
    QueueStats,
    RedisQError,
    Reject,
    Retry,
    SchemaViolation,
    Settings,
    Status,
    TokenExpired,
    Transition,
)
from redisq.model.delivery import Receipt
from redisq.worker.handlers.held import Held

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREDENTIALS = Credentials.generate("shop")

WITH_FIELDS: list[Exception] = [
    InvalidMessage("wrong", "$.a"),
    SchemaViolation("does not fit", "$.a", [{"path": "$.a", "message": "is no number"}]),
    QueueFull("full", 7.5),
    BatchError(["a", "b", "c"], {1: SchemaViolation("no", "$", [{"path": "$", "message": "x"}]), 2: Indeterminate()}),
    InvalidToken("no", "bad_mac"),
    TokenExpired(),
    Indeterminate("in doubt", "05749898-74a0-47e1-b10d-5acf29d040c4"),
    Retry("again", after=5),
    Defer("later", after=5),
    Reject("never"),
]
PLAIN: list[Exception] = [
    getattr(redisq, name)("said")
    for name in redisq.__all__
    if isinstance(getattr(redisq, name), type)
    and issubclass(getattr(redisq, name), RedisQError)
    and name != "BatchError"
]
VALUES: list[Any] = [
    Message("id", "orders", Status.ERROR, {"a": 1}, queued_at=NOW, history=(Transition("failed", 1, NOW, "w"),)),
    QueueStats("orders", ready=3),
    Definition(max_length=5),
    Finding("error", "orphan", "orders", 1, ("id",), "means", "do"),
    CREDENTIALS,
    Settings(url="redis://:s3cret@host", app_id="shop", app_secret=CREDENTIALS.secret()),
]
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "oldest pickle": lambda value: pickle.loads(pickle.dumps(value, 2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def same(one: Any, other: Any) -> bool:
    """Whether two errors are of one class and say and hold the same; errors themselves compare by identity."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Exception):
        return type(one) is type(other) and one.args == other.args and same(vars(one), vars(other))
    return bool(one == other)


def told(error: Exception) -> str:
    return str(error)


@pytest.mark.parametrize("way", WAYS)
def test_errors_and_values_survive(way: str) -> None:
    for value in (*WITH_FIELDS, *PLAIN, *VALUES):
        again = WAYS[way](value)
        assert same(value, again), value
        assert str(again) == str(value)


def test_what_a_subclass_adds_and_notes_survive() -> None:
    class Mine(QueueFull):
        def __init__(self, queue: str, *, limit: int) -> None:
            super().__init__(f"{queue} is full", 3.0)
            self.limit = limit

    error = Mine("orders", limit=5)
    error.add_note("seen at noon")
    again = copy.deepcopy(error)
    assert (str(again), again.limit, again.retry_after, again.__notes__) == ("orders is full", 5, 3.0, ["seen at noon"])


def raise_again(error: Exception) -> None:
    raise error


def test_a_process_pool_brings_them_home() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for error in WITH_FIELDS:
            with pytest.raises(type(error)) as caught:
                pool.submit(raise_again, error).result(60)
            caught.value.__dict__.pop("__notes__", None)
            assert same(error, caught.value)


def test_a_delivery_stays_where_it_is() -> None:
    delivery = Delivery(1, Held("orders", Receipt(b"x" * 16, 1, "n"), NOW, 0.0, lambda: None), {})
    for way in WAYS.values():
        with pytest.raises(TypeError, match=r"pass on delivery\.request and delivery\.id"):
            way(delivery)
