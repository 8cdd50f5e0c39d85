"""A message as its worker holds it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from redisq.model.delivery import Receipt
from redisq.store.keys import id_text


class Held:
    """What the worker knows of a delivery, beside what its handler sees: one lease, from its claim to its outcome.

    The loop's thread settles it, once; the heartbeat's renews its lease, also when a handler asks for that.
    """

    __slots__ = (
        "beat_at",
        "cancelled",
        "deadline",
        "progress",
        "queue",
        "receipt",
        "reported",
        "settled",
        "suspicion",
        "wake",
    )

    def __init__(
        self, queue: str, receipt: Receipt, deadline: datetime, beat_at: float, wake: Callable[[], None]
    ) -> None:
        self.queue = queue
        self.receipt = receipt
        self.deadline = deadline  # of the lease, by this machine's clock
        self.beat_at = beat_at  # when it is renewed next, by the monotonic clock
        self.wake = wake  # the heartbeat
        self.progress = b""  # encoded, to be shown with the next renewal
        self.cancelled = False  # the handler works in vain
        self.reported = False  # the thread that ran its handler has said what came of it
        self.settled = False  # what becomes of it is decided, and only has to be told to Redis
        self.suspicion = 0  # the room for suspects that it holds

    @property
    def id(self) -> str:
        """The message's id."""
        return id_text(self.receipt.id)

    @property
    def attempt(self) -> int:
        """Which delivery of its message it is."""
        return self.receipt.attempt

    def renew(self) -> None:
        """Renew the lease at once."""
        self.beat_at = 0.0
        self.wake()

    def show(self, progress: bytes) -> None:
        """Show this as the message's progress, and renew the lease."""
        self.progress = progress
        self.wake()
