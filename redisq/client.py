"""`RedisQ`: the client for threads. Every operation is written once, in `operations`; this shell runs it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from redisq.drivers import drive
from redisq.front_door import FrontDoor
from redisq.link.sync import Link
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


class RedisQ(FrontDoor):
    """Queue, look up and delete messages. Safe to share between threads and to use after a fork.

    Without arguments it is configured by `REDISQ_` environment variables. Every operation takes an access token; when
    none is passed, one is made from the application's credentials. A call that loses Redis is retried for
    `retry_deadline` seconds, as this argument or else the settings say: that is safe, as no call happens twice.

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
        self._link = Link(settings)

    def queue_message(
        self,
        queue: str,
        message: Any,
        token: str | None = None,
        **options: Unpack[Options],
    ) -> str:
        """Queue a message and return its id.

        Once this returns the message is delivered until it completes, is deleted or is dead. If the process dies
        half-way the message is queued whole or not at all; queueing again with the same `id` is always safe.
        `message` is anything JSON can hold, bytes and aware datetimes; and pydantic models, dataclasses, UUID, Decimal,
        Enum and date, which are written as pydantic's JSON mode writes them. `id` is a UUID of your choice.

        It is delivered at once, after `delay` seconds, or from `at` on, an aware datetime; each at most a year ahead.
        `at` becomes a delay here, by this machine's clock; from then on the clock of Redis counts. When no worker has
        got it `expires_in` seconds from now, at most a year, it is not delivered any more but dead, reason `expired`.

        `idempotency_key` is text of your choice, 1 to 512 characters: all who queue the same body under the same key,
        even at the same time, get the same id, and there is one message. The key stands for an id, made of it, the
        application and the queue; it is remembered as long as an id is.

        `priority` is from 0, as is usual, to 9: of the messages that are ready the one with the largest is delivered
        first, and of those that have the same the one that has been ready longest. It stays with the message, through
        retries, too. Ordinary ones wait for as long as there are others. A repeat does not change it.

        `headers` are texts beside the body, under names of a-z, 0-9 and -, for what is about the message and not in it,
        as a tenant or a trace: at most 64, of 8 KiB together. They count towards the queue's max_bytes, and stay with
        the message, through retries, too; a handler has them as `delivery.headers`. The same body with other headers
        is the same message: those that came first stay.

        Raises:
            InvalidQueueName, InvalidMessage, MessageTooLarge: nothing was sent, or nothing was changed.
            SchemaViolation: it does not fit the queue's schema, as that was up to 5 s ago; nothing was changed.
            InvalidDefinition, InvalidSettings: the schema is damaged, or jsonschema-rs, which checks it, is missing.
            MessageConflict: the id or the key was used before with another body.
            QueueFull: the queue is at its max_length, or Redis out of memory.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `queue`.
            Unavailable: Redis could not be reached in time. Indeterminate: ... and the message may be queued.
        """
        name, _ = self._run(queueing.queue_message(self._caller, queue, message, token, options))
        return name

    def queue_messages(
        self,
        queue: str,
        messages: Iterable[Any | Item],
        token: str | None = None,
        ids: Iterable[str | uuid.UUID] | None = None,
    ) -> list[str]:
        """Queue many messages in few round trips and return their ids, in order.

        `messages` may be any iterable, a generator of millions, too: it is read as it is sent, 250 messages or about a
        megabyte at a time. What it raises is raised, with what was sent before in the queue. One that takes longer than
        `retry_deadline` for so many leaves no time to try again what was under way. One of them that is an `Item` has
        options of its own, those of `queue_message`. `ids`, one for each, may be a generator, too, even one without
        end; those of a list are checked before anything is sent.

        Raises:
            BatchError: some were refused; it holds all ids and the error of each. Calling again with `ids=` is safe.
            As queue_message, when the call as a whole is refused.
        """
        return self._run(queueing.queue_messages(self._caller, queue, messages, token, ids))

    def get_message(
        self, queue: str, id: str | uuid.UUID, token: str | None = None, *, wait: float | None = None
    ) -> Message:
        """Look a message up. With `wait`, return when it has finished, or as it is after that many seconds.

        Raises:
            MessageNotFound: unknown, malformed, deleted, or past its retention.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `get`.
            InvalidQueueName, Unavailable.
        """
        return self._run(lookup.get_message(self._caller, queue, id, token, wait))

    def delete_message(self, queue: str, id: str | uuid.UUID, token: str | None = None) -> None:
        """Delete a message, whatever its status. A worker that is at it loses its lease; its handler is cancelled.

        Raises:
            MessageNotFound: unknown, malformed, or deleted before.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `delete`.
            InvalidQueueName, Unavailable.
        """
        self._run(deletion.delete_message(self._caller, queue, id, token))

    def cancel_message(self, queue: str, id: str | uuid.UUID, token: str | None = None) -> bool | None:
        """Cancel a message: it ends as ERROR, reason `cancelled`, without a result, and is no dead letter.

        True: it has ended so, now or before. None: it is in progress; its handler is told, within 0.2 s as a rule, and
        at the next renewal of its lease otherwise. Whatever it raises then ends the message as cancelled, without
        another attempt; a result that it returns counts. False: the message had finished before.

        Raises:
            MessageNotFound: unknown, malformed, deleted, or past its retention.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `delete`.
            InvalidQueueName, Unavailable.
        """
        return self._run(deletion.cancel_message(self._caller, queue, id, token))

    def get_messages(
        self, queue: str, ids: Iterable[str | uuid.UUID], token: str | None = None
    ) -> list[Message | None]:
        """Look many messages up in few round trips: the answer has None for each that is not there, in order.

        Raises:
            BatchError: some were damaged by another program; it holds the error of each.
            InvalidArgument: there is no list of ids, or what is neither text nor a UUID among them.
            As get_message, when the call as a whole is refused.
        """
        return self._run(lookup.get_messages(self._caller, queue, ids, token))

    def wait_for(
        self, queue: str, ids: Iterable[str | uuid.UUID], timeout: float, token: str | None = None
    ) -> Iterator[Message]:
        """Wait for many messages, and give each as it finishes; after `timeout` seconds the others as they are then.

            for message in mq.wait_for("orders", ids, 60):
                print(message.id, message.status)

        Each is given once, also one whose id is there twice. They are looked up together, and while none of the queue
        ends they are not: 1,000 waits cost what one does. The arguments are checked at once.

        Raises:
            BatchError: when all others were given, for those that are unknown, deleted or damaged.
            InvalidArgument: as get_messages; or `timeout` is not 0 to a year in seconds.
            As get_message, at once or when the next is asked for.
        """
        waiting = lookup.Waiting(self._caller, queue, ids, timeout, token)

        def finished() -> Iterator[Message]:
            while found := self._run(waiting.next()):
                yield from found

        return finished()

    def delete_messages(self, queue: str, ids: Iterable[str | uuid.UUID], token: str | None = None) -> list[bool]:
        """Delete many messages in few round trips: the answer says of each whether it was there, in order.

        Raises:
            BatchError: some could not be deleted, or may not have been; it holds the error of each. Calling again is
            safe; what was deleted is not there then. InvalidArgument: as get_messages.
            As delete_message, when the call as a whole is refused.
        """
        return self._run(deletion.delete_messages(self._caller, queue, ids, token))

    def dead_letters(
        self,
        queue: str,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
        limit: int = 100,
    ) -> list[Message]:
        """List dead letters, oldest first: whole messages, up to `limit` of them, at most 10,000.

        `reason` is one of failed, lost, expired, unreadable and rejected; `min_age` and `max_age` are seconds since it
        died. One that cannot be read is listed, too, with `request` None and the reason unreadable.

        Raises:
            InvalidArgument: a filter or the limit is not valid.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        chosen = Selection(reason, min_age, max_age)
        return self._run(dead_letters.find(self._caller, queue, token, chosen, limit))

    def redrive(
        self,
        queue: str,
        ids: Iterable[str | uuid.UUID] | None = None,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
    ) -> int:
        """Queue dead letters anew and return how many: those with these `ids`, or else all that the filters pass.

        Without ids and filters it is all that are dead now. Each keeps its id and its history, has all its attempts
        before it again, and does not expire any more. An id that was redriven before counts as done. Filters leave out
        what has lost its body. If the process dies half-way some are redriven; calling again does the rest.

        Raises:
            BatchError: some ids are those of no dead letters (MessageNotFound); the others are redriven.
            InvalidArgument: a filter or an id is not valid, or there are ids and filters.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        chosen = Selection(reason, min_age, max_age)
        return self._run(dead_letters.redrive(self._caller, queue, ids, token, chosen))

    def purge_dead(
        self,
        queue: str,
        ids: Iterable[str | uuid.UUID] | None = None,
        token: str | None = None,
        *,
        reason: Reason | None = None,
        min_age: float | None = None,
        max_age: float | None = None,
    ) -> int:
        """Delete dead letters and return how many: those with these `ids`, or else all that the filters pass.

        Without ids and filters it is all that are dead now. Their ids are remembered as delete_message does. If the
        process dies half-way some are deleted; calling again does the rest.

        Raises:
            BatchError: some ids are those of no dead letters (MessageNotFound); the others are deleted.
            As redrive, for the rest.
        """
        chosen = Selection(reason, min_age, max_age)
        return self._run(dead_letters.purge(self._caller, queue, ids, token, chosen))

    def list_messages(
        self, queue: str, which: Which, token: str | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """List up to `limit` (<= 500) messages that are `ready`, `scheduled`, `in_progress`, `dead` or `finished`.

        What is next comes first; of what is dead or finished (that is complete), the last. The page's `next` is the
        `cursor` of the next one. A request of more than 4 KiB is left out: look the message up. The token needs the
        ops `stats` and `get`.

        Raises:
            InvalidArgument: there is no such list, or `cursor` or `limit` is not valid.
            Forbidden, InvalidToken, MissingCredentials, Unavailable.
        """
        return self._run(listing.find(self._caller, queue, which, token, cursor, limit))

    def stats(self, queue: str, token: str | None = None) -> QueueStats:
        """Count what a queue holds, and its running totals. A queue that was never used is empty.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `stats`.
            InvalidQueueName, Unavailable.
        """
        return self._run(queues.stats(self._caller, queue, token))

    def queues(self, token: str | None = None) -> list[str]:
        """List the names of all queues, sorted.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `stats` on every queue.
            Unavailable.
        """
        return self._run(queues.names(self._caller, token))

    def define(self, queue: str, token: str | None = None, **changes: Unpack[Changes]) -> Definition:
        """Change settings of a queue for all services at once and return its whole definition; see `Definition`.

        Without changes it only reads. None goes back to the default. A new `schema` concerns what is queued from now
        on; other clients notice within 5 s. Clients of a redisq that knows no schemas do not check.

        Raises:
            InvalidDefinition: unknown, out of bounds, not built yet, or a schema that cannot be used; nothing was
            changed. InvalidSettings: jsonschema-rs, which checks schemas, is missing.
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, QueueFull, Unavailable.
        """
        return self._run(queues.define(self._caller, queue, token, changes))

    def purge(self, queue: str, token: str | None = None) -> int:
        """Remove all waiting messages, ready and scheduled; return how many. Their ids are remembered as if deleted.

        Messages in progress and finished ones stay. If the process dies half-way, some are removed and some wait.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        return self._run(queues.purge(self._caller, queue, token))

    def drop(self, queue: str, token: str | None = None) -> None:
        """Remove a queue at once with all its messages, results, ids, totals and its definition.

        A worker that is at one of its messages loses its lease. The next message queued creates the queue anew.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        self._run(queues.drop(self._caller, queue, token))

    def sweep(self, queue: str, token: str | None = None) -> int:
        """Forget finished messages and other leftovers whose time has passed, at once; return how many went.

        Workers do this every second; a queue without workers needs it when its memory shall come back.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        return self._run(queues.sweep(self._caller, queue, token))

    def doctor(self, queue: str, token: str | None = None, *, fix: bool = False) -> list[Finding]:
        """Audit a queue, and give what is wrong or needs attention, errors first; an empty list for a sound one.

        Nothing is changed unless with `fix`: then what is safe to mend is mended, at the moment it is found. Workers
        and clients go on meanwhile, and no message is lost or taken from a live worker. If the process dies half-way
        some is mended; calling again does the rest.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin`.
            InvalidQueueName, Unavailable.
        """
        return self._run(doctor.examine(self._caller, queue, token, fix=fix))

    def doctor_server(self, token: str | None = None, *, scan: bool = False, fix: bool = False) -> list[Finding]:
        """Audit the server: its version, memory, durability and clock; with `scan` all its keys, for lost queues.

        `scan` looks at each key of the whole database, a page at a time. With `fix`, too, it enters the queues that it
        finds in the registry.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden: op `admin` on every queue.
            Unavailable.
        """
        return self._run(doctor.examine_server(self._caller, token, scan=scan, fix=fix))

    def close(self) -> None:
        """Close idle connections. The client can be used again."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        return drive(flow, self._link, self.settings.retry_deadline)


def run(mq: RedisQ, make: Callable[[Caller], Flow[T]]) -> T:
    """Run an operation that is no method of the client: `make` takes its caller and gives the flow."""
    return mq._run(make(mq._caller))
