"""An order's three steps. Each queues the next under a key of its own message: one that is repeated queues it once."""

from pydantic import BaseModel

from redisq import Delivery, Handlers, Reject
from webshop.models import Order, Step

handlers = Handlers()


class Next(BaseModel):
    """What a step tells the next one."""

    number: str


def queue_next(delivery: Delivery, queue: str, number: str) -> str:
    """Queue the next step, once, and give its message's id."""
    id: str = delivery.state["mq"].queue_message(queue, Next(number=number), idempotency_key=f"{queue}-{number}")
    return id


@handlers.handler("charge", timeout=30, max_attempts=8)
def charge(delivery: Delivery, order: Order) -> Step:
    """Take the money: once, as the order's number is in the table of payments."""
    if order.total == 0:
        raise Reject("There is nothing to pay.")
    with delivery.state["database"].transaction() as shop:
        shop.execute("insert OR IGNORE INTO payments VALUES (?, ?)", (delivery.id, str(order.total)))
    return Step(order=delivery.id, done="charged", next=queue_next(delivery, "pack", delivery.id))


@handlers.handler("pack", timeout=30)
def pack(delivery: Delivery, step: Next) -> Step:
    """Pack what was paid for."""
    return Step(order=step.number, done="packed", next=queue_next(delivery, "ship", step.number))


@handlers.handler("ship", timeout=30)
def ship(delivery: Delivery, step: Next) -> Step:
    """Send it off."""
    with delivery.state["database"].transaction() as shop:
        shop.execute("insert OR IGNORE INTO shipments (number) VALUES (?)", (step.number,))
    return Step(order=step.number, done="shipped")
