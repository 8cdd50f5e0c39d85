"""How the gateway's long waits learn that it is being stopped."""

from __future__ import annotations

import asyncio


class Stopping:
    """Whether the gateway is being stopped. Long waits watch it, so that they answer early and nothing is cut.

    It is set once, by the server, as soon as it takes no more connections; requests that are under way then have
    `grace` seconds to end.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the gateway is being stopped."""
        return self.event.is_set()

    def set(self) -> None:
        """Stop the gateway: no more connections, no more requests, and no more waiting."""
        self.event.set()

    async def wait(self) -> None:
        """Wait until the gateway is being stopped."""
        await self.event.wait()

    async def wait_or(self, seconds: float) -> bool:
        """Wait so many seconds, or until the gateway is being stopped; give whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            pass
        return self.is_set
