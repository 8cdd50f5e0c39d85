"""Handlers annotated with pydantic models: requests are validated, results stored as JSON."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
import pytest

from redisq import Delivery, Status
from tests.contract.test_worker import Bench, bench

if TYPE_CHECKING:
    from tests.contract.nowhere import OnlyForCheckers, Unknown  # type: ignore[import-not-found]

__all__ = ["bench"]


class Item(pydantic.BaseModel):
    price: float


class Order(pydantic.BaseModel):
    sku: str
    count: int = 1
    items: list[Item] = []
    id: uuid.UUID | None = None


class Receipt(pydantic.BaseModel):
    at: datetime
    total: float


class Broken(pydantic.BaseModel):
    value: int

    @pydantic.field_serializer("value")
    def no(self, value: int) -> int:
        raise RuntimeError("secret")


def alone(order: Order) -> str:
    return f"{type(order).__name__} {order.sku} {order.count}"


def both(delivery: Delivery, order: Order) -> str:
    return f"{type(order).__name__} {order.sku} {order.count + delivery.attempt - 1}"


async def alone_async(order: Order) -> str:
    return alone(order)


async def both_async(delivery: Delivery, order: Order) -> str:
    return both(delivery, order)


class Shop:
    def method(self, order: Order) -> str:
        return alone(order)

    async def __call__(self, delivery: Delivery, order: Order, extra: str = "") -> str:
        return both(delivery, order)


def not_found(_delivery: Unknown, order: Order) -> str:  # as of a class that only type checkers see
    return alone(order)


def of_a_closure() -> Callable[..., Any]:
    class Parcel(Order):
        """Known to this function alone."""

    def handle(order: Parcel) -> str:
        return alone(Order.model_validate(Parcel.model_dump(order)))

    return handle


HANDLERS = [
    *(alone, both, alone_async, both_async, Shop().method, Shop(), not_found, of_a_closure()),
    functools.partial(alone),
]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: getattr(handler, "__name__", type(handler).__name__))
def test_a_request_becomes_the_model(bench: Bench, handler: Callable[..., Any]) -> None:
    assert bench.worker.handler("orders")(handler) is handler
    fits, not_so = bench.finish(*(bench.client.queue_message("orders", {"sku": "A-1", "count": n}) for n in ("2", "x")))
    assert (fits.status, fits.result) == (Status.COMPLETE, "Order A-1 2")
    assert (not_so.status, not_so.attempts) == (Status.ERROR, 1)
    assert not_so.error["reason"] == "rejected"


def test_what_does_not_fit_is_rejected_with_all_its_errors(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    called = []

    @bench.worker.handler("orders")
    def handle(order: Order) -> None:
        called.append(order)

    message = {"count": "secret", "items": [{"price": 1}, {"price": "secret"}, 5]}
    (found,) = bench.finish(bench.client.queue_message("orders", message))
    assert found.error == {
        "type": "ValidationError",
        "message": "The request does not fit Order: $.sku: Field required; "
        "$.count: Input should be a valid integer, unable to parse string as an integer; "
        "$.items[1].price: Input should be a valid number, unable to parse string as a number; "
        "$.items[2]: Input should be a valid dictionary or instance of Item",
        "reason": "rejected",
    }
    assert [letter.id for letter in bench.client.dead_letters("orders", reason="rejected")] == [found.id]
    assert called == []
    assert "secret" not in caplog.text


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Pet(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


def test_no_tag_of_the_request_is_told(bench: Bench) -> None:
    @bench.worker.handler("orders")
    def handle(pet: Pet) -> None: ...

    (found,) = bench.finish(bench.client.queue_message("orders", {"pet": {"kind": "secret"}}))
    assert found.error["message"] == "The request does not fit Pet: $.pet: Its tag is none of those expected"


def test_many_errors_are_cut(bench: Bench) -> None:
    bench.worker.handler("orders")(alone)
    (found,) = bench.finish(bench.client.queue_message("orders", {"sku": "A-1", "items": [1] * 100}))
    assert found.error["message"].endswith("; and 80 more")


def test_a_model_as_result_is_stored_as_its_json(bench: Bench) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> Receipt:
        return Receipt(at=moment, total=delivery.request)

    (found,) = bench.finish(bench.client.queue_message("orders", 1.5))
    assert (found.status, found.result) == (Status.COMPLETE, {"at": "2026-01-02T00:00:00Z", "total": 1.5})


def test_a_model_that_makes_no_json_of_itself_is_rejected(bench: Bench) -> None:
    bench.worker.handler("orders")(lambda delivery: Broken(value=1))
    (found,) = bench.finish(bench.client.queue_message("orders", 1))
    assert found.error["reason"] == "rejected"
    assert "secret" not in found.error["message"]


def test_a_handler_gets_the_delivery_unless_it_names_a_model(bench: Bench) -> None:
    def checked(delivery: OnlyForCheckers.Delivery) -> str:
        return type(delivery).__name__

    def bare(delivery, limit: int = 5):  # type: ignore[no-untyped-def]
        return type(delivery).__name__

    for number, handler in enumerate((checked, bare, lambda *delivery: type(delivery[0]).__name__)):
        bench.worker.handler(f"orders-{number}")(handler)
    ids = [bench.client.queue_message(f"orders-{number}", 1) for number in range(3)]
    assert bench.worker.run(burst=True) == 0
    results = [bench.client.get_message(f"orders-{number}", id).result for number, id in enumerate(ids)]
    assert results == ["Delivery"] * 3
