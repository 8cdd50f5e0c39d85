"""What an asyncio client keeps for each event loop, so that several loops may use one client, in threads or in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing for each event loop that asks, made when it does first; forgotten after its loop was closed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}
        self._last: tuple[asyncio.AbstractEventLoop, T] | None = None  # one thing, so that no thread sees half of it

    def get(self) -> T:
        """Return the running loop's."""
        loop, last = asyncio.get_running_loop(), self._last
        if last is not None and last[0] is loop:
            return last[1]
        found = self._made.get(loop)
        if found is None:
            for other in list(self._made):  # each step is atomic: other threads may be here, too
                if other.is_closed():
                    self._made.pop(other, None)
            found = self._made[loop] = self._make()
        self._last = loop, found
        return found

    def latest(self) -> T:
        """Return that of the loop that asked last, from any thread; the running loop's when none did."""
        last = self._last
        return self.get() if last is None else last[1]
