"""What lists of messages hold: dead letters, and the messages of each state. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from redisq.model.message import Message

#: what can be listed, by the names of `QueueStats`
Which: TypeAlias = Literal["ready", "scheduled", "in_progress", "dead", "finished"]
#: why a message is dead
Reason: TypeAlias = Literal["failed", "lost", "expired", "unreadable", "rejected"]


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Which dead letters to list: from when (milliseconds since 1970), how many to pass over, ages in seconds."""

    start: int = 0
    skip: int = 0
    min_age: float = 0.0
    max_age: float | None = None
    limit: int = 100
    bodies: bool = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry of the list: 16-byte id, when it died (milliseconds), why, and the message; None for a damaged one.

    `size` is what its body takes, in bytes, when bodies were asked for.
    """

    id: bytes
    died: int
    reason: str
    message: Message | None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A message in a list. `at` is when it was queued, is due, lapses, died or finished, by the list it is in.

    `size` is the request's in bytes, about; `legible` says whether `request` holds it: one too large for a list, or
    damaged, is left out. `attempts` is None when its record is, too. `worker` holds it since `started_at`.
    """

    id: str
    at: datetime
    size: int
    legible: bool = False
    request: Any = None
    attempts: int | None = None
    error: dict[str, str] | None = None
    worker: str | None = None
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages of a list, and where it goes on: `cursor=` of the next page, None after the last."""

    messages: Sequence[Listed]
    next: str | None = None
