"""Whether the gateway can serve requests."""

from __future__ import annotations

import asyncio

from redisq.errors import Unavailable
from redisq.gateway.context import Context
from redisq.tokens.applications import Registry

_DEADLINE = 2.0  # seconds for Redis to answer whether it is there
_ANY_QUEUE = "ready"  # one that is looked at and, being unknown, stays so


class Readiness:
    """Looks whether Redis answers and the applications are known: however many ask, one looks."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._looking: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Return if it can. It cannot with a wrong REDISQ_MASTER_KEY: whoever replaces gateways one by one should get
        no further.

        Raises:
            Unavailable: it cannot, or it is being stopped.
        """
        if self._context.stopping.is_set:
            raise Unavailable("The gateway is being stopped.")
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                await self._context.acting_for("").stats(_ANY_QUEUE)
        except (TimeoutError, Unavailable):
            raise Unavailable from None
        known = self._context.verifier.snapshot()
        if isinstance(known, Registry) and known.is_foreign:  # its log says so
            raise Unavailable
