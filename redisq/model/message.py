"""A message, as it stood when it was looked up. Frozen, without I/O."""

from __future__ import annotations

import base64
from collections.abc import Mapping
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
    worker took it over), `released` (a worker that stopped handed it back), `deferred` (its handler put it off),
    `expired`, `cancelled` (somebody asked for it), or `redriven` (from the dead-letter list). `attempt` counts
    deliveries. `by` is the worker, or the application that asked for it. `count` is how many in a row it stands for,
    itself the last: those deferred are one. `error` is a dict of `type` and `message`, cut to 300 characters, of an
    attempt that failed, else None.
    """

    event: str
    attempt: int
    at: datetime
    by: str
    count: int = 1
    error: dict[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it stood when it was looked up.

    `request` is what was queued, `result` what the handler returned. `error` is None or a dict of `type`, `message` and
    `reason`: why the message ended as ERROR, or why its last attempt failed while it waits for the next; with the
    `traceback` of what its handler raised, if there is one. `progress` is
    what the handler last reported while it runs. `history` holds what was out of the ordinary, oldest first, the last
    20; it is empty for a message that simply completes. `priority` is 0 to 9, the larger first; `headers` are texts
    that were queued beside the request. Times are aware and in UTC, by the Redis server's clock.
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
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    history: tuple[Transition, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the message has ended, as COMPLETE or ERROR."""
        return self.status in (Status.COMPLETE, Status.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values: times in ISO 8601, bytes in base64."""
        return {field.name: json_ready(getattr(self, field.name)) for field in fields(self)}


def json_ready(value: Any) -> Any:
    """Return a value of a message as JSON has it: times in ISO 8601, bytes in base64."""
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
