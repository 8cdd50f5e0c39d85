"""Which callables can be handlers, or functions of schedules; the others are refused with what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Optional, Protocol

import pydantic
import pytest
import typing_extensions

from redisq import Delivery, InvalidHandler, RedisQError, Worker

if TYPE_CHECKING:
    import redisq as later
    from tests.unit.nowhere import Missing  # type: ignore[import-not-found]


class Order(pydantic.BaseModel):
    sku: str


@dataclasses.dataclass
class Plain:
    sku: str


class Address(typing_extensions.TypedDict):
    street: str


class Raises:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise ValueError("no schema today\nor ever")


class Handing(Protocol):
    request: Any


def generator(delivery: Delivery) -> Iterator[int]:
    yield 1


async def async_generator(delivery: Delivery) -> AsyncIterator[int]:
    yield 1


class Yields:
    def __call__(self, delivery: Delivery) -> Iterator[int]:
        yield 1


class Handles:
    def __call__(self, delivery: Delivery) -> None: ...

    @staticmethod
    def alone(delivery: Delivery) -> None: ...


def nothing() -> None: ...
def keyword(delivery: Delivery, *, shop: str) -> None: ...
def three(delivery: Delivery, order: Order, shop: str) -> None: ...
def missing(order: Missing) -> None: ...
def missing_inside(order: list[Missing]) -> None: ...
def of_a_delivery_list(orders: list[Delivery]) -> None: ...
def of_an_unknown_class(request: Yields) -> None: ...
def of_what_raises(order: Raises) -> None: ...
def second_unknown(delivery: Delivery, order: Missing) -> None: ...
def second_is_none(delivery: Delivery, order) -> None: ...  # type: ignore[no-untyped-def]
def second_cannot_be(delivery: Delivery, order: Yields) -> None: ...
def two_of_which_the_first_is_none(request: str, order: Order) -> None: ...
def by_keyword_alone(*, delivery: Delivery) -> None: ...


REFUSED: list[tuple[Any, str]] = [
    (generator, "generator is a generator function"),
    (async_generator, "async_generator is an async generator function"),
    (functools.partial(generator), "generator is a generator function"),
    (Yields(), "Yields is a generator function"),
    (nothing, "nothing: it takes no argument"),
    (lambda: None, "it takes no argument"),
    (keyword, "keyword wants the keyword shop="),
    (by_keyword_alone, "wants the keyword delivery="),
    (three, "three: it takes 3 arguments"),
    (missing, "the argument order of missing is annotated with 'Missing'"),
    (missing_inside, "the argument order of missing_inside"),
    (of_a_delivery_list, "its argument orders is annotated with list[redisq"),
    (
        of_an_unknown_class,
        "its argument request is annotated with Yields, and a handler takes the delivery, the",
    ),
    (of_an_unknown_class, "pydantic says: Unable to generate"),
    (of_what_raises, "pydantic says: no schema today"),
    (second_unknown, "the argument order of second_unknown is annotated with 'Missing'"),
    (second_is_none, "annotate the second argument, order, with a type"),
    (second_cannot_be, "its argument order is annotated with Yields"),
    (two_of_which_the_first_is_none, "its argument request is annotated with str"),
    (Handles, "Handles is a class"),
    (Order, "Order is a class"),
    (5, "not int"),
    (None, "not NoneType"),
    ("handle", "not str"),
    (Handles.__dict__["alone"], "not staticmethod"),
]


@pytest.mark.parametrize(("handler", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_can_be_no_handler_is_refused_with_what_is_wrong(handler: Any, says: str) -> None:
    worker = Worker()
    with pytest.raises(InvalidHandler, match=re.escape(says)) as caught:
        worker.handler("orders")(handler)
    assert isinstance(caught.value, RedisQError)
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)
    assert worker.queues == []


def of_a_delivery(delivery: Delivery) -> None: ...
def of_maybe_a_delivery(delivery: Optional[Delivery]) -> None: ...  # noqa: UP045
def of_a_protocol(delivery: Handing) -> None: ...
def of_an_object(delivery: object, shop: str = "") -> None: ...
def annotated(delivery: Annotated[Delivery, "ours"]) -> None: ...
def for_checkers(delivery: later.Delivery) -> None: ...
def quoted(delivery: "Delivery") -> None: ...  # noqa: UP037
def with_keyword(delivery: Delivery, *, shop: str = "") -> None: ...
def of_all(*args: Any, **options: Any) -> None: ...
def of_a_model(order: Annotated[Order, "ours"]) -> None: ...
def of_a_dict(request: dict[str, Any]) -> None: ...
def of_a_plain_dict(request: dict) -> None: ...  # type: ignore[type-arg]
def of_a_dataclass(request: Plain) -> None: ...
def of_a_typed_dict(request: Address) -> None: ...
def of_text(request: str) -> None: ...
def of_maybe_a_model(order: Order | None) -> None: ...
def of_a_models_list(orders: list[Order]) -> None: ...
def of_a_quoted_list(orders: list["Order"]) -> None: ...  # noqa: UP037
def of_number(delivery: Delivery, count: int) -> None: ...
def of_anything(delivery: Delivery, request: Any) -> None: ...


@functools.wraps(generator)
def listed(delivery: Delivery) -> list[int]:
    return list(generator(delivery))


TAKEN = [
    *(of_a_delivery, of_maybe_a_delivery, of_a_protocol, of_an_object, annotated, for_checkers, quoted, with_keyword),
    *(of_a_dict, of_a_plain_dict, of_a_dataclass, of_a_typed_dict, of_text, of_maybe_a_model, of_a_models_list),
    *(of_a_quoted_list, of_number, of_anything),
    *(of_all, of_a_model, listed, Handles(), Handles().alone, print, functools.partial(keyword, shop="x")),
    functools.partial(of_a_delivery),
]


@pytest.mark.parametrize("handler", TAKEN)
def test_what_can_be_a_handler_is_taken(handler: Callable[..., Any]) -> None:
    worker = Worker()
    assert worker.handler("orders")(handler) is handler
    assert worker.queues == ["orders"]


def ticks(tick: datetime) -> Iterator[int]:
    yield 1


def of_an_order(order: Order) -> None: ...
def of_a_missing(tick: Missing) -> None: ...
def of_two(tick: datetime, more: int) -> None: ...
def of_a_date(tick: date) -> None: ...
def of_a_moment(tick: datetime) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (ticks, "ticks is a generator function"),
        (of_an_order, "its argument order is annotated with Order"),
        (of_a_missing, "the argument tick of of_a_missing is annotated with 'Missing'"),
        (of_two, "of_two: it takes 2 arguments"),
        (lambda *, tick: None, "wants the keyword tick="),
        (Order, "Order is a class"),
        (7, "not int"),
    ],
)
def test_what_can_make_no_message_of_a_tick_is_refused(function: Any, says: str) -> None:
    worker = Worker()
    with pytest.raises(InvalidHandler, match=says):
        worker.every("* * * * *", queue="reports", name="report")(function)
    assert worker.schedules == []


@pytest.mark.parametrize("function", [of_a_date, of_a_moment, nothing, lambda tick: None, of_all])
def test_what_can_make_a_message_of_a_tick_is_taken(function: Any) -> None:
    worker = Worker()
    worker.every("* * * * *", queue="reports", name="report")(function)
    assert worker.schedules == ["report"]


class Exits:
    def __call__(self, delivery: Delivery) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(3)


def exits_in_its_annotation(delivery: exit(3)) -> None: ...  # type: ignore[valid-type]


@pytest.mark.parametrize("function", [Exits(), exits_in_its_annotation], ids=["attribute", "annotation"])
def test_what_exits_when_it_is_looked_at_is_refused(function: Any) -> None:
    """Neither may end the process that imports it."""
    worker = Worker()
    for register in (worker.handler("orders"), worker.every("* * * * *", queue="orders")):
        with pytest.raises(InvalidHandler, match="raised SystemExit"):
            register(function)
    assert (worker.queues, worker.schedules) == ([], [])
