"""One hand-over of one message to a handler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, SupportsIndex

from redisq.body import codec
from redisq.errors import LeaseLost
from redisq.model.delivery import Receipt


class Delivery:
    """What a handler gets: the request, and its hold on the message.

    The worker renews the lease by itself. A handler that has effects elsewhere can use `id` and `attempt` to make them
    happen once. `renew` and `progress` return at once, in plain and in async handlers alike; a thread of the worker
    sends them.
    """

    __slots__ = (
        "_beat_at",
        "_progress",
        "_receipt",
        "_settled",
        "_suspicion",
        "_wake",
        "attempt",
        "cancelled",
        "deadline",
        "id",
        "queue",
        "request",
    )

    def __init__(
        self, id: str, queue: str, request: Any, receipt: Receipt, deadline: datetime, wake: Callable[[], None]
    ) -> None:
        #: the message's id
        self.id: str = id
        self.queue: str = queue
        #: what was queued
        self.request: Any = request
        #: 1 for the first delivery of this message; higher for each later one
        self.attempt: int = receipt.attempt
        #: when the lease lapses unless it is renewed, by this machine's clock, aware and in UTC
        self.deadline: datetime = deadline
        #: True once the work is in vain: the message was deleted or taken over, the handler overran its timeout, or the
        #: worker stops. Async handlers are cancelled as well; plain ones should look now and then
        self.cancelled: bool = False
        self._receipt = receipt
        self._wake = wake
        self._progress: bytes = b""
        self._beat_at = 0.0
        self._settled = False
        self._suspicion = 0  # the room for suspects that it holds

    def renew(self) -> None:
        """Renew the lease now instead of at the next heartbeat.

        Raises:
            LeaseLost: the lease is known to be lost.
        """
        if self.cancelled:
            raise LeaseLost
        self._beat_at = 0.0
        self._wake()

    def progress(self, value: Any) -> None:
        """Show `value` as the message's progress, and renew the lease. Of quick successive values the last is sent.

        Raises:
            LeaseLost: the lease is known to be lost.
            InvalidMessage: `value` is not one a message could hold.
        """
        if self.cancelled:
            raise LeaseLost
        self._progress = codec.encode(value)
        self._wake()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("A delivery belongs to its worker's process: pass on delivery.request and delivery.id instead")

    def __repr__(self) -> str:
        return f"Delivery(queue={self.queue!r}, id={self.id!r}, attempt={self.attempt})"
