"""What `redisq bench` measures: each way to queue, one worker on what was queued, and how soon a message is begun."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redisq.async_client import AsyncRedisQ
from redisq.cli.output import CommandError, spelled
from redisq.client import RedisQ
from redisq.errors import RedisQError
from redisq.runtime import loops
from redisq.settings import Settings
from redisq.worker import Delivery, Worker

MESSAGE, RESULT = {"hello": "world"}, {"ok": True}
CALLERS = 64
SLOTS = 100
_BATCH = 1_000
_LOOKS = 100  # lookups, of which the median is the round trip
_SINGLE = 200  # messages that find the worker idle
_SPACING = 0.01  # seconds between those
_PATIENCE = 10.0  # seconds without an answer of Redis, or until such a message has come


def run(messages: int, token: str | None, url: str | None) -> dict[str, float]:
    """Measure with so many messages and give the figures: seconds, and messages per second.

    Raises:
        CommandError: the worker lost Redis, or the queue could not be removed.
        RedisQError: as each client does.
    """
    logging.getLogger("redisq.worker").setLevel(logging.CRITICAL)  # what it would tell again and again is our error
    settings = Settings.merged(None, url)
    with RedisQ(settings=settings) as mq, _queue_of_our_own(mq, token) as queue:
        figures = _measure_client(mq, queue, token, messages // 5)
        figures |= loops.run(_measure_loop(settings, queue, token, messages - messages // 5), loops.fastest())
    return figures


@contextmanager
def _queue_of_our_own(mq: RedisQ, token: str | None) -> Iterator[str]:
    """Give the name of a queue that nobody has, and remove it in the end, however that comes."""
    name = f"redisq-bench-{secrets.token_hex(6)}"
    mq.drop(name, token)  # there is nothing yet, but whoever may not do it later is refused now
    try:
        yield name
    finally:
        try:
            mq.drop(name, token)
        except RedisQError as error:
            raise CommandError(
                f"{spelled(error)} Its queue may be left: `redisq queues drop {name}` removes it."
            ) from error


def _measure_client(mq: RedisQ, queue: str, token: str | None, messages: int) -> dict[str, float]:
    """Look up and queue one by one."""
    id = mq.queue_message(queue, MESSAGE, token)
    mq.get_message(queue, id, token)
    took = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        mq.get_message(queue, id, token)
        took.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(messages):
        mq.queue_message(queue, MESSAGE, token)
    return {"round_trip": statistics.median(took), "queue_one": _rate(messages, began)}


async def _measure_loop(settings: Settings, queue: str, token: str | None, messages: int) -> dict[str, float]:
    """Queue from many callers at once and in bulk, work it all off, then see how soon single messages are begun."""
    async with AsyncRedisQ(settings=settings) as mq:
        await mq.queue_message(queue, MESSAGE, token)  # connects
        began = time.perf_counter()
        left = iter(range(messages // 2))

        async def caller() -> None:
            for _ in left:
                await mq.queue_message(queue, MESSAGE, token)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        at_once = _rate(messages // 2, began)
        began = time.perf_counter()
        for first in range(messages // 2, messages, _BATCH):
            await mq.queue_messages(queue, [MESSAGE] * min(_BATCH, messages - first), token)
        bulk = _rate(messages - messages // 2, began)
        drain = await _drain(settings, queue)
        latencies = await _latencies(settings, mq, queue, token)
    return {
        "queue_64": at_once,
        "queue_bulk": bulk,
        "drain": drain,
        "latency_p50": _percentile(latencies, 50),
        "latency_p99": _percentile(latencies, 99),
    }


def _worker(settings: Settings) -> Worker:
    """Make a worker that gives up soon when Redis is gone."""
    return Worker(settings=settings.model_copy(update={"stale_after": _PATIENCE}))


async def _drain(settings: Settings, queue: str) -> float:
    """Have a worker handle all there is; give messages per second from the first handler's start to the last one's."""
    worker = _worker(settings)
    count, first, last = 0, 0.0, 0.0

    @worker.handler(queue, concurrency=SLOTS)
    async def handle(_: Delivery) -> object:
        nonlocal count, first, last
        last = time.perf_counter()
        first, count = first or last, count + 1
        return RESULT

    if await worker.run_async(burst=True):
        raise CommandError("The worker lost Redis.")
    return (count - 1) / (last - first)


async def _latencies(settings: Settings, mq: AsyncRedisQ, queue: str, token: str | None) -> list[float]:
    """Queue messages that find a worker idle; give the seconds from then until their handlers began."""
    worker = _worker(settings)
    latencies: list[float] = []
    arrived = asyncio.Event()

    @worker.handler(queue, concurrency=SLOTS)
    async def handle(delivery: Delivery) -> object:
        latencies.append(time.perf_counter() - delivery.request["sent"])
        arrived.set()
        return RESULT

    working = asyncio.create_task(worker.run_async())
    try:
        for _ in range(_SINGLE + 1):
            await asyncio.sleep(_SPACING)
            arrived.clear()
            await mq.queue_message(queue, {"sent": time.perf_counter()}, token)
            async with asyncio.timeout(_PATIENCE):
                await arrived.wait()
    except TimeoutError:
        raise CommandError(f"A message did not reach the worker within {_PATIENCE:.0f} s.") from None
    finally:
        worker.stop()
        await working
    return latencies[1:]  # the first one waited for the worker to begin


def _rate(messages: int, began: float) -> float:
    return messages / (time.perf_counter() - began)


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]
