"""The time of an in-memory queue, which nothing but a test moves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from redisq.errors import InvalidArgument
from redisq.operations import options


class Clock:
    """A clock that stands still until it is advanced. It begins with the time of day; `ms` is since 1970.

    `spans` are what a test has advanced it by, from when to when: the ticks of schedules lie in these.
    """

    def __init__(self) -> None:
        self.ms = time.time_ns() // 1_000_000
        self.spans: list[tuple[datetime, datetime]] = []

    @property
    def now(self) -> datetime:
        """The time, aware and in UTC."""
        return datetime.fromtimestamp(self.ms // 1000, UTC) + timedelta(milliseconds=self.ms % 1000)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, a year at most.

        Raises:
            InvalidArgument: it takes a number of seconds, more than 0.
        """
        if not options.seconds_of("advance()", seconds):
            raise InvalidArgument("advance() takes seconds, more than 0")
        began = self.now
        self.ms += max(1, round(seconds * 1000))
        self.spans.append((began, self.now))

    def pull(self, ms: int) -> None:
        """Go forward to a time, without any tick on the way."""
        self.ms = max(self.ms, ms)
