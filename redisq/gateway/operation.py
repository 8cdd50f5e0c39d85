"""One operation of the API: a row of the table that makes its route, the check of its right, and its description.

A handler is reached through its row alone, after the guard has admitted the request to what the row says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from redisq.async_client import AsyncRedisQ
from redisq.gateway.access.guard import NOBODY, Guard
from redisq.gateway.context import Context
from redisq.gateway.metrics import Meters
from redisq.gateway.readiness import Readiness
from redisq.gateway.requests.bodies import JSON, Body, empty, limit_of, type_of
from redisq.gateway.requests.queries import Parameter, query
from redisq.gateway.work.dispatchers import Dispatchers
from redisq.tokens.token import Grant

#: What a token has to allow, on the path's queue or else on all; or what stands in its place.
Right: TypeAlias = Literal["queue", "get", "delete", "work", "stats", "admin", "metrics", "secret", "none"]
#: Rights that are no token's: `metrics` is `stats` but for addresses that need none, `secret` an application's own,
#: which the handler checks, `none` everybody's.
_OPS: Mapping[Right, str | None] = {"metrics": "stats", "secret": None, "none": None}


@dataclass(frozen=True, slots=True)
class Gateway:
    """What handlers work with."""

    context: Context
    guard: Guard
    meters: Meters
    dispatchers: Dispatchers
    readiness: Readiness
    operations: Sequence[Operation]


class Admitted(Request):
    """A request that the guard admitted to an operation: the queue and the id in its path, and what its query says."""

    operation: Operation
    gateway: Gateway
    grant: Grant
    queue: str
    id: str
    query: Mapping[str, Any]

    @property
    def mq(self) -> AsyncRedisQ:
        """A client that acts in the name of who was admitted."""
        return self.gateway.context.acting_for(self.grant.app)

    def may_know(self, queue: str) -> bool:
        """Return whether who was admitted may know that there is a queue."""
        return self.grant.allows("stats", queue)

    def read_query(self) -> dict[str, Any]:
        """Return what the query says, by the parameters of the operation that are there."""
        return query(self, *self.operation.query)

    def type_of_body(self) -> str:
        """Return the body's type, one of those that the operation takes."""
        return type_of(self.scope, *self.operation.body)

    async def limit_of(self, kind: str) -> int:
        """Return how many bytes a message of a type may have by its queue's own definition."""
        own = (await self.gateway.guard.definitions.of(self.queue)).max_bytes
        return limit_of(kind, own or self.gateway.context.settings.max_bytes)

    async def read_message(self, kind: str) -> bytes:
        """Read a body of a message's size; what its queue allows beyond the settings is asked for when it matters."""
        body = Body(self, limit_of(kind, self.gateway.context.settings.max_bytes))
        if body.length is None or body.length > body.limit:
            body.limit = await self.limit_of(kind)
        return await body.whole()


Handler: TypeAlias = Callable[[Admitted], Awaitable[Response]]


@dataclass(frozen=True)
class Answer:
    """An answer to a request that succeeds. `links` are operations that take what it gives."""

    status: int
    text: str
    schema: str | None = None
    type: str = JSON
    headers: Sequence[str] = ()
    example: Any = None
    links: Mapping[str, Any] = field(default_factory=dict)


def links(*names: str, id: str = "$response.body#/id", **more: Any) -> dict[str, Any]:
    """Describe which operations take what an answer gives, a message's id."""
    parameters = {"queue": "$request.path.queue", "id": id}
    return {name: {"operationId": name, "parameters": parameters, **more} for name in names}


def header_field(name: str, text: str, **schema: Any) -> dict[str, Any]:
    """Describe a header of a request."""
    described = {"name": name, "in": "header", "required": False, "description": text}
    return {**described, "schema": {"type": "string", **schema}}


@dataclass(frozen=True, eq=False)
class Operation:
    """One method of one path. Without `answers` it is for people, and not in the document.

    `fails` are codes beside those that its right, its path and its body bring along. `body` has a schema's name and an
    example for each type that is taken. With `query_later` the handler looks at the body's type first.
    """

    method: str
    path: str
    right: Right
    handler: Handler
    name: str = ""
    summary: str = ""
    text: str = ""
    answers: Sequence[Answer] = ()
    fails: Sequence[str] = ()
    query: Sequence[Parameter] = ()
    headers: Sequence[Mapping[str, Any]] = ()
    body: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    needs_body: bool = True
    query_later: bool = False

    @property
    def op(self) -> str | None:
        """What a token has to allow, None where none is asked for."""
        return _OPS.get(self.right, self.right)

    def route(self, gateway: Gateway) -> Route:
        """Return the route of a gateway."""
        path = self.path.replace("{queue}", "{queue:queue}").replace("{id}", "{id:id}")
        return Route(path, _Endpoint(self, gateway), methods=[self.method.upper()])


class _Endpoint:
    """What answers at an operation's route."""

    def __init__(self, operation: Operation, gateway: Gateway) -> None:
        self._operation = operation
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, and answer it."""
        operation, request = self._operation, Admitted(scope, receive, send)
        request.operation, request.gateway, there = operation, self._gateway, scope["path_params"]
        request.queue, request.id = there.get("queue", ""), there.get("id", "")
        request.grant = await self._admit(request)
        if not operation.query_later:
            request.query = request.read_query()
        if not operation.body and operation.method != "get":
            await empty(request)
        response = await operation.handler(request)
        await response(scope, receive, send)

    async def _admit(self, request: Admitted) -> Grant:
        guard, op = self._gateway.guard, self._operation.op
        if op is None:
            return NOBODY
        if self._operation.right == "metrics":
            return await guard.admit_scrape(request, op)
        if request.queue:
            return await guard.admit(request, op, request.queue)
        return await guard.admit_all(request, op)
