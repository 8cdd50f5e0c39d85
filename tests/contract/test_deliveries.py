"""Deliveries by their receipts, as operations: what a program that speaks for workers runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from redisq import InvalidMessage, LeaseLost, MessageTooLarge, Status, async_client, store, tokens
from redisq.errors import Forbidden, MessageNotFound
from redisq.operations import deliveries
from redisq.operations.caller import Caller
from redisq.operations.deliveries import Delivered
from redisq.operations.flow import Flow
from redisq.store.call import new_nonce
from tests.conftest import CREDENTIALS, Async, Raw

QUEUE = "orders"
Run = Callable[..., Any]


@pytest.fixture
def run(make_client: Any, raw: Raw) -> Run:
    """Run an operation with a client of each kind."""
    shell = make_client(raw.settings)

    def run(operation: Callable[..., Flow[Any]], *args: Any, **options: Any) -> Any:
        def make(operations: Caller) -> Flow[Any]:
            return operation(operations, QUEUE, *args, options.pop("token", None), **options)

        if isinstance(shell, Async):
            return shell.runner.run(async_client.run(shell.client, make))
        return shell.client._run(make(shell.client._caller))

    run.mq = shell  # type: ignore[attr-defined]
    return run


def delivered(raw: Raw, mq: Any, *requests: Any) -> list[Delivered]:
    for request in requests:
        mq.queue_message(QUEUE, request)
    limits = Caller(raw.settings).limits
    claim = raw.link.call(store.deliveries.claim(raw.keys, limits, "w", new_nonce(), len(requests)))
    opened, unreadable = deliveries.open_claimed(QUEUE, claim.deliveries, datetime.now(UTC), limits.max_attempts)
    assert unreadable == []
    return opened


def test_a_delivery_is_completed_once_and_again(run: Any, raw: Raw) -> None:
    (one,) = delivered(raw, run.mq, {"n": 1})
    assert (one.request, one.attempt, one.to_dict()["queue"]) == ({"n": 1}, 1, QUEUE)
    for _ in range(2):
        assert run(deliveries.complete, one.id, one.receipt, "done") is None
    assert run.mq.get_message(QUEUE, one.id).result == "done"
    for operation, args in (
        (deliveries.renew, (b"",)),
        (deliveries.release, ()),
        (deliveries.fail, ({"type": "E", "message": ""},)),
    ):
        with pytest.raises(LeaseLost):
            run(operation, one.id, one.receipt, *args)


def test_a_lease_is_renewed_and_released(run: Any, raw: Raw) -> None:
    (one,) = delivered(raw, run.mq, 1)
    renewed = run(deliveries.renew, one.id, one.receipt, b"\x01")
    assert renewed.lease == 30
    assert run.mq.get_message(QUEUE, one.id).progress == 1
    run(deliveries.release, one.id, one.receipt)
    assert run.mq.get_message(QUEUE, one.id).status == Status.PENDING


def test_a_failure_tells_when_the_next_attempt_comes(run: Any, raw: Raw) -> None:
    first, second = delivered(raw, run.mq, 1, 2)
    assert run(deliveries.fail, first.id, first.receipt, {"type": "E", "message": "x" * 3000}, retry_after=60) == 60
    assert len(run.mq.get_message(QUEUE, first.id).error["message"]) == 2000
    assert run(deliveries.fail, second.id, second.receipt, {"type": "E", "message": ""}, final=True) is None
    assert run.mq.get_message(QUEUE, second.id).error["reason"] == "rejected"


@pytest.mark.parametrize(("result", "error"), [("x" * 2000, MessageTooLarge), (2**70, InvalidMessage)])
def test_a_result_that_cannot_be_stored_ends_the_message(run: Any, raw: Raw, result: Any, error: Any) -> None:
    run.mq.define(QUEUE, max_bytes=1000)
    (one,) = delivered(raw, run.mq, 1)
    for _ in range(2):
        with pytest.raises(error):
            run(deliveries.complete, one.id, one.receipt, result)
    assert run.mq.get_message(QUEUE, one.id).error["reason"] == "rejected"


def test_a_refused_operation_sends_nothing(run: Any, raw: Raw) -> None:
    (one,) = delivered(raw, run.mq, 1)
    before = raw.digest()
    for receipt in (None, "", "1", one.receipt + "x"):
        with pytest.raises(InvalidMessage):
            run(deliveries.release, one.id, receipt)
    with pytest.raises(MessageNotFound):
        run(deliveries.release, "none", one.receipt)
    assert raw.digest() == before


def test_op_work_is_needed(run: Any, raw: Raw) -> None:
    (one,) = delivered(raw, run.mq, 1)
    audience = raw.settings.token_audience
    token = tokens.sign(CREDENTIALS, audience=audience, ops=["queue", "get"], queues=["*"], now=time.time())
    with pytest.raises(Forbidden):
        run(deliveries.complete, one.id, one.receipt, 1, token=token)
    assert run.mq.get_message(QUEUE, one.id).status == Status.INPROGRESS
