"""saq: asyncio."""

from saq import Queue

from tests.benchmarks.adapters import CONCURRENCY, URL
from tests.benchmarks.handled import handled

queue = Queue.from_url(URL)


async def handle(context, *, message):
    handled(message)
    return {"ok": True}


settings = {"queue": queue, "functions": [handle], "concurrency": CONCURRENCY}


async def setup():
    await queue.connect()


async def put(message):
    await queue.enqueue("handle", message=message)
