"""Long waits: each ends early when its client goes away, or when the gateway stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from redisq.gateway.requests.errors import ClientGone

T = TypeVar("T")

LONGEST = 30.0  # seconds


class Waits:
    """The long waits of one gateway."""

    def __init__(self) -> None:
        self.draining = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def drain(self) -> None:
        """End all waits, and each that comes from now on, so that their requests are answered as things stand."""
        self.draining = True
        for task in self._waiting:
            task.cancel()

    async def run(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for `work`, whose request's body has been read; None when the gateway stops before it is done.

        Raises:
            ClientGone: its client went away before it was done. Then, too, it has been cancelled and has ended.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_gone(receive))
        self._waiting.add(task)
        if self.draining:
            task.cancel()
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            left = not task.done()
        finally:
            self._waiting.discard(task)
            task.cancel()
            gone.cancel()
            await asyncio.wait({task, gone})
        if left:
            raise ClientGone
        return None if task.cancelled() else task.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
