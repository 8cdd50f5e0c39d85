"""What queues define themselves, remembered for seconds: the gateway asks for it when a stranger comes."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redisq.async_client import AsyncRedisQ
from redisq.errors import InvalidDefinition, InvalidSettings, Unavailable
from redisq.model.queue import Definition

log = logging.getLogger("redisq.gateway")

_REMEMBERED = 2.0  # seconds
_MOST = 10_000  # names from strangers must not grow a process without end


class Definitions:
    """The definitions of queues, each read at most once in a while, however many ask."""

    def __init__(self, mq: AsyncRedisQ) -> None:
        self._mq = mq
        self._found: dict[str, tuple[float, asyncio.Task[Definition]]] = {}
        self._names: tuple[float, asyncio.Task[frozenset[str]]] | None = None

    async def of(self, queue: str) -> Definition:
        """Return a queue's own definition, which is seconds old at most; that of an unknown queue is empty.

        Raises:
            Unavailable: Redis does not answer.
        """
        now = time.monotonic()
        read_at, task = self._found.get(queue, (-math.inf, None))
        if task is None or now > read_at + _REMEMBERED or _failed(task):
            if len(self._found) >= _MOST:
                self._found.clear()
            task = asyncio.ensure_future(self._mq.define(queue))
            self._found[queue] = now, task
        return await asyncio.shield(task)  # who goes away takes it from nobody else

    async def exists(self, queue: str) -> bool:
        """Return whether there is a queue of this name, or was some seconds ago: one look for all who ask meanwhile.

        Raises:
            Unavailable: Redis does not answer.
        """
        now = time.monotonic()
        if self._names is None or now > self._names[0] + _REMEMBERED or _failed(self._names[1]):
            self._names = now, asyncio.ensure_future(self._read_names())
        return queue in await asyncio.shield(self._names[1])

    async def _read_names(self) -> frozenset[str]:
        return frozenset(await self._mq.queues())

    def forget(self, queue: str) -> None:
        """Read a queue's definition anew at the next time: it was changed."""
        self._found.pop(queue, None)
        self._names = None


@contextmanager
def taking(queue: str) -> Iterator[None]:
    """Queue messages: a schema that cannot be used is no fault of who sends them.

    Raises:
        Unavailable: another program damaged the queue's schema, or what checks it is not installed here.
    """
    try:
        yield
    except (InvalidDefinition, InvalidSettings) as error:
        log.error("queue %s takes no messages: %s", queue, error)
        raise Unavailable from None


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
