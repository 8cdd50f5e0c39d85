"""Typed values in messages: what each is written as, and that plain ones know nothing of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any, Generic, TypedDict, TypeVar
from uuid import UUID

import pydantic
import pydantic.dataclasses
import pytest

from redisq.body.codec import MAX_DEPTH, MAX_ITEMS, decode, encode
from redisq.body.schemas import compile
from redisq.errors import InvalidMessage, MessageTooLarge, SchemaViolation

T = TypeVar("T")
ID = UUID("05749898-74a0-47e1-b10d-5acf29d040c4")
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Right(IntFlag):
    READ = 1
    WRITE = 2


class Place(Enum):
    HOME = (1, 2)
    AT = NOON


class Labelled(str, Enum):  # noqa: UP042
    """A kind of text that is not its value."""

    def __new__(cls, value: str, label: str) -> Labelled:
        member = str.__new__(cls, label)
        member._value_ = value
        return member

    ONE = "1", "the first"


class OwnId(UUID):
    pass


class Item(pydantic.BaseModel):
    price: Decimal
    sku: str = pydantic.Field("A-1", alias="SKU")


class ByAlias(Item):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)


class Order(pydantic.BaseModel):
    id: UUID
    items: list[Item]
    at: datetime = NOON
    tags: set[str] = {"new"}
    counts: dict[int, int] = {1: 2}
    data: bytes = b"data"
    colour: Colour = Colour.RED
    naive: datetime = datetime(2026, 1, 1)


class Ids(pydantic.RootModel[list[UUID]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    held: T


class Own(pydantic.BaseModel):
    value: int

    def model_dump(self, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        return {"own": self.value, "id": ID}


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    at: date
    item: Item | None = None
    ids: list[UUID] = field(default_factory=list)


@pydantic.dataclasses.dataclass
class Checked:
    price: Decimal


class Address(TypedDict):
    street: str
    since: date


ORDER = Order(id=ID, items=[Item(price=Decimal("1.10"))])
WRITTEN: list[tuple[Any, Any]] = [
    (ID, str(ID)),
    (OwnId(str(ID)), str(ID)),
    (Decimal("1.50"), "1.50"),
    (Decimal("1E+3"), "1E+3"),
    (date(2026, 12, 24), "2026-12-24"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Right.READ | Right.WRITE, 3),
    (Place.HOME, [1, 2]),
    (Place.AT, "2026-12-24T12:00:00Z"),
    (Labelled.ONE, "1"),
    (ORDER, ORDER.model_dump(mode="json")),
    (ByAlias(price=Decimal(1), SKU="B"), {"price": "1", "SKU": "B"}),
    (Ids([ID]), [str(ID)]),
    (Box[Level](held=Level.HIGH), {"held": 3}),
    (Box[Any](held=Line("a", date(2026, 1, 1))), {"held": {"sku": "a", "at": "2026-01-01", "item": None, "ids": []}}),
    (Own(value=1), {"own": 1, "id": str(ID)}),
    (
        Line("a", date(2026, 1, 1), Item(price=Decimal(2)), [ID]),
        {"sku": "a", "at": "2026-01-01", "item": {"price": "2", "sku": "A-1"}, "ids": [str(ID)]},
    ),
    (Checked(Decimal("2.5")), {"price": "2.5"}),
    (Address(street="Main", since=date(2026, 1, 1)), {"street": "Main", "since": "2026-01-01"}),
]


@pytest.mark.parametrize(("value", "plain"), WRITTEN, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "wrap",
    [lambda value: value, lambda value: {"a": [(value,), value], "b": (1, {"c": value})}],
    ids=["alone", "deep"],
)
def test_a_typed_value_is_written_as_json_mode_does(value: Any, plain: Any, wrap: Callable[[Any], Any]) -> None:
    assert encode(wrap(value)) == encode(wrap(plain))
    assert type(decode(encode(value))) is type(plain)


def test_a_model_has_what_json_mode_makes_of_it() -> None:
    assert decode(encode(ORDER)) == {
        "id": str(ID),
        "items": [{"price": "1.10", "sku": "A-1"}],
        "at": "2026-12-24T12:00:00Z",
        "tags": ["new"],
        "counts": {"1": 2},
        "data": "data",
        "colour": "red",
        "naive": "2026-01-01T00:00:00",
    }


def test_bytes_and_aware_datetimes_beside_it_stay_native() -> None:
    assert decode(encode([b"\xff", NOON, ID])) == [b"\xff", NOON, str(ID)]


def test_beside_a_typed_value_all_else_is_refused_as_ever() -> None:
    for bad in ({1}, 1j, float("nan"), datetime(2026, 1, 1), {1: 2}, object(), "\ud800", 2**64, {ID: 1}):
        for value in ([ID, bad], [bad, ID], {"a": bad, "b": Line("a", date(2026, 1, 1))}):
            with pytest.raises(InvalidMessage):
                encode(value)


def test_what_a_model_makes_of_itself_is_checked_and_its_place_is_named() -> None:
    for bad in (Box[float](held=float("nan")), Box[Any](held=2**64)):
        with pytest.raises(InvalidMessage) as caught:
            encode([ID, bad])
        assert caught.value.path == "$[1].held"


def test_bytes_that_are_no_text_are_refused_inside_a_model() -> None:
    with pytest.raises(InvalidMessage, match=r"^\$\.a: Box\[Any\] could not be made JSON: .*Error\.$"):
        encode({"a": Box[Any](held=b"\xff")})


def test_a_model_that_holds_what_it_does_not_declare_is_written_without_a_word() -> None:
    """pydantic would warn, and quote the value; warnings are errors here."""
    item = Item(price=Decimal(1))
    item.price = "much"  # type: ignore[assignment]
    assert decode(encode(item)) == {"price": "much", "sku": "A-1"}


def test_limits_count_what_is_written() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidMessage, match="deeper"):
        encode(Box[Any](held=deep))
    with pytest.raises(InvalidMessage, match="split it"):
        encode(Ids([ID] * (MAX_ITEMS + 1)))
    with pytest.raises(InvalidMessage, match="split it"):
        encode([Ids([ID] * 1000)] * 1000, max_bytes=2**30)
    with pytest.raises(MessageTooLarge):
        encode([Line("x" * 1000, date(2026, 1, 1))] * 10, max_bytes=9_000)


def test_one_value_that_is_repeated_is_written_once() -> None:
    class Counted(pydantic.BaseModel):
        @pydantic.model_serializer
        def count(self) -> str:
            calls.append(1)
            return "counted"

    calls: list[int] = []
    assert decode(encode([Counted()] * 1000)) == ["counted"] * 1000
    assert len(calls) == 1


def test_a_schema_sees_typed_values_as_they_are_written() -> None:
    schema = compile({"properties": {"id": {"type": "string"}, "items": {"items": {"required": ["price"]}}}})
    schema.check({"id": ID, "items": [Item(price=Decimal(1))], "data": b"\xff"})
    with pytest.raises(SchemaViolation, match=r"\$\.items\[0\]"):
        schema.check({"id": ID, "items": [Line("a", date(2026, 1, 1))]})


def test_plain_values_load_no_pydantic() -> None:
    code = "import sys; from redisq.body import codec; codec.encode({'a': [1, b'']}); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
