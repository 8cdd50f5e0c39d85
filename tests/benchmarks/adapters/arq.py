"""arq: asyncio."""

from arq import create_pool
from arq.connections import RedisSettings

from tests.benchmarks.adapters import CONCURRENCY, URL
from tests.benchmarks.handled import handled

server = RedisSettings.from_dsn(URL)


async def handle(context, message):
    handled(message)
    return {"ok": True}


async def setup():
    global pool
    pool = await create_pool(server)


async def put(message):
    await pool.enqueue_job("handle", message)


class WorkerSettings:
    functions = (handle,)
    redis_settings = server
    max_jobs = CONCURRENCY
