"""taskiq: asyncio, on a stream."""

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from tests.benchmarks.adapters import URL
from tests.benchmarks.handled import handled

broker = RedisStreamBroker(url=URL).with_result_backend(RedisAsyncResultBackend(redis_url=URL))


@broker.task
async def handle(message):
    handled(message)
    return {"ok": True}


async def setup():
    await broker.startup()


async def put(message):
    await handle.kiq(message)
