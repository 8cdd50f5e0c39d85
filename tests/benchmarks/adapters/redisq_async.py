"""redisq with asyncio: `AsyncRedisQ` queues, an `async def` works. Settings and credentials are in the environment."""

from redisq import AsyncRedisQ, Worker
from tests.benchmarks.adapters import CONCURRENCY, MESSAGE, batches
from tests.benchmarks.handled import handled

mq = AsyncRedisQ()
worker = Worker()


@worker.handler("bench", concurrency=CONCURRENCY)
async def handle(delivery):
    handled(delivery.request)
    return {"ok": True}


async def put(message):
    await mq.queue_message("bench", message)


async def bulk(count):
    for size in batches(count):
        await mq.queue_messages("bench", [MESSAGE] * size)
