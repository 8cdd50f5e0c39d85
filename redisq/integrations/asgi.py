"""The gateway, with its page, as a part of somebody's ASGI application: FastAPI, Starlette, or another that mounts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from redisq.async_client import AsyncRedisQ
from redisq.errors import InvalidSettings
from redisq.gateway.access.registry import LiveRegistry
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.settings import GatewaySettings
from redisq.settings import Settings


def make_gateway(path: str, *, settings: Settings | None = None) -> Starlette:
    """Make a gateway that is to be mounted under `path`, like "/mq"; `running` runs it. The page is `/mq/_ui`.

    It is the one that `redisq serve` runs and asks for the same tokens, so it needs REDISQ_MASTER_KEY, which makes this
    process a gateway's: whoever breaks into it can make any application's tokens. Its limits are REDISQ_HTTP_ settings.

    Raises:
        InvalidSettings: there is no master key, or `REDISQ_AUTH=none`: nothing would tell friend from foe here; or
            `path` is none.
    """
    settings, options = Settings.merged(settings, None), GatewaySettings(root_path=path)
    if settings.auth == "none":
        raise InvalidSettings(
            "REDISQ_AUTH=none would let in whoever reaches the application: use tokens, or `redisq serve` on 127.0.0.1."
        )
    if not options.root_path:
        raise InvalidSettings('a gateway is mounted under a path of its own, like "/mq"')
    mq = AsyncRedisQ(settings=settings)
    return create_app(Context(mq, LiveRegistry(mq, options), settings, options))


@contextlib.asynccontextmanager
async def running(gateway: Starlette) -> AsyncIterator[None]:
    """Run a gateway that is mounted, for as long as the block lasts: applications do not do so by themselves."""
    context: Context = gateway.state.context
    async with gateway.router.lifespan_context(gateway):
        try:
            yield
        finally:
            context.stopping.set()
