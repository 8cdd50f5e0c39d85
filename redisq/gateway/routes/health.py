"""How the gateway is: alive, ready to serve, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq.errors import RedisQError, Unavailable, UpgradeNeeded
from redisq.gateway.access.guard import Guard, address_of, bearer
from redisq.gateway.addresses import parse, trusted
from redisq.gateway.context import Context
from redisq.gateway.metrics import Meters
from redisq.gateway.requests import hosts
from redisq.gateway.requests.errors import reply
from redisq.gateway.requests.queries import query
from redisq.model.queue import QueueStats
from redisq.tokens.applications import Registry

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_QUEUES = 1000  # in one scrape

_DEADLINE = 2.0  # seconds for Redis to answer whether it is there
_SCRAPE_DEADLINE = 8.0  # seconds; Prometheus gives up after 10
_AT_ONCE = 20  # queues looked at
_ANY_QUEUE = "ready"  # one that is looked at and, being unknown, stays so


def routes(context: Context, guard: Guard, meters: Meters) -> list[Route]:
    """Return the routes."""
    health = _Health(context, guard, meters)
    return [
        Route("/_health", health.alive, methods=["GET"]),
        Route("/_ready", health.ready, methods=["GET"]),
        Route("/_metrics", health.metrics, methods=["GET"]),
    ]


class _Health:
    """What the routes do."""

    def __init__(self, context: Context, guard: Guard, meters: Meters) -> None:
        self._context = context
        self._guard = guard
        self._meters = meters
        self._mq = context.acting_for("")
        self._looking: asyncio.Task[None] | None = None

    async def alive(self, request: Request) -> Response:
        """Tell that the process answers."""
        query(request)
        return reply({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Return whether requests can be served: Redis answers a script, and the applications are known.

        They are not with a wrong REDISQ_MASTER_KEY: whoever replaces gateways one by one should get no further.
        """
        query(request)
        if self._context.stopping.is_set:
            raise Unavailable("The gateway is being stopped.")
        if self._looking is None or self._looking.done():  # however many ask, one looks
            self._looking = asyncio.ensure_future(self._look())
        await asyncio.shield(self._looking)
        return reply({"status": "ready"})

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._mq.stats(_ANY_QUEUE)
        except (TimeoutError, Unavailable):
            raise Unavailable from None
        known = self._context.verifier.snapshot()
        if isinstance(known, Registry) and known.is_foreign:  # its log says so
            raise Unavailable

    async def metrics(self, request: Request) -> Response:
        """Write what is counted, for Prometheus."""
        options, scope = self._context.options, request.scope
        if not trusted(parse(address_of(scope)), options.metrics_allow):
            await self._guard.admit_all(request, "stats")
        elif options.hosts and not hosts.all_known(scope, options.hosts):
            if bearer(scope) is None:
                hosts.check(scope, options.hosts)
            await self._guard.admit_all(request, "stats")
        query(request)
        queues = await self._queues()
        return Response(self._meters.text(queues, self._known()), media_type=METRICS_TYPE)

    def _known(self) -> Registry | None:
        try:
            known = self._context.verifier.snapshot()
        except Unavailable:
            return None
        return known if isinstance(known, Registry) else None

    async def _queues(self) -> Sequence[QueueStats] | None:
        """Look at the queues, the first of them when there are very many; None when Redis does not answer."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(name: str) -> QueueStats | None:
            async with gate:
                try:
                    return await self._mq.stats(name)
                except UpgradeNeeded:  # a newer gateway tells of that one
                    return None

        try:
            async with asyncio.timeout(_SCRAPE_DEADLINE):
                names = (await self._mq.queues())[:MOST_QUEUES]
                found = await asyncio.gather(*(look(name) for name in names))
                return [stats for stats in found if stats is not None]
        except (TimeoutError, RedisQError):
            return None
