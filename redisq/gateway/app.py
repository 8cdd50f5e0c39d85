"""The gateway as an ASGI application, put together from its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from redisq import preload
from redisq.errors import RedisQError
from redisq.gateway import page, table
from redisq.gateway.access import closed
from redisq.gateway.access.guard import Guard
from redisq.gateway.access.origins import LocalOnly
from redisq.gateway.context import Context
from redisq.gateway.metrics import Meters
from redisq.gateway.middleware import Outermost
from redisq.gateway.operation import Gateway
from redisq.gateway.readiness import Readiness
from redisq.gateway.requests.errors import HttpError, TooManyRequests, answer, unrouted
from redisq.gateway.work.dispatchers import Dispatchers
from redisq.tokens.scopes import QUEUE_NAME

_READABLE = ["Location", "Preference-Applied", "Retry-After", "X-Request-Id"]  # by scripts of other origins


class _Queue(Convertor[str]):
    """A queue's name in a path. Everything that is no queue begins with an underscore."""

    regex = QUEUE_NAME

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Id(_Queue):
    """What may be a message's id."""

    regex = r"[A-Za-z0-9][A-Za-z0-9-]{0,63}"


register_url_convertor("queue", _Queue())
register_url_convertor("id", _Id())


class _Errors:
    """The innermost layer: what a route raises becomes an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. An error after the answer has begun gets to the server, which closes the connection."""
        try:
            await self._app(scope, receive, send)
        except HTTPException as error:
            await unrouted(Request(scope), error)(scope, receive, send)
        except (HttpError, RedisQError, TooManyRequests) as error:
            await answer(scope, error)(scope, receive, send)


class _Application(Starlette):
    """Starlette with layers of ours alone."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the layers together."""
        # fast: Starlette's own wrap each request twice to handle errors, 5 % of a POST's CPU (`make bench`)
        app: ASGIApp = _Errors(self.router)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app


def create_app(context: Context) -> Starlette:
    """Make the application; `app.state.context` is what it was made with."""
    guard, meters, root = Guard(context), Meters(), context.options.root_path
    app = _Application(
        routes=_routes(context, guard, meters),
        middleware=[
            Middleware(Outermost, meters=meters, root_path=root),
            *_cors(context.options.cors_origins),
            *_home(context),
        ],
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    return app


def _routes(context: Context, guard: Guard, meters: Meters) -> list[BaseRoute]:
    dispatchers = Dispatchers(context.settings)
    context.farewells.append(dispatchers.close)
    gateway = Gateway(context, guard, meters, dispatchers, Readiness(context), table.OPERATIONS)
    return [*(operation.route(gateway) for operation in table.OPERATIONS), *page.routes(context, guard)]


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-Id", "traceparent"],
            expose_headers=_READABLE,
        )
    ]


def _home(context: Context) -> list[Middleware]:
    options = context.options
    return [Middleware(LocalOnly, origins=options.cors_origins, names=options.hosts)] * (
        context.settings.auth == "none"
    )


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Start what knows the applications, and end it and the client's connections with the server."""
    context: Context = app.state.context
    preload.read_all()
    table.read_all(context.options.root_path)
    for read in context.readings:
        read()
    start, stop = (getattr(context.verifier, name, None) for name in ("start", "stop"))
    if start is not None:
        await start()
    beside = [asyncio.create_task(_drain(context))]
    if context.settings.auth != "none":
        beside.append(asyncio.create_task(closed.tell(context)))
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        if stop is not None:
            await stop()
        for farewell in context.farewells:
            await farewell()
        await context.mq.close()


async def _drain(context: Context) -> None:
    await context.stopping.wait()
    context.waits.drain()
