"""`testing.deliver`: one handler, one message, and nothing else: no server, no credentials, no environment."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from redisq import (
    Defer,
    Delivery,
    InvalidArgument,
    InvalidHandler,
    InvalidMessage,
    InvalidQueueName,
    LeaseLost,
    Reject,
    Retry,
    TestingError,
    testing,
)


class Order(BaseModel):
    price: int
    count: int = 1


def double(delivery: Delivery) -> int:
    return delivery.request * 2  # type: ignore[no-any-return]


async def double_later(delivery: Delivery) -> int:
    await asyncio.sleep(0)
    return double(delivery)


def double_through_a_coroutine(delivery: Delivery) -> Any:
    return double_later(delivery)


def priced(order: Order) -> Order:
    return Order(price=order.price * order.count)


def seen(delivery: Delivery) -> list[Any]:
    return [
        *(delivery.id, delivery.queue, delivery.attempt, delivery.max_attempts, delivery.is_last_attempt),
        *(dict(delivery.headers), delivery.queued_at, delivery.priority, delivery.state),
    ]


HANDLERS = [double, double_later, double_through_a_coroutine]


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_outcome_has_the_result(handler: Any) -> None:
    assert testing.deliver(handler, 4, attempt=2) == testing.Outcome("completed", 8)
    assert asyncio.run(testing.deliver_async(handler, 4)).result == 8


def test_requests_and_results_are_what_they_are_when_queued() -> None:
    assert testing.deliver(priced, {"price": 3, "count": 7}).result == {"price": 21, "count": 1}
    assert testing.deliver(lambda delivery: delivery.request, (1, 2)).result == [1, 2]


def test_a_handler_is_told_what_is_given_of_its_message() -> None:
    id = "d9428888-122b-11e1-b85c-61cd3cbb3210"
    at, more = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), {"database": "open"}
    about: testing.About = {"id": id, "queue": "orders", "attempt": 3, "max_attempts": 3}
    about |= {"headers": {"tenant": "a"}, "queued_at": at, "priority": 9, "state": more}
    assert testing.deliver(seen, None, **about).result == [id, "orders", 3, 3, True, {"tenant": "a"}, at, 9, more]
    other, queue, *attempts, headers, now, priority, state = testing.deliver(seen, None).result
    assert (other != id, queue, attempts, headers, priority, state) == (True, "testing", [1, 5, False], {}, 0, None)
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=5)


def test_it_is_told_all_that_a_delivery_has() -> None:
    has = {name for name in dir(Delivery) if not name.startswith("_")}
    not_told = {"request", "is_last_attempt", "deadline", "cancelled", "wait_cancelled", "renew", "progress"}
    assert has - not_told == testing.About.__annotations__.keys()


def raising(error: BaseException) -> Any:
    def handler(_: Delivery) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "event", "delay"),
    [
        (ValueError("no"), "failed", None),
        (Retry("no", after=60), "failed", 60),
        (Reject("no"), "rejected", None),
        (Defer("no", after=30), "deferred", 30),
        (SystemExit("no"), "failed", None),
        (asyncio.CancelledError("no"), "failed", None),
    ],
)
def test_the_outcome_has_the_error(error: BaseException, event: str, delay: float | None) -> None:
    for outcome in (testing.deliver(raising(error), 1), asyncio.run(testing.deliver_async(raising(error), 1))):
        assert (outcome.event, outcome.result, outcome.delay, outcome.raised) == (event, None, delay, error)
        told = {"type": type(error).__name__, "message": "no"}
        assert outcome.error == (None if event == "deferred" else told)


def test_what_does_not_fit_or_cannot_be_stored_is_rejected() -> None:
    assert testing.deliver(priced, {"price": "dear"}).event == "rejected"
    outcome = testing.deliver(lambda _: {1, 2}, None)
    assert (outcome.event, (outcome.error or {})["type"]) == ("rejected", "InvalidMessage")


@pytest.mark.parametrize("end", [KeyboardInterrupt, pytest.fail.Exception])
def test_what_ends_a_test_is_no_outcome(end: type[BaseException]) -> None:
    with pytest.raises(end):
        testing.deliver(raising(end("now")), 1)


def test_a_cancelled_test_is_no_outcome() -> None:
    async def waits(_: Delivery) -> None:
        await asyncio.Event().wait()

    async def cancelled() -> None:
        async with asyncio.timeout(0.01):
            await testing.deliver_async(waits, 1)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())


def test_a_delivery_can_be_made_and_used() -> None:
    delivery = testing.delivery({"price": 3}, attempt=2)
    assert (delivery.request, delivery.attempt, delivery.cancelled) == ({"price": 3}, 2, False)
    delivery.renew()
    delivery.progress(50)
    with pytest.raises(InvalidMessage):
        delivery.progress(object())


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ({"attempt": 0}, InvalidArgument),
        ({"attempt": True}, InvalidArgument),
        ({"queue": "no queue"}, InvalidQueueName),
        ({"id": "x"}, InvalidMessage),
        ({"headers": {"Bad Name": "a"}}, InvalidMessage),
        ({"max_attempts": 0}, InvalidArgument),
        ({"priority": 10}, InvalidMessage),
        ({"queued_at": "today"}, InvalidArgument),
        ({"queued_at": datetime(2026, 1, 1)}, InvalidArgument),
        ({"colour": "red"}, TypeError),
    ],
)
def test_bad_input_is_refused_before_the_handler_runs(about: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        testing.deliver(raising(AssertionError("it ran")), 1, **about)


def test_a_bad_request_or_handler_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        testing.deliver(double, object())
    with pytest.raises(InvalidHandler):
        testing.deliver("double", 1)  # type: ignore[arg-type]


def test_an_async_handler_where_a_loop_runs_wants_the_async_variant() -> None:
    async def inside() -> None:
        assert testing.deliver(double, 4).result == 8
        with pytest.raises(TestingError, match=r"await testing\.deliver_async"):
            testing.deliver(double_later, 4)

    asyncio.run(inside())


def test_neither_redis_nor_the_environment_is_asked() -> None:
    script = """
import os, socket, sys
read = type(os.environ).__getitem__
def reading(environment, name):
    assert name == "REDISQ_FAILPOINTS" or not name.startswith("REDISQ_"), name
    return read(environment, name)
def refuse(*_):
    raise AssertionError("a connection")
type(os.environ).__getitem__, socket.socket.connect = reading, refuse
from redisq import testing
print(testing.deliver(lambda delivery: delivery.request * 2, 4, attempt=2).result, "fakeredis" in sys.modules)
"""
    environment = {**os.environ, "REDISQ_URL": "no url", "REDISQ_APP_ID": "half"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("8 False\n", "")


def test_a_lost_lease_is_the_handlers_to_see() -> None:
    delivery = testing.delivery(1)
    delivery._held.cancelled = True
    with pytest.raises(LeaseLost):
        delivery.renew()
