"""Typed values as requests, progress and results, on every server and with both clients."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pydantic
import pytest

from redisq import BatchError, Delivery, MessageConflict, SchemaViolation, Status
from tests.contract.conftest import QUEUE
from tests.contract.test_worker import Bench, bench

__all__ = ["bench"]

ID = uuid.UUID("05749898-74a0-47e1-b10d-5acf29d040c4")


class Size(StrEnum):
    LARGE = "large"


class Order(pydantic.BaseModel):
    id: uuid.UUID
    price: Decimal
    size: Size = Size.LARGE


@dataclass
class Line:
    sku: str
    since: date


ORDER = Order(id=ID, price=Decimal("1.10"))
LINE = Line("A-1", date(2026, 12, 24))
WRITTEN = {"id": str(ID), "price": "1.10", "size": "large"}
TYPED: list[tuple[Any, Any]] = [
    (ORDER, WRITTEN),
    (LINE, {"sku": "A-1", "since": "2026-12-24"}),
    (
        {"id": ID, "of": (Size.LARGE, Decimal(2)), "data": b"\xff"},
        {"id": str(ID), "of": ["large", "2"], "data": b"\xff"},
    ),
    (ID, str(ID)),
]


def test_typed_values_are_queued_as_json_mode_writes_them(mq: Any) -> None:
    ids = [mq.queue_message(QUEUE, value) for value, _ in TYPED]
    ids += mq.queue_messages(QUEUE, (value for value, _ in TYPED))
    assert [message.request for message in mq.get_messages(QUEUE, ids)] == [plain for _, plain in TYPED] * 2


def test_a_typed_value_and_what_it_is_written_as_are_one_body(mq: Any) -> None:
    id = mq.queue_message(QUEUE, ORDER, idempotency_key="order-7")
    assert mq.queue_message(QUEUE, WRITTEN, idempotency_key="order-7") == id
    with pytest.raises(MessageConflict):
        mq.queue_message(QUEUE, Order(id=ID, price=Decimal(2)), idempotency_key="order-7")
    assert mq.stats(QUEUE).ready == 1


def test_a_queues_schema_holds_for_typed_values(mq: Any) -> None:
    mq.define(QUEUE, schema=Order.model_json_schema(mode="serialization"))
    mq.queue_message(QUEUE, ORDER)
    with pytest.raises(SchemaViolation):
        mq.queue_message(QUEUE, LINE)
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, [ORDER, LINE, ORDER])
    assert list(caught.value.errors) == [1]
    assert mq.stats(QUEUE).ready == 3


def test_results_and_progress_are_written_alike(bench: Bench) -> None:
    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> Any:
        delivery.progress(ORDER)
        return TYPED[delivery.request][0]

    ids = bench.client.queue_messages("orders", range(len(TYPED)))
    assert [(found.status, found.result) for found in bench.finish(*ids)] == [
        (Status.COMPLETE, plain) for _, plain in TYPED
    ]
