"""All desks of one gateway, and the connections they share."""

from __future__ import annotations

import asyncio

from redisq.claims.identity import process_name
from redisq.claims.policy import LONGEST_BLOCK
from redisq.gateway.work.bells import Bells
from redisq.gateway.work.dispatcher import Desk
from redisq.link.aio import AsyncLink
from redisq.operations.caller import limits_of
from redisq.settings import Settings
from redisq.store.keys import check_queue_name, partition_keys

_MANY = 1_000  # desks; of one that is idle only its knowledge of the server's clock is lost
_EACH, _RAREST_LOOK = 0.3, 30.0  # seconds
_FAREWELL = 5.0  # seconds to hand back what is left


class Desks:
    """One desk for each queue that somebody claims from."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = limits_of(settings)
        self._link = AsyncLink(settings)
        self._claims = AsyncLink(settings.model_copy(update={"retry_deadline": 0.0}))
        self._name = process_name("gateway")
        self._bells = Bells()
        self._desks: dict[str, Desk] = {}

    def of(self, queue: str) -> Desk:
        """Return a queue's desk.

        Raises:
            InvalidQueueName: it is no queue's.
        """
        found = self._desks.get(queue)
        if found is None:
            if len(self._desks) >= _MANY:
                self._desks = {name: desk for name, desk in self._desks.items() if not desk.is_idle}
            where = partition_keys(self._settings.namespace, check_queue_name(queue))
            patience = self._settings.retry_deadline
            found = Desk(
                where, self._limits, self._link, self._claims, self._name, patience, self._longest, self._bells
            )
            self._desks[queue] = found
        return found

    def _longest(self) -> float:
        """Return how often a desk looks though nothing rang: more rarely the more there are, to cost Redis little."""
        listening = sum(not desk.is_idle for desk in self._desks.values())
        return min(_RAREST_LOOK, max(LONGEST_BLOCK, listening * _EACH))

    async def close(self) -> None:
        """Claim no more, hand back what is not passed on, and close the connections."""
        desks = list(self._desks.values())
        for desk in desks:
            desk.stop()
        try:
            async with asyncio.timeout(_FAREWELL):
                await asyncio.gather(*(desk.close() for desk in desks))
        except TimeoutError:
            await asyncio.gather(*(desk.cut() for desk in desks))
        await self._link.close()
        await self._claims.close()
