"""`AsyncRedisQ`: the client for asyncio. Every operation is written once, in `operations`; this shell awaits it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from redisq.drivers import drive_async
from redisq.front_door import FrontDoor
from redisq.link.aio import AsyncLink
from redisq.link.coalescer import Coalescer
from redisq.model.audit import Finding
from redisq.model.listing import Page, Reason, Which
from redisq.model.message import Message
from redisq.model.queue import Changes, Definition, QueueStats
from redisq.operations import dead_letters, deletion, doctor, listing, lookup, queueing, queues
from redisq.operations.caller import Caller
from redisq.operations.dead_letters import Selection
from redisq.operations.flow import Flow
from redisq.operations.options import Item, Options
from redisq.settings import Settings
from redisq.tokens.token import Credentials

T = TypeVar("T")


class AsyncRedisQ(FrontDoor):
    """Queue, look up and delete messages with asyncio: what `RedisQ` does, awaited. Tasks may share it.

    Also those of several event loops, in threads or one after another: each loop has connections of its own.

    Raises:
        InvalidSettings, InvalidCredentials: the configuration is not valid.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        credentials: Credentials | None = None,
        retry_deadline: float | None = None,
    ) -> None:
        settings = Settings.merged(settings, url)
        if retry_deadline is not None:
            settings = settings.within(retry_deadline)
        self._caller = Caller(settings, credentials)
        self._link = AsyncLink(settings)
        self._coalescer = Coalescer(self._link)

    async def queue_message(
        self,
        queue: str,
        message: Any,
        token: str | None = None,
        **options: Unpack[Options],
    ) -> str:
        """Queue a message and return its id. See `RedisQ.queue_message`."""
        name, _ = await self._run(queueing.queue_message(self._caller, queue, message, token, options))
        return name

    async def queue_messages(
        self,
        queue: str,
        messages: Iterable[Any | Item],
        token: str | None = None,
        ids: Iterable[str | uuid.UUID] | None = None,
    ) -> list[str]:
        """Queue many messages in few round trips and return their ids. See `RedisQ.queue_messages`."""
        return await self._run(queueing.queue_messages(self._caller, queue, messages, token, ids))

    async def get_message(
        self, queue: str, id: str | uuid.UUID, token: str | None = None, *, wait: float | None = None
    ) -> Message:
        """Look a message up; with `wait`, when it has finished. See `RedisQ.get_message`."""
        return await self._run(lookup.get_message(self._caller, queue, id, token, wait))

    async def delete_message(self, queue: str, id: str | uuid.UUID, token: str | None = None) -> None:
        """Delete a message. See `RedisQ.delete_message`."""
        await self._run(deletion.delete_message(self._caller, queue, id, token))

    async def cancel_message(self, queue: str, id: str | uuid.UUID, token: str | None = None) -> bool | None:
        """Cancel a message. See `RedisQ.cancel_message`."""
        return await self._run(deletion.cancel_message(self._caller, queue, id, token))

    async def get_messages(
        self, queue: str, ids: Iterable[str | uuid.UUID], token: str | None = None
    ) -> list[Message | None]:
        """Look many messages up in few round trips. See `RedisQ.get_messages`."""
        return await self._run(lookup.get_messages(self._caller, queue, ids, token))

    def wait_for(
        self, queue: str, ids: Iterable[str | uuid.UUID], timeout: float, token: str | None = None
    ) -> AsyncIterator[Message]:
        """Wait for many messages, and give each as it finishes: `async for`. See `RedisQ.wait_for`."""
        waiting = lookup.Waiting(self._caller, queue, ids, timeout, token)

        async def finished() -> AsyncIterator[Message]:
            while found := await self._run(waiting.next()):
                for message in found:
                    yield message

        return finished()

    async def delete_messages(self, queue: str, ids: Iterable[str | uuid.UUID], token: str | None = None) -> list[bool]:
        """Delete many messages in few round trips. See `RedisQ.delete_messages`."""
        return await self._run(deletion.delete_messages(self._caller, queue, ids, token))

    async def dead_letters(
        self,
        queue: str,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
        limit: int = 100,
    ) -> list[Message]:
        """List dead letters, oldest first. See `RedisQ.dead_letters`."""
        chosen = Selection(reason, min_age, max_age)
        return await self._run(dead_letters.find(self._caller, queue, token, chosen, limit))

    async def redrive(
        self,
        queue: str,
        ids: Iterable[str | uuid.UUID] | None = None,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
    ) -> int:
        """Queue dead letters anew and return how many. See `RedisQ.redrive`."""
        chosen = Selection(reason, min_age, max_age)
        return await self._run(dead_letters.redrive(self._caller, queue, ids, token, chosen))

    async def purge_dead(
        self,
        queue: str,
        ids: Iterable[str | uuid.UUID] | None = None,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
    ) -> int:
        """Delete dead letters and return how many. See `RedisQ.purge_dead`."""
        chosen = Selection(reason, min_age, max_age)
        return await self._run(dead_letters.purge(self._caller, queue, ids, token, chosen))

    async def list_messages(
        self, queue: str, which: Which, token: str | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """List a page of messages. See `RedisQ.list_messages`."""
        return await self._run(listing.find(self._caller, queue, which, token, cursor, limit))

    async def stats(self, queue: str, token: str | None = None) -> QueueStats:
        """Count what a queue holds. See `RedisQ.stats`."""
        return await self._run(queues.stats(self._caller, queue, token))

    async def queues(self, token: str | None = None) -> list[str]:
        """List the names of all queues. See `RedisQ.queues`."""
        return await self._run(queues.names(self._caller, token))

    async def define(self, queue: str, token: str | None = None, **changes: Unpack[Changes]) -> Definition:
        """Change settings of a queue. See `RedisQ.define`."""
        return await self._run(queues.define(self._caller, queue, token, changes))

    async def purge(self, queue: str, token: str | None = None) -> int:
        """Remove all waiting messages. See `RedisQ.purge`."""
        return await self._run(queues.purge(self._caller, queue, token))

    async def drop(self, queue: str, token: str | None = None) -> None:
        """Remove a queue with all that it holds. See `RedisQ.drop`."""
        await self._run(queues.drop(self._caller, queue, token))

    async def sweep(self, queue: str, token: str | None = None) -> int:
        """Forget what is due. See `RedisQ.sweep`."""
        return await self._run(queues.sweep(self._caller, queue, token))

    async def doctor(self, queue: str, token: str | None = None, *, fix: bool = False) -> list[Finding]:
        """Audit a queue. See `RedisQ.doctor`."""
        return await self._run(doctor.examine(self._caller, queue, token, fix=fix))

    async def doctor_server(self, token: str | None = None, *, scan: bool = False, fix: bool = False) -> list[Finding]:
        """Audit the server and the registry. See `RedisQ.doctor_server`."""
        return await self._run(doctor.examine_server(self._caller, token, scan=scan, fix=fix))

    async def close(self) -> None:
        """Close idle connections. The client can be used again."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        return await drive_async(flow, self._coalescer, self.settings.retry_deadline)


def acting_for(mq: AsyncRedisQ, application: str) -> AsyncRedisQ:
    """Return a client in the name of an application whose grant was checked elsewhere. It shares `mq`'s connections.

    It checks no token: only for a program that has checked one itself, as the gateway does.
    """
    other = object.__new__(type(mq))
    vars(other).update(vars(mq), _caller=mq._caller.acting_for(application))
    return other


async def run(mq: AsyncRedisQ, make: Callable[[Caller], Flow[T]]) -> T:
    """Run an operation that is no method of the client: `make` takes its caller and gives the flow."""
    return await mq._run(make(mq._caller))
