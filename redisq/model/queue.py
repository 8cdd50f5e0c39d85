"""A queue: how it stands, and its own settings. Frozen, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

MAX_BYTES_CEILING = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueStats:
    """How a queue stands now (`ready` to `paused`) and its running totals (`queued` on).

    `oldest_age` is the age in seconds of the oldest ready message, None when none is ready. `workers` have claimed
    something and have not left; one that died is forgotten an hour later. `failed`, `lost` and `released` count
    deliveries, the other totals messages.
    """

    queue: str
    ready: int = 0
    scheduled: int = 0
    in_progress: int = 0
    finished: int = 0
    dead: int = 0
    oldest_age: float | None = None
    workers: int = 0
    paused: bool = False
    queued: int = 0
    completed: int = 0
    failed: int = 0
    lost: int = 0
    released: int = 0
    died: int = 0
    unreadable: int = 0
    deleted: int = 0
    redriven: int = 0
    cancelled: int = 0

    def __add__(self, other: QueueStats) -> QueueStats:
        """Add up two partitions of one queue."""
        ages = [age for age in (self.oldest_age, other.oldest_age) if age is not None]
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("queue", "oldest_age", "paused")
        }
        paused = self.paused or other.paused
        return QueueStats(self.queue, oldest_age=max(ages, default=None), paused=paused, **sums)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Definition:
    """A queue's own settings, for all services at once; None means the default of `Settings`. Times are seconds.

    `max_length` counts waiting messages, ready and scheduled; 0 is no limit. `paused` stops claims, not queueing.
    `schema` is a JSON Schema (2020-12) that requests have to fit; None for any. Clients notice a change in 5 s.
    `check_formats` is whether its `format` is checked: by default it is, but False for a schema that a redisq stored
    which did not know this setting.
    `security` is for HTTP gateways: with "none" those whose REDISQ_HTTP_OPEN_QUEUES names the queue let anybody queue,
    get, delete and work on messages there.
    """

    max_length: int | None = None
    max_bytes: int | None = None
    max_attempts: int | None = None
    max_lost: int | None = None
    backoff_base: float | None = None
    backoff_cap: float | None = None
    lease: float | None = None
    retention: float | None = None
    dead_retention: float | None = None
    dedup_window: float | None = None
    paused: bool | None = None
    security: str | None = None
    schema: dict[str, Any] | None = None
    check_formats: bool | None = None

    SECONDS = frozenset({"backoff_base", "backoff_cap", "lease", "retention", "dead_retention", "dedup_window"})


class Changes(TypedDict, total=False):
    """Settings of a queue to change, by the names of `Definition`; None goes back to the default."""

    max_length: int | None
    max_bytes: int | None
    max_attempts: int | None
    max_lost: int | None
    backoff_base: float | None
    backoff_cap: float | None
    lease: float | None
    retention: float | None
    dead_retention: float | None
    dedup_window: float | None
    paused: bool | None
    security: Literal["token", "none"] | None
    schema: dict[str, Any] | None
    check_formats: bool | None


def stored_number(text: str) -> int | None:
    """Read a number as scripts do: whole, of 15 digits at most; what another program wrote otherwise counts as none."""
    return int(text) if len(text) <= 15 and text.isascii() and text.isdecimal() else None
