"""A queue as it should be: what each call answers and leaves, in plain Python, with a clock that tests move.

Of the order of messages it knows priorities, and that lapsed ones may be claimed, too. It is told which were delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redisq import LeaseLost, MessageConflict, MessageNotFound, RedisQError
from redisq.model.delivery import Receipt
from redisq.store.call import Limits

Refusal = type[RedisQError] | None


@dataclass
class Kept:
    """A message that there is. `since`: P when it is available, I when its lease lapses, C and E when it ended."""

    body: Any
    status: str
    since: float
    receipt: Receipt | None = None
    attempt: int = 0
    failed: int = 0
    lost: int = 0
    suspect: int = 0
    payload: Any = None
    priority: int = 0
    told: bool = False  # in progress, and to be cancelled
    cancelled: bool = False  # ended so
    history: list[tuple[str, int]] = field(default_factory=list)

    def note(self, event: str) -> None:
        self.history = [*self.history, (event, self.attempt)][-20:]


class Model:
    """One queue. Times are seconds since its beginning."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.now = 0.0
        self.kept: dict[bytes, Kept] = {}
        self.tombstones: dict[bytes, tuple[Any, float]] = {}
        events = ("queued", "completed", "failed", "lost", "released", "dead", "deleted", "redriven", "cancelled")
        self.counts = dict.fromkeys(events, 0)

    def queue(self, id: bytes, body: Any, delay: float = 0.0, priority: int = 0) -> Refusal:
        known = self.kept[id].body if id in self.kept else self.tombstones.get(id, (None, 0))[0]
        if known is not None:
            return None if known == body else MessageConflict
        self.kept[id] = Kept(body, "P", self.now + delay, priority=priority)
        self.counts["queued"] += 1
        return None

    def delete(self, id: bytes) -> Refusal:
        if id not in self.kept:
            return MessageNotFound
        self.tombstones[id] = (self.kept.pop(id).body, self.now)
        self.counts["deleted"] += 1
        return None

    def cancel(self, id: bytes) -> bool | type[RedisQError] | None:
        """Answer as the clients do."""
        message = self.kept.get(id)
        if message is None:
            return MessageNotFound
        if message.status in "CE":
            return message.cancelled
        if not message.told:
            message.note("cancelled")
        if message.status == "I":
            message.told = True
            return None
        self._cancel(message, None)
        return True

    def redrive(self, id: bytes) -> Refusal:
        message = self.kept.get(id)
        if message and message.status == "E" and not message.cancelled:
            message.note("redriven")
            message.status, message.since, message.failed, message.lost = "P", self.now, 0, 0
            self.counts["redriven"] += 1
            return None
        return None if message and "redriven" in dict(message.history) else MessageNotFound

    # --- Deliveries ---

    def waiting(self) -> set[bytes]:
        """The messages that are available."""
        return {id for id, one in self.kept.items() if one.status == "P" and one.since <= self.now}

    def lapsed(self) -> set[bytes]:
        """The messages whose lease has lapsed."""
        return {id for id, one in self.kept.items() if one.status == "I" and one.since <= self.now}

    def condemn(self) -> None:
        """End the lapsed messages that have taken down enough workers by themselves, as the next claim does.

        And those that are to be cancelled.
        """
        for id in self.lapsed():
            message = self.kept[id]
            if message.told:
                message.note("lost")
                self.counts["lost"] += 1
                self._cancel(message, None)
            elif message.suspect == 2 and max(message.lost, 2) + 1 >= self._limits.max_lost:
                message.lost = max(message.lost, 2) + 1
                message.note("lost")
                self.counts["lost"] += 1
                self._end(message, "E", None)

    def deliver(self, receipts: Sequence[Receipt]) -> None:
        """Hand over what a claim gave, each of which is waiting or lapsed."""
        for receipt in receipts:
            message = self.kept[receipt.id]
            if message.status == "I":
                message.note("lost")
                self.counts["lost"] += 1
                message.lost = message.lost if message.suspect < 2 else max(message.lost, 2) + 1
                message.suspect = min(2, message.suspect + 1)
                message.attempt += 1
                message.note("reclaimed")
            else:
                message.attempt += 1
                message.suspect = min(1, message.suspect)  # one that was handed back may run beside others again
            message.status, message.receipt, message.payload = "I", receipt, None
            message.since = self.now + self._limits.lease_ms / 1000

    def held(self, nonce: str) -> set[Receipt]:
        """What a repeat of a claim has to give."""
        ours = (one.receipt for one in self.kept.values() if one.status == "I" and one.receipt)
        return {receipt for receipt in ours if receipt.nonce == nonce}

    def complete(self, receipt: Receipt, result: Any) -> Refusal:
        message = self._of(receipt, "IC")
        if message is None:
            return LeaseLost
        if message.status == "I":
            message.told = False
            self._end(message, "C", result)
        return None

    def fail(self, receipt: Receipt, error: Any, delay: float, final: bool) -> Refusal:
        message = self._of(receipt, "IPE")
        if message is None:
            return LeaseLost
        if message.told:
            self._cancel(message, error)
        elif message.status == "I":
            message.note("failed")
            message.failed, message.suspect = message.failed + 1, 0
            self.counts["failed"] += 1
            if final or message.failed >= self._limits.max_attempts:
                self._end(message, "E", error)
            else:
                message.status, message.since, message.payload = "P", self.now + delay, error
        return None

    def release(self, receipt: Receipt) -> Refusal:
        message = self._of(receipt, "IPE")
        if message is None or (message.status == "E" and not message.cancelled):
            return LeaseLost
        if message.told:
            self._cancel(message, None)
        elif message.status == "I":
            message.note("released")
            message.status, message.since, message.payload = "P", self.now, None
            self.counts["released"] += 1
        return None

    def renew(self, receipt: Receipt, progress: Any) -> Refusal:
        message = self._of(receipt, "I")
        if message is None:
            return LeaseLost
        message.since = self.now + self._limits.lease_ms / 1000
        message.payload = message.payload if progress is None else progress
        return None

    def _of(self, receipt: Receipt, statuses: str) -> Kept | None:
        message = self.kept.get(receipt.id)
        return message if message and message.receipt == receipt and message.status in statuses else None

    def _cancel(self, message: Kept, payload: Any) -> None:
        message.status, message.since, message.suspect, message.payload = "E", self.now, 0, payload
        message.told, message.cancelled = False, True
        self.counts["cancelled"] += 1

    def _end(self, message: Kept, status: str, payload: Any) -> None:
        message.status, message.since, message.suspect, message.payload = status, self.now, 0, payload
        self.counts["completed" if status == "C" else "dead"] += 1

    # --- Time ---

    def lapse(self, id: bytes) -> None:
        """Let a lease lapse."""
        self.kept[id].since = self.now - 1

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and forget what is due."""
        self.now += seconds
        keep = {"C": self._limits.retention_ms / 1000, "E": self._limits.dead_ms / 1000}
        for id, one in list(self.kept.items()):
            if one.status in keep and one.since + keep["C" if one.cancelled else one.status] <= self.now:
                del self.kept[id]
                self.tombstones[id] = (one.body, one.since)
        window = self._limits.window_ms / 1000
        self.tombstones = {id: one for id, one in self.tombstones.items() if one[1] + window > self.now}
