"""Handlers that take the request as any type that pydantic knows; the delivery goes before it, or not."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NewType

import pydantic
import pytest
import typing_extensions

from redisq import Delivery, Status, Worker
from redisq.worker.handlers import arguments
from tests.contract.test_worker import Bench, bench

__all__ = ["bench"]

ID = uuid.UUID("05749898-74a0-47e1-b10d-5acf29d040c4")
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
Sku = NewType("Sku", str)


class Size(StrEnum):
    LARGE = "large"


class Order(pydantic.BaseModel):
    id: uuid.UUID
    price: Decimal = Decimal("1.10")
    on: date = date(2026, 12, 24)
    size: Size = Size.LARGE
    tags: set[str] = {"new"}


class Strict(Order):
    model_config = pydantic.ConfigDict(strict=True)


class Renamed(pydantic.BaseModel):
    sku: str = pydantic.Field(alias="SKU")
    count: int = pydantic.Field(1, validation_alias="many", serialization_alias="number")


class RenamedInWriting(Renamed):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)
    count: int = 1


class Packed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


@dataclass
class Line:
    sku: str
    on: date
    orders: list[Order] = field(default_factory=list)


class Address(typing_extensions.TypedDict):
    street: str
    since: date


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


ORDER = Order(id=ID)
LINE = Line("A-1", date(2026, 1, 1), [ORDER])

#: annotation -> a request that fits, as it is queued, and as the handler gets it; one that does not, and why
CASES: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "model": (Order, ORDER, ORDER, {"id": 5}, "$.id: "),
    "strict": (Strict, Strict(id=ID), Strict(id=ID), {"id": str(ID), "price": []}, "$.price: "),
    "renamed": (Renamed, Renamed(SKU="a"), Renamed(SKU="a"), {}, "$.SKU: "),
    "renamed in writing": (RenamedInWriting, RenamedInWriting(sku="a"), RenamedInWriting(sku="a"), {}, "$.SKU: "),
    "packed": (Packed, Packed(data=b"\xff"), Packed(data=b"\xff"), {"data": "?"}, "$.data: "),
    "dataclass": (Line, LINE, LINE, {"sku": "a"}, "$.on: "),
    "typed dict": (Address, {"street": "a", "since": date(2026, 1, 1)}, None, {"street": "a"}, "$.since: "),
    "list": (list[Order], [ORDER, ORDER], [ORDER, ORDER], [{"id": 5}], "$[0].id: "),
    "maybe": (Order | None, None, None, 5, "$: "),
    "union": (Cat | Line, LINE, LINE, 5, "$.Cat: "),
    "discriminated": (
        Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
        *(Dog(), Dog(), {"kind": "cow"}, "$: Its tag is none of those expected"),
    ),
    "bounded": (Annotated[int, pydantic.Field(gt=0)], 5, 5, 0, "$: Input should be greater than 0"),
    "own validator": (Annotated[str, pydantic.AfterValidator(str.upper)], "a", "A", 5, "$: "),
    "plain dict": (dict, {"a": b"\xff", "at": NOON}, {"a": b"\xff", "at": NOON}, [], "$: "),
    "dict of bytes": (dict[str, bytes], {"a": b"\xff"}, {"a": b"\xff"}, {"a": 5}, "$.a: "),
    "dict of int keys": (dict[int, str], {"1": "a"}, {1: "a"}, {"x": "a"}, "$.x"),
    "datetime": (datetime, NOON, NOON, "soon", "$: "),
    "tuple": (tuple[int, Decimal], (1, Decimal("1.50")), (1, Decimal("1.50")), [1], "$[1]: "),
    "new type": (Sku, "a", "a", 5, "$: "),
    "enum": (Size, Size.LARGE, Size.LARGE, "small", "$: "),
    "id": (uuid.UUID, ID, ID, "x", "$: "),
}


def handlers_of(annotation: Any, seen: list[Any]) -> list[Callable[..., Any]]:
    """Handlers of all four kinds."""

    def alone(request: Any) -> None:
        seen.append(request)

    def both(delivery: Delivery, request: Any) -> None:
        seen.append((delivery.attempt, request))

    async def alone_async(request: Any) -> None:
        seen.append(request)

    async def both_async(delivery: Delivery, request: Any) -> None:
        seen.append((delivery.attempt, request))

    handlers = [alone, both, alone_async, both_async]
    for handler in handlers:
        handler.__annotations__["request"] = annotation
    return handlers


@pytest.mark.parametrize("name", CASES)
def test_a_request_comes_as_the_type_that_the_handler_names(bench: Bench, name: str) -> None:
    annotation, sent, got, bad, why = CASES[name]
    got = {"street": "a", "since": date(2026, 1, 1)} if name == "typed dict" else got
    seen: list[Any] = []
    queues = [f"orders-{number}" for number in range(4)]
    for queue, handler in zip(queues, handlers_of(annotation, seen), strict=True):
        assert bench.worker.handler(queue)(handler) is handler
    ids = [bench.client.queue_messages(queue, [sent, bad]) for queue in queues]
    assert bench.worker.run(burst=True) == 0
    for queue, (fits, not_so) in zip(queues, ids, strict=True):
        assert bench.client.get_message(queue, fits).status is Status.COMPLETE
        found = bench.client.get_message(queue, not_so)
        assert (found.status, found.attempts, found.error and found.error["reason"]) == (Status.ERROR, 1, "rejected")
        assert found.error
        assert found.error["type"] == "ValidationError"
        assert found.error["message"].startswith("The request does not fit ")
        assert why in found.error["message"]
    assert sorted(map(repr, seen)) == sorted(map(repr, [got, got, (1, got), (1, got)]))


@pytest.mark.parametrize("name", [name for name in CASES if name != "typed dict"])
def test_no_value_of_the_request_is_told(bench: Bench, name: str) -> None:
    bench.worker.handler("orders")(handlers_of(CASES[name][0], [])[0])
    (found,) = bench.finish(bench.client.queue_message("orders", {"kind": "secret", "id": "secret", "sku": ["secret"]}))
    assert found.status in (Status.ERROR, Status.COMPLETE)
    assert "secret" not in str(found.error)


def test_a_validator_is_built_once_as_the_handler_is_registered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    class Counted(pydantic.TypeAdapter[Any]):
        def __init__(self, type: Any, **options: Any) -> None:
            built.append(type)
            super().__init__(type, **options)

    monkeypatch.setattr(arguments, "TypeAdapter", Counted)
    bench.worker.handler("orders")(handlers_of(list[Order], [])[0])
    assert built == [list[Order]]
    bench.finish(*bench.client.queue_messages("orders", [[ORDER]] * 20))
    assert len(built) == 1


def test_the_delivery_keeps_the_request_as_it_was_queued(bench: Bench) -> None:
    @bench.worker.handler("orders")
    def handle(delivery: Delivery, order: Order) -> Any:
        return [delivery.request, order]

    (found,) = bench.finish(bench.client.queue_message("orders", ORDER))
    assert found.result == [ORDER.model_dump(mode="json")] * 2


def test_without_an_annotation_it_is_the_delivery() -> None:
    def bare(delivery): ...  # type: ignore[no-untyped-def]

    def anything(delivery: Any) -> None: ...

    for handler in (bare, anything):
        worker = Worker()
        worker.handler("orders")(handler)
        assert worker._handlers["orders"].function is handler
