"""What the API takes and what travels in messages: the same models on both sides."""

from decimal import Decimal

from pydantic import BaseModel, Field


class Line(BaseModel):
    """So many of one thing."""

    sku: str = Field(min_length=1, max_length=40)
    count: int = Field(ge=1, le=1_000)
    price: Decimal = Field(ge=0, decimal_places=2)


class Order(BaseModel):
    """What a customer wants."""

    customer: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)
    lines: list[Line] = Field(min_length=1, max_length=100)

    @property
    def total(self) -> Decimal:
        """What it costs."""
        return sum((line.count * line.price for line in self.lines), Decimal(0))


class Step(BaseModel):
    """A step that is done: the order's number, what was done, and the message of the next step."""

    order: str
    done: str
    next: str | None = None


class Quote(BaseModel):
    """What one order would cost."""

    total: Decimal
