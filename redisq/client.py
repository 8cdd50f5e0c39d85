"""`RedisQ`: the client for threads. Every operation is written once, in `operations`; this shell runs it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from redisq.calls import Call
from redisq.connection import Link
from redisq.model import Definition, Message, QueueStats
from redisq.operations import Flow, Operations
from redisq.settings import Settings
from redisq.tokens import Credentials

T = TypeVar("T")


class RedisQ:
    """Queue, look up and delete messages. Safe to share between threads and to use after a fork.

    Without arguments it is configured by `REDISQ_` environment variables. Every operation takes an access token; when
    none is passed, one is made from the application's credentials. A call that loses Redis is retried for
    `retry_deadline` seconds, which is safe: no call happens twice.

    Raises:
        InvalidSettings, InvalidCredentials: the configuration is not valid.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        settings = Settings.merged(settings, url)
        self._operations = Operations(settings, credentials)
        self._link = Link(settings)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._operations.settings

    def queue_message(
        self,
        queue: str,
        message: Any,
        token: str | None = None,
        *,
        id: str | uuid.UUID | None = None,
        delay: float = 0.0,
    ) -> str:
        """Queue a message and return its id.

        Once this returns the message is delivered until it completes, is deleted or is dead. If the process dies
        half-way the message is queued whole or not at all; queueing again with the same `id` is always safe.
        `message` is anything JSON can hold, bytes and aware datetimes. `id` is a UUID of your choice, `delay` seconds.

        Raises:
            InvalidQueueName, InvalidMessage, MessageTooLarge: nothing was sent, or nothing was changed.
            MessageConflict: the id was queued before with another body.
            QueueFull: the queue is at its max_length, or Redis out of memory.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `queue`.
            Unavailable: Redis could not be reached in time. Indeterminate: ... and the message may be queued.
        """
        return self._run(self._operations.queue_message(queue, message, token, id, delay))

    def queue_messages(
        self,
        queue: str,
        messages: Iterable[Any],
        token: str | None = None,
        ids: Sequence[str | uuid.UUID] | None = None,
    ) -> list[str]:
        """Queue many messages in few round trips and return their ids, in order.

        Raises:
            BatchError: some were refused; it holds all ids and the error of each. Calling again with `ids=` is safe.
            As queue_message, when the call as a whole is refused.
        """
        return self._run(self._operations.queue_messages(queue, messages, token, ids))

    def get_message(
        self, queue: str, id: str | uuid.UUID, token: str | None = None, *, wait: float | None = None
    ) -> Message:
        """Look a message up. With `wait`, return when it has finished, or as it is after that many seconds.

        Raises:
            MessageNotFound: unknown, malformed, deleted, or past its retention.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `get`.
            InvalidQueueName, Unavailable.
        """
        return self._run(self._operations.get_message(queue, id, token, wait))

    def delete_message(self, queue: str, id: str | uuid.UUID, token: str | None = None) -> None:
        """Delete a message, whatever its status. A worker that is at it loses its lease; its handler is cancelled.

        Raises:
            MessageNotFound: unknown, malformed, or deleted before.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `delete`.
            InvalidQueueName, Unavailable.
        """
        self._run(self._operations.delete_message(queue, id, token))

    def stats(self, queue: str, token: str | None = None) -> QueueStats:
        """Count what a queue holds, and its running totals. A queue that was never used is empty.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `stats`.
            InvalidQueueName, Unavailable.
        """
        return self._run(self._operations.stats(queue, token))

    def queues(self, token: str | None = None) -> list[str]:
        """List the names of all queues, sorted.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `stats` on every queue.
            Unavailable.
        """
        return self._run(self._operations.queues(token))

    def define(self, queue: str, token: str | None = None, **changes: Any) -> Definition:
        """Change settings of a queue for all services at once and return its whole definition; see `Definition`.

        Without changes it only reads. None goes back to the default.

        Raises:
            InvalidDefinition: unknown, out of bounds, or not built yet; nothing was changed.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, QueueFull, Unavailable.
        """
        return self._run(self._operations.define(queue, token, changes))

    def purge(self, queue: str, token: str | None = None) -> int:
        """Remove all waiting messages, ready and scheduled; return how many. Their ids are remembered as if deleted.

        Messages in progress and finished ones stay. If the process dies half-way, some are removed and some wait.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        return self._run(self._operations.purge(queue, token))

    def drop(self, queue: str, token: str | None = None) -> None:
        """Remove a queue at once with all its messages, results, ids, totals and its definition.

        A worker that is at one of its messages loses its lease. The next message queued creates the queue anew.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        self._run(self._operations.drop(queue, token))

    def sweep(self, queue: str, token: str | None = None) -> int:
        """Forget finished messages and other leftovers whose time has passed, at once; return how many went.

        Workers do this every second; a queue without workers needs it when its memory shall come back.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        return self._run(self._operations.sweep(queue, token))

    def close(self) -> None:
        """Close idle connections. The client can be used again."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self.settings.namespace!r})"

    def _run(self, flow: Flow[T]) -> T:
        send, value = flow.send, None
        try:
            while True:
                step = send(value)
                send = flow.send
                if not isinstance(step, Call):
                    time.sleep(step.seconds)
                    value = None
                    continue
                try:
                    value = self._link.call(step)
                except Exception as error:
                    send, value = flow.throw, error
        except StopIteration as done:
            answer: T = done.value
            return answer
