"""Prices, many at once: async, as nothing in here keeps the loop."""

from redisq import Handlers
from webshop.models import Order, Quote

handlers = Handlers()


@handlers.handler("quote", concurrency=100)
async def quote(order: Order) -> Quote:
    """Price an order without taking it."""
    return Quote(total=order.total)
