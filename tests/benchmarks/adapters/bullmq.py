"""BullMQ for Python: asyncio. It has no command of its own for a worker, so this module is one, too."""

import asyncio
import sys

from bullmq import Queue, Worker

from tests.benchmarks.adapters import CONCURRENCY, MESSAGE, URL, batches
from tests.benchmarks.handled import handled

NAME = "bench"


async def setup():
    global queue
    queue = Queue(NAME, {"connection": URL})


async def put(message):
    await queue.add("handle", message)


async def bulk(count):
    for size in batches(count):
        await queue.addBulk([{"name": "handle", "data": MESSAGE}] * size)


async def work():
    async def handle(job, token):
        handled(job.data)
        return {"ok": True}

    worker = Worker(NAME, handle, {"connection": URL, "concurrency": CONCURRENCY})
    await asyncio.Event().wait()
    await worker.close()


if __name__ == "__main__" and sys.argv[1:] == ["work"]:
    asyncio.run(work())
