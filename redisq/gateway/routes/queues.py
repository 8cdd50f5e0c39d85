"""The routes of queues as a whole: what they hold, how they are defined, their dead letters; pause, resume, purge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq import async_client
from redisq.async_client import AsyncRedisQ
from redisq.errors import Forbidden
from redisq.gateway.access.guard import Guard
from redisq.gateway.context import Context
from redisq.gateway.requests.bodies import JSON, Body, empty, parse_json, parsed, type_of, whole
from redisq.gateway.requests.errors import BadRequest, reply, spelled
from redisq.gateway.requests.queries import number, query, seconds
from redisq.model.bounds import check_definition
from redisq.model.queue import Definition
from redisq.operations import dead_letters, existence
from redisq.operations.dead_letters import Selection
from redisq.tokens.token import Grant

_DOCUMENT = 1024 * 1024  # bytes of a definition
_LETTERS, _MOST_LETTERS = 100, 1000
_ROOM = 16 * 1024 * 1024  # bytes of bodies in one list
_CHOICE = ("reason", "min_age", "max_age")
_BY_HAND = "Who runs the gateway sets it: `redisq queues define`."
#: What a token with `admin` does not change, or not beyond the gateway's settings, and why.
_FOR_THE_OPERATOR = {
    "security": f"security is not set over HTTP, or whoever holds a token for a while could open a queue. {_BY_HAND}",
    "max_bytes": f"max_bytes is at most the gateway's REDISQ_MAX_BYTES over HTTP. {_BY_HAND}",
    "max_length": f"max_length is at most the gateway's REDISQ_MAX_LENGTH over HTTP. {_BY_HAND}",
}


def routes(context: Context, guard: Guard) -> list[Route]:
    """Return the routes."""
    queues = _Queues(context, guard)
    return [
        Route("/{queue:queue}", queues.stats, methods=["GET"]),
        Route("/_queues", queues.names, methods=["GET"]),
        Route("/{queue:queue}/_config", queues.config, methods=["GET"]),
        Route("/{queue:queue}/_config", queues.replace, methods=["PUT"]),
        Route("/{queue:queue}/_config", queues.change, methods=["PATCH"]),
        Route("/{queue:queue}/_dead", queues.dead, methods=["GET"]),
        Route("/{queue:queue}/_redrive", queues.redrive, methods=["POST"]),
        Route("/{queue:queue}/_purge", queues.purge, methods=["POST"]),
        Route("/{queue:queue}/_pause", queues.pause, methods=["POST"]),
        Route("/{queue:queue}/_resume", queues.resume, methods=["POST"]),
    ]


class _Queues:
    """What the routes do."""

    def __init__(self, context: Context, guard: Guard) -> None:
        self._context = context
        self._guard = guard

    async def stats(self, request: Request) -> Response:
        """Count what a queue holds."""
        queue, grant = await self._admitted(request, "stats")
        query(request)
        mq, may = self._context.acting_for(grant.app), partial(grant.allows, "stats")
        return reply((await async_client.run(mq, lambda known: existence.stats(known, queue, None, may))).to_dict())

    async def names(self, request: Request) -> Response:
        """List the names of all queues."""
        grant = await self._guard.admit_all(request, "stats")
        query(request)
        return reply({"queues": await self._context.acting_for(grant.app).queues()})

    async def config(self, request: Request) -> Response:
        """Return a queue's own settings."""
        queue, grant = await self._admitted(request, "stats")
        query(request)
        mq = await self._existing(grant, queue, "stats")
        return reply(asdict(await mq.define(queue)))

    async def replace(self, request: Request) -> Response:
        """Return a queue these settings and no others."""
        return await self._define(request, dict.fromkeys(Definition.__dataclass_fields__.keys() - {"security"}))

    async def change(self, request: Request) -> Response:
        """Change some settings of a queue."""
        return await self._define(request, {})

    async def dead(self, request: Request) -> Response:
        """List dead letters, oldest first."""
        queue, grant = await self._admitted(request, "admin")
        found = query(request, "limit", *_CHOICE)
        limit = number(found, "limit", 1, _MOST_LETTERS) or _LETTERS
        chosen = Selection(**_chosen(found))
        mq = await self._existing(grant, queue)
        letters = await async_client.run(mq, lambda known: dead_letters.find(known, queue, None, chosen, limit, _ROOM))
        return reply({"messages": [letter.to_dict() for letter in letters]})

    async def redrive(self, request: Request) -> Response:
        """Queue dead letters anew."""
        queue, grant = await self._admitted(request, "admin")
        chosen = _chosen(query(request, *_CHOICE))
        await empty(request)
        mq = await self._existing(grant, queue)
        return reply({"redriven": await mq.redrive(queue, **chosen)})

    async def purge(self, request: Request) -> Response:
        """Remove all waiting messages."""
        queue, grant = await self._admitted(request, "admin")
        query(request)
        await empty(request)
        mq = await self._existing(grant, queue)
        return reply({"purged": await mq.purge(queue)})

    async def pause(self, request: Request) -> Response:
        """Let workers claim nothing."""
        return await self._set_paused(request, True)

    async def resume(self, request: Request) -> Response:
        """Let workers claim again."""
        return await self._set_paused(request, False)

    async def _admitted(self, request: Request, op: str) -> tuple[str, Grant]:
        queue: str = request.path_params["queue"]
        return queue, await self._guard.admit(request, op, queue)

    async def _existing(self, grant: Grant, queue: str, op: str = "admin") -> AsyncRedisQ:
        """Return a client in the name of who was admitted to `op`.

        Raises:
            QueueNotFound: there is no such queue.
        """
        mq, may = self._context.acting_for(grant.app), partial(grant.allows, "stats")
        await async_client.run(mq, lambda known: existence.check(known, queue, op, None, may))
        return mq

    async def _set_paused(self, request: Request, paused: bool) -> Response:
        queue, grant = await self._admitted(request, "admin")
        query(request)
        await empty(request)
        mq = await self._existing(grant, queue)
        return await self._defined(mq, queue, {"paused": paused})

    async def _define(self, request: Request, rest: Mapping[str, Any]) -> Response:
        """Set what the body says, and the rest as given."""
        queue, grant = await self._admitted(request, "admin")
        query(request)
        type_of(request.scope, JSON)
        changes = await parsed(await Body(request, _DOCUMENT).whole(), parse_json)
        if not isinstance(changes, dict):
            raise BadRequest("A definition is an object of settings and their values.")
        read = {name: value if name in Definition.SECONDS else whole(value) for name, value in changes.items()}
        mq = self._context.acting_for(grant.app)
        await self._check_reach(mq, queue, read)
        return await self._defined(mq, queue, {**rest, **read})

    async def _check_reach(self, mq: AsyncRedisQ, queue: str, changes: dict[str, Any]) -> None:
        """Refuse what reaches further than to administer a queue, and take `security` out, which stays as it is.

        What is there may be said again: so a definition that was read can be sent back.

        Raises:
            Forbidden: that is for who runs the gateway.
        """
        check_definition(changes)
        reaching = {name: value for name, value in changes.items() if self._reaches_far(name, value)}
        own = await mq.define(queue) if reaching else None
        for name, value in reaching.items():
            if value != getattr(own, name):
                raise Forbidden(_FOR_THE_OPERATOR[name])
        changes.pop("security", None)

    def _reaches_far(self, name: str, value: Any) -> bool:
        """Return whether a setting would open the queue to others, or take more from what all queues share than the
        gateway's own settings let it."""
        if name not in _FOR_THE_OPERATOR or name == "security":
            return name == "security"
        most: int = getattr(self._context.settings, name)
        return value is not None and most > 0 and not 0 < value <= most

    async def _defined(self, mq: AsyncRedisQ, queue: str, changes: Mapping[str, Any]) -> Response:
        try:
            return reply(asdict(await mq.define(queue, **changes)))
        finally:
            self._guard.definitions.forget(queue)


def _chosen(found: dict[str, str]) -> dict[str, Any]:
    """Read which dead letters are meant."""
    chosen: dict[str, Any] = {
        "reason": found.get("reason"),
        "min_age": seconds(found, "min_age"),
        "max_age": seconds(found, "max_age"),
    }
    try:
        Selection(**chosen)
    except ValueError as error:
        raise BadRequest(spelled(str(error))) from None
    return chosen
