"""What a handler is told of its delivery, beside the request."""

from __future__ import annotations

from typing import Any

import pytest

from redisq import Delivery, InvalidMessage, store
from redisq.model.delivery import Receipt
from redisq.operations.caller import limits_of
from redisq.worker.handlers.held import Held
from tests.contract.test_worker import Bench, Kind, bench, kinds

__all__ = ["bench"]


@kinds
def test_a_handler_knows_its_message(bench: Bench, kind: Kind) -> None:
    told: list[tuple[Any, ...]] = []
    bench.worker.handler("orders")(kind(lambda one: told.append((one.queued_at, one.priority, one.headers))))
    options: list[dict[str, Any]] = [
        {},
        {"priority": 7, "headers": {"tenant": "a"}},
        {"expires_in": 60},
        {"delay": 0.01, "priority": 1},
    ]
    for how in options:
        (message,) = bench.finish(bench.client.queue_message("orders", None, **how))
        assert told.pop() == (message.queued_at, how.get("priority", 0), how.get("headers", {}))


def test_a_handler_knows_which_attempt_is_the_last(bench: Bench) -> None:
    told: list[tuple[int, int, bool]] = []

    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> None:
        told.append((delivery.attempt, delivery.max_attempts, delivery.is_last_attempt))
        raise ValueError("no")

    bench.finish(bench.client.queue_message("orders", None))
    assert told == [(1, 3, False), (2, 3, False), (3, 3, True)]


@pytest.mark.parametrize(
    ("handlers", "queues", "most"), [(None, None, 3), (2, None, 2), (None, 1, 1), (2, 4, 4)], ids=str
)
def test_max_attempts_is_the_one_in_force(bench: Bench, handlers: Any, queues: Any, most: int) -> None:
    told: list[tuple[int, bool]] = []

    @bench.worker.handler("orders", max_attempts=handlers)
    def handle(delivery: Delivery) -> None:
        told.append((delivery.max_attempts, delivery.is_last_attempt))
        raise ValueError("no")

    bench.client.define("orders", max_attempts=queues)
    bench.finish(bench.client.queue_message("orders", None))
    assert told == [(most, number == most) for number in range(1, most + 1)]


def test_attempts_that_were_not_charged_are_not_counted(bench: Bench, hand_on: Any) -> None:
    id = bench.client.queue_message("orders", None)
    hand = hand_on(bench.settings)
    hand.release(hand.claim())
    hand.fail(hand.claim(), delay=0.0)
    told: list[tuple[int, bool]] = []
    bench.worker.handler("orders", max_attempts=2)(lambda one: told.append((one.attempt, one.is_last_attempt)))
    bench.finish(id)
    assert told == [(3, True)]


def test_a_claim_that_is_repeated_tells_the_same(hand: Any, mq: Any, raw: Any) -> None:
    mq.define("orders", max_attempts=9)
    mq.queue_message("orders", 1, priority=2)
    hand.fail(hand.claim(), delay=0.0)
    call = store.deliveries.claim(raw.keys, limits_of(raw.settings), "w-1", "abcdefghijkl", 1)
    first, again = raw.link.call(call), raw.link.call(call)
    assert (first.max_attempts, [one.failed for one in first.deliveries]) == (9, [1])
    assert (again.max_attempts, again.deliveries) == (9, first.deliveries)


def test_a_damaged_head_is_said_when_it_is_asked_for() -> None:
    held = Held("orders", Receipt(b"x" * 16, 1, "n"), None, 0.0, lambda: None)  # type: ignore[arg-type]
    for head in (b"", b"x-1", b"1;x;y", b"1;2;z", b"9" * 15 * 2):
        delivery = Delivery(1, held, {}, 5, 0, head)
        for name in ("queued_at", "priority"):
            with pytest.raises(InvalidMessage, match="damaged"):
                getattr(delivery, name)
