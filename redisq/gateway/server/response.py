"""One request on a connection, and its answer: uvicorn's cycle, whose application may be cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Cycle(RequestResponseCycle):
    """A request that the application answers."""

    async def run_asgi(self, app: Any) -> None:
        """Run the application; one that is cancelled because its time is over ends quietly."""

        async def quietly(*how: Any) -> None:
            try:
                await app(*how)
            except asyncio.CancelledError:
                if not self.disconnected:
                    raise

        await super().run_asgi(quietly)
