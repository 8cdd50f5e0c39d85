"""All dispatchers of one gateway, and the connections they share."""

from __future__ import annotations

import asyncio

from redisq.claims.identity import process_name
from redisq.claims.policy import LONGEST_BLOCK
from redisq.gateway.work.bells import Bells
from redisq.gateway.work.dispatcher import Dispatcher
from redisq.link.aio import AsyncLink
from redisq.operations.caller import limits_of
from redisq.settings import Settings
from redisq.store.keys import check_queue_name, partition_keys

_MANY = 1_000  # dispatchers; of one that is idle only its knowledge of the server's clock is lost
_EACH, _RAREST_LOOK = 0.3, 30.0  # seconds
_FAREWELL = 5.0  # seconds to hand back what is left


class Dispatchers:
    """One dispatcher for each queue that somebody claims from."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = limits_of(settings)
        self._link = AsyncLink(settings)
        self._claims = AsyncLink(settings.model_copy(update={"retry_deadline": 0.0}))
        self._name = process_name("gateway")
        self._bells = Bells()
        self._dispatchers: dict[str, Dispatcher] = {}

    def of(self, queue: str) -> Dispatcher:
        """Return a queue's dispatcher.

        Raises:
            InvalidQueueName: it is no queue's.
        """
        found = self._dispatchers.get(queue)
        if found is None:
            if len(self._dispatchers) >= _MANY:
                self._dispatchers = {
                    name: dispatcher for name, dispatcher in self._dispatchers.items() if not dispatcher.is_idle
                }
            where = partition_keys(self._settings.namespace, check_queue_name(queue))
            patience = self._settings.retry_deadline
            found = Dispatcher(
                where, self._limits, self._link, self._claims, self._name, patience, self._longest, self._bells
            )
            self._dispatchers[queue] = found
        return found

    def _longest(self) -> float:
        """Return how often one looks though nothing rang: more rarely the more there are, to cost Redis little."""
        listening = sum(not dispatcher.is_idle for dispatcher in self._dispatchers.values())
        return min(_RAREST_LOOK, max(LONGEST_BLOCK, listening * _EACH))

    async def close(self) -> None:
        """Claim no more, hand back what is not passed on, and close the connections."""
        dispatchers = list(self._dispatchers.values())
        for dispatcher in dispatchers:
            dispatcher.stop()
        try:
            async with asyncio.timeout(_FAREWELL):
                await asyncio.gather(*(dispatcher.close() for dispatcher in dispatchers))
        except TimeoutError:
            await asyncio.gather(*(dispatcher.cut() for dispatcher in dispatchers))
        await self._link.close()
        await self._claims.close()
