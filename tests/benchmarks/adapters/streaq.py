"""streaq: asyncio, on a stream."""

from streaq import Worker

from tests.benchmarks.adapters import CONCURRENCY, MESSAGE, URL, batches
from tests.benchmarks.handled import handled

worker = Worker(redis_url=URL, concurrency=CONCURRENCY, prefetch=2 * CONCURRENCY)


@worker.task
async def handle(message):
    handled(message)
    return {"ok": True}


async def setup():
    await worker.__aenter__()  # the driver's process ends without a farewell


async def put(message):
    await handle.enqueue(message)


async def bulk(count):
    for size in batches(count):
        await worker.enqueue_many([handle.enqueue(MESSAGE) for _ in range(size)])
