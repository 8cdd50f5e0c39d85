"""How a handler says that its message shall be tried again later, or never; and its own retry policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from redisq import Defer, Delivery, InvalidDefinition, Reject, Retry, Status, Worker
from tests.contract.test_worker import Bench, asynchronous, bench, plain, untraced

__all__ = ["bench"]
Kind = Callable[[Callable[[Delivery], Any]], Callable[[Delivery], Any]]
kinds = pytest.mark.parametrize("kind", [plain, asynchronous])


def always(error: Exception) -> Callable[[Delivery], Any]:
    def handle(_: Delivery) -> None:
        raise error

    return handle


@kinds
def test_retry_says_when_the_next_attempt_comes(bench: Bench, kind: Kind) -> None:
    attempts = []

    def handle(delivery: Delivery) -> str:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise Retry("the shop is closed", after=0.2)
        return "open"

    bench.worker.handler("orders", backoff_base=600, backoff_cap=600)(kind(handle))  # not the queue's backoff
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.result, attempts) == (Status.COMPLETE, "open", [1, 2])
    (step,) = message.history
    assert (step.event, step.attempt) == ("failed", 1)
    assert message.started_at - step.at >= timedelta(seconds=0.2)


@kinds
def test_a_retry_counts_as_a_failure(bench: Bench, kind: Kind) -> None:
    bench.worker.handler("orders")(kind(always(Retry(after=0))))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.attempts) == (Status.ERROR, 3)
    assert untraced(message) == {
        "type": "Retry",
        "message": "The handler asked for another attempt.",
        "reason": "failed",
    }


@kinds
def test_reject_ends_the_message_at_once(bench: Bench, kind: Kind) -> None:
    bench.worker.handler("orders")(kind(always(Reject("no such customer"))))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.attempts) == (Status.ERROR, 1)
    assert untraced(message) == {"type": "Reject", "message": "no such customer", "reason": "rejected"}
    assert [step.event for step in message.history] == ["rejected"]
    assert bench.client.stats("orders").dead == 1


@kinds
def test_a_deferral_is_not_charged(bench: Bench, kind: Kind) -> None:
    told: list[tuple[int, bool]] = []

    def handle(delivery: Delivery) -> str:
        told.append((delivery.attempt, delivery.is_last_attempt))
        if delivery.attempt <= 10:
            raise Defer("429", after=0.01)
        return "open"

    bench.worker.handler("orders")(kind(handle))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.result, message.attempts) == (Status.COMPLETE, "open", 11)
    (step,) = message.history
    assert (step.event, step.attempt, step.count) == ("deferred", 10, 10)
    assert told == [(attempt, False) for attempt in range(1, 12)]
    stats = bench.client.stats("orders")
    assert (stats.failed, stats.released) == (0, 10)


@kinds
def test_a_deferral_says_when_the_message_comes_again(bench: Bench, kind: Kind) -> None:
    def handle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise Defer(after=0.3)

    bench.worker.handler("orders", backoff_base=600)(kind(handle))
    (message,) = bench.finish(bench.client.queue_message("orders", None, priority=4))
    (step,) = message.history
    assert message.started_at - step.at >= timedelta(seconds=0.3)


def test_a_message_that_expires_is_not_deferred_for_ever(bench: Bench) -> None:
    bench.worker.handler("orders")(always(Defer(after=0.05)))
    (message,) = bench.finish(bench.client.queue_message("orders", None, expires_in=0.5))
    assert (message.status, message.error["reason"]) == (Status.ERROR, "expired")
    assert {step.event for step in message.history} <= {"deferred", "expired"}


def test_a_deferral_is_no_warning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def handle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise Defer("secret", after=0)

    bench.worker.handler("orders")(handle)
    with caplog.at_level(logging.DEBUG, "redisq.worker"):
        (message,) = bench.finish(bench.client.queue_message("orders", None))
    told = [one for one in caplog.records if message.id in one.getMessage()]
    assert {one.levelno for one in told} == {logging.DEBUG}
    assert told[0].getMessage().endswith("attempt 1: deferred by 0 s")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("after", [-1, float("nan"), 31_536_001, True])
@pytest.mark.parametrize("kind", [Retry, Defer])
def test_an_impossible_delay_is_refused(kind: type[Retry | Defer], after: float) -> None:
    with pytest.raises(ValueError, match="after takes seconds"):
        kind(after=after)


class Bare(Defer):
    """One that does not call Defer's own constructor."""

    def __init__(self, after: Any = None) -> None:
        self.after = after


@pytest.mark.parametrize("after", [None, -1, "soon", float("nan")], ids=repr)
def test_a_deferral_without_a_delay_is_a_failure(bench: Bench, after: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.worker.handler("orders", max_attempts=1)(always(Bare(after)))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.error["type"], message.error["reason"]) == (Status.ERROR, "Bare", "failed")
    assert "no delay in seconds" in caplog.text


def test_a_handlers_own_policy_stands_before_the_settings(bench: Bench) -> None:
    bench.worker.handler("orders", max_attempts=1)(always(ValueError("no")))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.attempts) == (Status.ERROR, 1)


def test_a_queues_definition_stands_before_a_handlers_policy(bench: Bench) -> None:
    bench.client.define("orders", max_attempts=2)
    bench.worker.handler("orders", max_attempts=1)(always(ValueError("no")))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.attempts) == (Status.ERROR, 2)


@pytest.mark.parametrize("policy", [{"max_attempts": 0}, {"max_lost": 1.5}, {"backoff_base": -1}, {"backoff_cap": "x"}])
def test_an_impossible_policy_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(InvalidDefinition, match=next(iter(policy))):
        Worker().handler("orders", **policy)
