"""redisq without asyncio: `RedisQ` queues, a plain function works in 8 threads."""

from redisq import RedisQ, Worker
from tests.benchmarks.adapters import MESSAGE, batches
from tests.benchmarks.handled import handled

mq = RedisQ()
worker = Worker()


@worker.handler("bench", concurrency=8)
def handle(delivery):
    handled(delivery.request)
    return {"ok": True}


def put(message):
    mq.queue_message("bench", message)


def bulk(count):
    for size in batches(count):
        mq.queue_messages("bench", [MESSAGE] * size)
