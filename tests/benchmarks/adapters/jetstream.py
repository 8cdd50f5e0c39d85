"""NATS JetStream: asyncio, a work queue on disk."""

import asyncio
import json
import os

import nats
import uvloop
from nats.errors import TimeoutError as NothingCame
from nats.js.api import StreamConfig

from tests.benchmarks.adapters import CONCURRENCY, URL
from tests.benchmarks.handled import handled

_NAME = os.environ.get("BENCH_QUEUE", "bench")


async def setup():
    global stream
    stream = (await nats.connect(URL)).jetstream()
    await stream.add_stream(StreamConfig(name=_NAME, subjects=[_NAME], retention="workqueue", storage="file"))


async def put(message):
    await stream.publish(_NAME, json.dumps(message).encode())


async def handle(message):
    handled(json.loads(message.data))
    await message.ack()


async def work():
    await setup()
    subscription = await stream.pull_subscribe(_NAME, "workers")
    while True:
        try:
            messages = await subscription.fetch(CONCURRENCY, timeout=5)
        except NothingCame:
            continue
        await asyncio.gather(*map(handle, messages))


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(work())
