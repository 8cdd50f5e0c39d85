"""RabbitMQ: asyncio, publisher confirms, persistent messages in a durable queue of either type."""

import asyncio
import json
import os

import aio_pika
import uvloop

from tests.benchmarks.adapters import CONCURRENCY, URL
from tests.benchmarks.handled import handled

_NAME = os.environ.get("BENCH_QUEUE", "bench")


class Queue:
    """One queue, of the type `classic` or `quorum`."""

    def __init__(self, kind):
        self._kind = kind

    async def setup(self):
        self._channel = await (await aio_pika.connect(URL)).channel(publisher_confirms=True)
        await self._channel.set_qos(prefetch_count=CONCURRENCY)
        how = {"x-queue-type": self._kind}
        self._queue = await self._channel.declare_queue(_NAME, durable=True, arguments=how)

    async def put(self, message):
        persistent = aio_pika.Message(json.dumps(message).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(persistent, routing_key=_NAME)

    async def _work(self):
        await self.setup()
        await self._queue.consume(self._handle)
        await asyncio.Event().wait()

    async def _handle(self, message):
        handled(json.loads(message.body))
        await message.ack()

    def work(self):
        uvloop.install()
        asyncio.run(self._work())
