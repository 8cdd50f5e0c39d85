"""A worker to start with: `redisq worker shop:worker`."""

from redisq import Delivery, Worker

worker = Worker()


@worker.handler("orders", concurrency=50, timeout=30)
async def handle(delivery: Delivery) -> dict[str, int]:
    """Price an order."""
    return {"total": delivery.request["price"] * delivery.request["count"]}
