"""What a worker is told by its code: whatever is of a wrong type or out of its bounds is refused when it is said."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from redisq import InvalidArgument, InvalidDefinition, InvalidSettings, Retry, Worker

NO_NUMBERS = ["5", True, timedelta(seconds=5), 10**400, -1, math.nan, [5], b"5"]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0], ids=repr)
def test_what_is_no_number_is_refused(value: Any) -> None:
    worker = Worker()
    for name in ("timeout", "concurrency", "priority", "max_attempts", "max_lost"):
        with pytest.raises((InvalidArgument, InvalidDefinition), match=name):
            worker.handler("orders", **{name: value})
    with pytest.raises(InvalidArgument, match="concurrency"):
        Worker(concurrency=value)
    if value != 0 or value is True:
        with pytest.raises(InvalidArgument, match="after takes seconds, from 0 to a year"):
            Retry(after=value)
    assert worker.queues == []


def test_a_schedule_that_is_none_is_refused() -> None:
    worker = Worker()
    for value in (None, 5, b"* * * * *", [], timedelta(minutes=5), "", "often"):
        with pytest.raises(InvalidArgument, match="cron expression"):
            worker.every(value, queue="orders")
    for zone in (None, 5, "Mars/Olympus"):
        with pytest.raises(InvalidArgument, match=r"timezone=|no time zone"):
            worker.every("* * * * *", queue="orders", timezone=zone)  # type: ignore[arg-type]
    for name in (5, [], "", "x" * 500):
        with pytest.raises(InvalidArgument, match="name= of a schedule"):
            worker.every("* * * * *", queue="orders", name=name)(lambda: 1)  # type: ignore[arg-type]
    assert worker.schedules == []


def test_other_arguments_of_a_wrong_type_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="burst takes True or False"):
        Worker().run(burst="no")  # type: ignore[arg-type]
    worker = Worker(settings={"url": "redis://"})  # type: ignore[arg-type]
    worker.handler("orders")(print)
    with pytest.raises(InvalidSettings, match=r"settings= takes redisq\.Settings"):
        worker.run()
