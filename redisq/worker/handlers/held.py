"""A message as its worker holds it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from redisq.model.delivery import Receipt
from redisq.store.keys import id_text

if TYPE_CHECKING:
    from redisq.worker.handlers.verdicts import Verdict

_one_event = threading.Lock()  # of a delivery, for all threads of its handler


class Unit(Protocol):
    """What a runner runs under one name: a delivery, or what is run for one."""

    reported: bool  # the thread that ran it has said what came of it
    began: float  # when it was called, by the monotonic clock; 0 before

    @property
    def cancelled(self) -> bool:
        """Whether it runs in vain."""


@dataclass(slots=True, eq=False)
class Held:
    """What the worker knows of a delivery, beside what its handler sees: one lease, from its claim to its outcome.

    The loop's thread settles it, once; the heartbeat's renews its lease, also when a handler asks for that.
    """

    queue: str
    receipt: Receipt
    deadline: datetime  # of the lease, by this machine's clock
    beat_at: float  # when it is renewed next, by the monotonic clock
    wake: Callable[[], None]  # the heartbeat
    is_pressing: bool = False  # its lease is short until it was renewed once
    progress: bytes = b""  # encoded, to be shown with the next renewal
    cancelled: bool = False  # the handler works in vain
    told: bool = False  # because the message is to be cancelled: its lease is held on
    reported: bool = False  # the thread that ran its handler has said what came of it
    settled: bool = False  # what becomes of it is decided, and only has to be told to Redis
    suspicion: int = 0  # the room for suspects that it holds
    began: float = 0.0  # when its handler was called, by the monotonic clock; 0 before
    took: float | None = None  # seconds until its handler ended, where somebody wants to know
    verdict: Verdict | None = None  # how it failed, until the log has told
    waited_for: threading.Event | None = None  # where a handler waits to be cancelled

    @property
    def id(self) -> str:
        """The message's id."""
        return id_text(self.receipt.id)

    @property
    def attempt(self) -> int:
        """Which delivery of its message it is."""
        return self.receipt.attempt

    def cancel(self) -> None:
        """Let the handler know that it works in vain."""
        self.cancelled = True
        if self.waited_for is not None:
            self.waited_for.set()

    def wait_cancelled(self, timeout: float | None) -> bool:
        """Wait in a handler's thread until it works in vain, for so many seconds at most; return whether it does."""
        with _one_event:
            event = self.waited_for = self.waited_for or threading.Event()
        if not self.cancelled:  # looked at when there is an event: who cancels sets that last
            event.wait(timeout)
        return self.cancelled

    def renew(self) -> None:
        """Renew the lease at once."""
        self.beat_at = 0.0
        self.wake()

    def show(self, progress: bytes) -> None:
        """Show this as the message's progress, and renew the lease."""
        self.progress = progress
        self.wake()
