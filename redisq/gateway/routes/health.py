"""How the gateway is: alive, ready to serve, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.responses import Response

from redisq.async_client import AsyncRedisQ
from redisq.errors import RedisQError, Unavailable, UpgradeNeeded
from redisq.gateway.context import Context
from redisq.gateway.operation import Admitted, Answer, Operation
from redisq.gateway.requests.errors import reply
from redisq.model.queue import QueueStats
from redisq.tokens.applications import Registry

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_QUEUES = 1000  # in one scrape

_SCRAPE_DEADLINE = 8.0  # seconds; Prometheus gives up after 10
_AT_ONCE = 20  # queues looked at


async def alive(_request: Admitted) -> Response:
    """Tell that the process answers."""
    return reply({"status": "ok"})


async def ready(request: Admitted) -> Response:
    """Return whether requests can be served: Redis answers a script, and the applications are known."""
    await request.gateway.readiness.check()
    return reply({"status": "ready"})


async def metrics(request: Admitted) -> Response:
    """Write what is counted, for Prometheus."""
    gateway = request.gateway
    queues = await _queues(gateway.context.acting_for(""))
    return Response(gateway.meters.text(queues, _known(gateway.context)), media_type=METRICS_TYPE)


def _known(context: Context) -> Registry | None:
    try:
        known = context.verifier.snapshot()
    except Unavailable:
        return None
    return known if isinstance(known, Registry) else None


async def _queues(mq: AsyncRedisQ) -> Sequence[QueueStats] | None:
    """Look at the queues, the first of them when there are very many; None when Redis does not answer."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(name: str) -> QueueStats | None:
        async with gate:
            try:
                return await mq.stats(name)
            except UpgradeNeeded:  # a newer gateway tells of that one
                return None

    try:
        async with asyncio.timeout(_SCRAPE_DEADLINE):
            names = (await mq.queues())[:MOST_QUEUES]
            found = await asyncio.gather(*(look(name) for name in names))
            return [stats for stats in found if stats is not None]
    except (TimeoutError, RedisQError):
        return None


OPERATIONS = (
    Operation(
        "get", "/_health", "none", alive, "getHealth", "Whether the process answers", "",
        [Answer(200, "It does.", "Health", example={"status": "ok"})],
    ),
    Operation(
        "get", "/_ready", "none", ready, "getReadiness", "Whether requests can be served",
        "Redis answers, applications are known.",
        [Answer(200, "They can.", "Health", example={"status": "ready"})], ["unavailable"],
    ),
    Operation(
        "get", "/_metrics", "metrics", metrics, "getMetrics", "Metrics for Prometheus",
        "The token must allow it on all queues; some addresses need none, by a setting of the gateway.",
        [Answer(200, "In Prometheus' text format.", "Text", METRICS_TYPE)],
    ),
)  # fmt: skip
