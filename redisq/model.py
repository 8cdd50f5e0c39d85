"""The values redisq gives and takes: messages, deliveries' raw form, statistics, definitions. Frozen, without I/O."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a message is in its life. A message that waits for a retry is PENDING, one that is dead is ERROR."""

    PENDING = "PENDING"
    INPROGRESS = "INPROGRESS"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Transition:
    """Something out of the ordinary in a message's life.

    `event` is `failed`, `rejected` or `unreadable` (its attempt ended so), `lost` (its lease lapsed), `reclaimed` (a
    worker took it over), `released` (a worker that stopped handed it back), `expired`, or `redriven` (from the
    dead-letter list). `attempt` counts deliveries. `by` is the worker, or the application that asked for it.
    """

    event: str
    attempt: int
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it stood when it was looked up.

    `request` is what was queued, `result` what the handler returned. `error` is None or a dict of `type`, `message` and
    `reason`: why the message ended as ERROR, or why its last attempt failed while it waits for the next. `progress` is
    what the handler last reported while it runs. `history` holds what was out of the ordinary, oldest first, the last
    20; it is empty for a message that simply completes. `priority` is 0 to 9, the larger first. Times are aware and in
    UTC, by the Redis server's clock.
    """

    id: str
    queue: str
    status: Status
    request: Any
    result: Any = None
    error: dict[str, str] | None = None
    attempts: int = 0
    progress: Any = None
    queued_at: datetime | None = None
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0
    history: tuple[Transition, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the message has ended, as COMPLETE or ERROR."""
        return self.status in (Status.COMPLETE, Status.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-ready values: times in ISO 8601, bytes in base64."""
        return {field.name: json_ready(getattr(self, field.name)) for field in fields(self)}


def json_ready(value: Any) -> Any:
    """Give a value of a message as JSON has it: times in ISO 8601, bytes in base64."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Transition():
            return {field.name: json_ready(getattr(value, field.name)) for field in fields(value)}
        case Mapping():
            return {str(key): json_ready(item) for key, item in value.items()}
        case str():
            return str(value)
        case list() | tuple():
            return [json_ready(item) for item in value]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a delivery: the message's 16-byte id, the attempt, and the nonce of the claim."""

    id: bytes
    attempt: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """One delivery as the claim gave it; `body` is the encoded request."""

    receipt: Receipt
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave. `lease` and `wait` are seconds; `wait` is None when nothing is due, 0 to claim again.

    The first `suspects` deliveries are of messages that may have taken their last worker down; an `isolated` one may
    share its worker with no other suspect. See `redisq.worker.suspects`. `time` is the server's, in seconds since 1970.
    A repeat may give a part of what the claim gave: then `rest` are still to come.
    """

    deliveries: Sequence[Claimed]
    lease: float
    wait: float | None
    suspects: int = 0
    isolated: bool = False
    time: float = 0.0
    rest: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How a delivery failed: its encoded error and what shall follow.

    `cause` is `failed` or `rejected`. `delay` is in seconds; None takes the queue's backoff. `final` allows no retry.
    """

    receipt: Receipt
    error: bytes
    cause: str = "failed"
    delay: float | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """What the registry of applications holds, name -> record, and the word that changes whenever it does."""

    generation: bytes
    records: Mapping[str, bytes]


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
        """Give the fields as JSON-ready values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `doctor` found: `count` times in one queue, or of the server when `queue` is None.

    `severity` is `error` (an invariant is broken), `warning` (something needs attention) or `note`; `code` is its
    stable word. `examples` are a few ids or names, `meaning` and `remedy` sentences for people. `fixable` says whether
    `fix` mends it, `fixed` how many it has mended.
    """

    severity: str
    code: str
    queue: str | None
    count: int
    examples: tuple[str, ...]
    meaning: str
    remedy: str
    fixable: bool = False
    fixed: int = 0

    @property
    def remains(self) -> bool:
        """Whether some of it is not mended."""
        return self.fixed < self.count

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-ready values."""
        return {field.name: json_ready(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Survey:
    """How a queue is as a whole: the types of its keys by name, and when each is right the rest.

    `held` counts bodies, `recorded` records and tombstones. In seconds: how far the newest entry is `ahead` of the
    server's clock; how long ago the first lease `lapsed`, the first scheduled message was `due`, the first `leftover`
    could have been swept. `forgotten` counts last claims that could have been, too. `config` is the definition as it is
    stored.
    """

    types: Mapping[str, str]
    sound: bool
    held: int = 0
    recorded: int = 0
    rings: int = 0
    ahead: float = 0.0
    lapsed: float = 0.0
    due: float = 0.0
    leftover: float = 0.0
    forgotten: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What a page of one of a queue's structures tells of where messages are: see `look.lua`.

    `cursor` is where the next begins, b"0" after the last. `doubtful` are ids; `tombstones` are ids with their times.
    """

    cursor: bytes
    places: Sequence[bytes]
    doubtful: Sequence[bytes]
    tombstones: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How many of the messages in doubt were `judged`, and the `problems`: 16-byte id, word, whether it was mended."""

    judged: int
    problems: Sequence[tuple[bytes, str, bool]]


@dataclass(frozen=True, slots=True)
class Definition:
    """A queue's own settings, for all services at once; None means the default of `Settings`. Times are seconds.

    `max_length` counts waiting messages, ready and scheduled; 0 is no limit. `paused` stops claims, not queueing.
    `schema` is a JSON Schema (2020-12) that requests have to fit; None is none. Clients notice a change in 5 s.
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


MAX_BYTES_CEILING = 64 * 1024 * 1024


def stored_number(text: str) -> int | None:
    """Read a number as scripts do: whole, of 15 digits at most; what another program wrote otherwise counts as none."""
    return int(text) if len(text) <= 15 and text.isascii() and text.isdecimal() else None
