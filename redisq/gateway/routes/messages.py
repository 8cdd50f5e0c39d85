"""The routes of messages: queue, look up and delete one; queue a stream of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq import async_client
from redisq.gateway.access.definitions import taking
from redisq.gateway.access.guard import Guard, address_of
from redisq.gateway.context import Context
from redisq.gateway.requests.bodies import JSON, MSGPACK, NDJSON, Body, empty, header, limit_of, parse, parsed, type_of
from redisq.gateway.requests.errors import BadRequest, Json, reply
from redisq.gateway.requests.queries import moment, number, preferred_wait, query, seconds
from redisq.gateway.routes.stream import Lines
from redisq.gateway.work.waits import LONGEST
from redisq.operations import queueing
from redisq.operations.options import HIGHEST, Options

QUEUEING = "/{queue:queue}"
_OPTIONS = ("delay", "at", "expires_in", "priority")


def routes(context: Context, guard: Guard) -> list[Route]:
    """Return the routes."""
    messages = _Messages(context, guard)
    return [
        Route(QUEUEING, messages.post, methods=["POST"]),
        Route("/{queue:queue}/{id:id}", messages.get, methods=["GET"]),
        Route("/{queue:queue}/{id:id}", messages.put, methods=["PUT"]),
        Route("/{queue:queue}/{id:id}", messages.delete, methods=["DELETE"]),
    ]


class _Messages:
    """What the routes do."""

    def __init__(self, context: Context, guard: Guard) -> None:
        self._context = context
        self._guard = guard

    async def post(self, request: Request) -> Response:
        """Queue a message, or a stream of them."""
        queue = request.path_params["queue"]
        grant = await self._guard.admit(request, "queue", queue)
        kind = type_of(request.scope, JSON, MSGPACK, NDJSON)
        key = header(request.scope, b"idempotency-key")
        if kind == NDJSON:
            query(request)
            if key is not None:
                raise BadRequest("A stream takes no Idempotency-Key: which message would it belong to?")
            mq = self._context.acting_for(grant.app)
            return Lines(mq, self._guard, request, queue, await self._limit(queue, kind))
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BadRequest("Idempotency-Key takes printable ASCII.")
        options: Options = {"idempotency_key": key, **_options(request)}
        message = await self._message(request, queue, kind)
        mq = self._context.acting_for(grant.app)
        with taking(queue):
            id = await mq.queue_message(queue, message, **options)
        return self._queued(queue, id, 201)

    async def put(self, request: Request) -> Response:
        """Queue a message under an id of the client's."""
        queue, id = request.path_params["queue"], request.path_params["id"]
        grant = await self._guard.admit(request, "queue", queue)
        kind = type_of(request.scope, JSON, MSGPACK)
        options = _options(request)
        message = await self._message(request, queue, kind)
        mq = self._context.acting_for(grant.app)
        with taking(queue):
            name, new = await async_client.run(
                mq, lambda caller: queueing.queue_message(caller, queue, message, None, {"id": id, **options})
            )
        return self._queued(queue, name, 201 if new else 200)

    async def get(self, request: Request) -> Response:
        """Look a message up, at once or when it has finished."""
        queue, id = request.path_params["queue"], request.path_params["id"]
        grant = await self._guard.admit(request, "get", queue)
        wait, headers = _wait(request)
        mq = self._context.acting_for(grant.app)
        message = None
        if wait:
            with self._guard.limits.waiting(grant.app, address_of(request.scope)):
                message = await self._context.waits.run(request.receive, mq.get_message(queue, id, wait=wait))
            await self._guard.again(request, "get", queue)
        if message is None:
            message = await mq.get_message(queue, id)
        return reply(message.to_dict(), headers=headers)

    async def delete(self, request: Request) -> Response:
        """Delete a message."""
        queue, id = request.path_params["queue"], request.path_params["id"]
        grant = await self._guard.admit(request, "delete", queue)
        query(request)
        await empty(request)
        await self._context.acting_for(grant.app).delete_message(queue, id)
        return Response(status_code=204)

    async def _message(self, request: Request, queue: str, kind: str) -> Any:
        """Read the message; what its queue allows beyond the settings' limit is asked for only when it matters."""
        body = Body(request, limit_of(kind, self._context.settings.max_bytes))
        if body.length is None or body.length > body.limit:
            body.limit = await self._limit(queue, kind)
        return await parsed(await body.whole(), partial(parse, kind))

    def _queued(self, queue: str, id: str, status: int) -> Response:
        location = f"{self._context.options.root_path}/{queue}/{id}"
        return Json(b'{"id":"%b"}' % id.encode("ascii"), status, {"Location": location})  # an id needs no escapes

    async def _limit(self, queue: str, kind: str) -> int:
        own = (await self._guard.definitions.of(queue)).max_bytes
        return limit_of(kind, own or self._context.settings.max_bytes)


def _options(request: Request) -> Options:
    found = query(request, *_OPTIONS)
    if not found:
        return {}
    return {
        "delay": seconds(found, "delay") or 0.0,
        "at": moment(found, "at"),
        "expires_in": seconds(found, "expires_in"),
        "priority": number(found, "priority", 0, HIGHEST) or 0,
    }


def _wait(request: Request) -> tuple[float, dict[str, str]]:
    """Return the seconds to wait, by the query or else by a Prefer header, and the answer's headers that say so."""
    wait = seconds(query(request, "wait"), "wait")
    if wait is not None:
        if wait > LONGEST:
            raise BadRequest(f"wait takes at most {LONGEST:.0f} seconds. Ask again for more.")
        return wait, {}
    wait = preferred_wait(request, LONGEST)
    if wait is not None:
        return wait, {"Preference-Applied": f"wait={wait:.0f}"}
    return 0.0, {}
