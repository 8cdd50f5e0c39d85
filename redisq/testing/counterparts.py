"""Clients that were made before a queue was opened: while it is, their callers and links have counterparts there.

A module's own client is such a one, and so is a view of it. Clients share callers and links, so it is these that are
replaced; nothing in a client is changed, and what it knows of its own server stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redisq.async_client import AsyncRedisQ
from redisq.client import RedisQ
from redisq.link.coalescer import Coalescer
from redisq.link.sync import Link
from redisq.operations.caller import Caller
from redisq.settings import Settings

_PARTS = {RedisQ: ("_caller", "_link"), AsyncRedisQ: ("_caller", "_link", "_coalescer")}


class Counterparts:
    """The counterparts of what clients consist of, each made on first use; `instead` gives their settings."""

    def __init__(self, instead: Callable[[Settings], Settings]) -> None:
        self._instead = instead
        self._made: dict[Any, Any] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have all clients use them."""
        for kind, names in _PARTS.items():
            for name in names:
                setattr(kind, name, _Part(name, self))
        try:
            yield
        finally:
            for kind, names in _PARTS.items():
                for name in names:
                    delattr(kind, name)
            for link in self.links(Link):
                link.close()

    def links(self, kind: type) -> list[Any]:
        """Return the links of a kind that were made or found."""
        return [made for made in self._made.values() if isinstance(made, kind)]

    def of(self, part: Any) -> Any:
        """Return a part's counterpart; that of one which is in the queue already is itself."""
        if part not in self._made:
            self._made[part] = self._make(part)
        return self._made[part]

    def _make(self, part: Any) -> Any:
        if isinstance(part, Coalescer):
            link = self.of(part._sender)
            return part if link is part._sender else Coalescer(link)
        given: Settings = part.settings if isinstance(part, Caller) else part._settings
        settings = self._instead(given)
        return part if settings.namespace == given.namespace else type(part)(settings)


class _Part:
    """Stands on a client's class, where it goes before what the client has of this name."""

    def __init__(self, name: str, counterparts: Counterparts) -> None:
        self._name = name
        self._counterparts = counterparts

    def __get__(self, client: Any, _: type) -> Any:
        return self._counterparts.of(vars(client)[self._name])

    def __set__(self, client: Any, value: Any) -> None:
        vars(client)[self._name] = value
