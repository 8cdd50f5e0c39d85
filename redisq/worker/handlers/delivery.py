"""One hand-over of one message to a handler."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn, SupportsIndex

from redisq.body import codec
from redisq.errors import LeaseLost
from redisq.operations.options import seconds_of
from redisq.store.keys import id_text
from redisq.store.record import Head
from redisq.worker.handlers.held import Held

_NONE: Mapping[str, str] = MappingProxyType({})


class Delivery:
    """What a handler gets: the request, and its hold on the message.

    The worker renews the lease by itself. A handler that has effects elsewhere can use `id` and `attempt` to make them
    happen once. `renew` and `progress` return at once, in plain and in async handlers alike; a thread of the worker
    sends them.
    """

    __slots__ = (
        *("_failed", "_head", "_held", "attempt", "headers", "id"),
        *("max_attempts", "queue", "request", "state"),
    )

    def __init__(
        self,
        request: Any,
        held: Held,
        headers: Mapping[str, str] = _NONE,
        max_attempts: int = 1,
        failed: int = 0,
        head: bytes = b"0",
        state: Any = None,
    ) -> None:
        #: the message's id
        self.id: str = id_text(held.receipt.id)
        self.queue: str = held.queue
        #: what was queued
        self.request: Any = request
        #: what was queued beside it: texts, by names in lower case
        self.headers: Mapping[str, str] = headers
        #: 1 for the first delivery of this message; higher for each later one, also after one that was not charged
        self.attempt: int = held.receipt.attempt
        #: what the worker's lifespan has yielded; None without one
        self.state: Any = state
        #: how often its handler may fail, by the queue's definition, the handler's or the settings
        self.max_attempts: int = max_attempts
        self._failed = failed
        self._head = head
        self._held = held

    @property
    def is_last_attempt(self) -> bool:
        """Whether no other follows if this one fails: the message is dead then."""
        return self._failed + 1 >= self.max_attempts

    @property
    def queued_at(self) -> datetime:
        """When the message was queued, by the clock of Redis, aware and in UTC."""
        return Head.of(self._head).queued_at

    @property
    def priority(self) -> int:
        """The message's priority: 0, as is usual, to 9."""
        return Head.of(self._head).priority

    @property
    def deadline(self) -> datetime:
        """When the lease lapses unless it is renewed, by this machine's clock, aware and in UTC."""
        return self._held.deadline

    @property
    def cancelled(self) -> bool:
        """True once the work is in vain.

        The message was cancelled, deleted or taken over, the handler overran its timeout, or the worker stops. Async
        handlers are cancelled as well; plain ones should look now and then, or `wait_cancelled`.
        """
        return self._held.cancelled

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Wait until `cancelled`, for up to `timeout` seconds; return whether it is. For plain handlers: it blocks.

        A handler that has nothing to do for a while waits here instead of sleeping.

        Raises:
            InvalidArgument: `timeout` is not 0 to a year (31,536,000).
        """
        return self._held.wait_cancelled(None if timeout is None else seconds_of("timeout", timeout))

    def renew(self) -> None:
        """Renew the lease now instead of at the next heartbeat.

        Raises:
            LeaseLost: the work is in vain, see `cancelled`.
        """
        if self.cancelled:
            raise LeaseLost
        self._held.renew()

    def progress(self, value: Any) -> None:
        """Show `value` as the message's progress, and renew the lease. Of quick successive values the last is sent.

        Raises:
            LeaseLost: the work is in vain, see `cancelled`.
            InvalidMessage: `value` is not one a message could hold.
        """
        if self.cancelled:
            raise LeaseLost
        self._held.show(codec.encode(value))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("A delivery belongs to its worker's process: pass on delivery.request and delivery.id instead")

    def __repr__(self) -> str:
        return f"Delivery(queue={self.queue!r}, id={self.id!r}, attempt={self.attempt})"
