"""What `redisq dev` shows: lines of text as they come, and how Redis, queues and worker processes are doing."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from redisq.cli.output import printable
from redisq.model.queue import QueueStats

_KEPT_LINES = 1000
_SHARED_LINES = 200
_KEPT_ERRORS = 3
_LONGEST_LINE = 2000  # characters
_TROUBLE = ("WARNING", "ERROR", "CRITICAL")
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ([A-Z]+) [\w.]+\[\d+\] (.*)")  # see redisq.cli.logs


@dataclass(frozen=True, slots=True)
class Line:
    """One line that `source` said. `level` is that of a log record, "" of any other text; `time` of day."""

    number: int
    time: str
    source: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Process:
    """One worker process, or the place of one that is about to be started again."""

    name: str
    state: str
    pid: int | None
    starts: int


@dataclass(frozen=True, slots=True)
class Queue:
    """What a queue holds, its totals, and how many messages complete per second."""

    name: str
    ready: int
    scheduled: int
    in_progress: int
    done: int
    failed: int
    dead: int
    rate: float

    @classmethod
    def of(cls, stats: QueueStats, rate: float) -> Queue:
        """Take what is shown from a queue's statistics."""
        return cls(
            name=stats.queue,
            ready=stats.ready,
            scheduled=stats.scheduled,
            in_progress=stats.in_progress,
            done=stats.completed,
            failed=stats.failed,
            dead=stats.dead,
            rate=rate,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is to see at one moment. `pid` is the process of `redisq dev`, `redis` its server in words."""

    pid: int
    redis: str
    processes: Sequence[Process]
    queues: Sequence[Queue]
    lines: Sequence[Line]
    errors: Sequence[Line]

    def to_json(self) -> str:
        """Write it for another process, with the latest lines only."""
        return json.dumps({**asdict(self), "lines": [asdict(line) for line in self.lines[-_SHARED_LINES:]]})

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """Read what `to_json` wrote. Raises: ValueError, TypeError, KeyError: it is something else."""
        found = json.loads(text)
        return cls(
            pid=found["pid"],
            redis=found["redis"],
            processes=[Process(**values) for values in found["processes"]],
            queues=[Queue(**values) for values in found["queues"]],
            lines=[Line(**values) for values in found["lines"]],
            errors=[Line(**values) for values in found["errors"]],
        )


class Journal:
    """Collects lines and wakes whoever shows them. The oldest are forgotten; so are errors, later."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self.errors: deque[Line] = deque(maxlen=_KEPT_ERRORS)
        self._number = 0

    def say(self, text: str, level: str = "INFO") -> None:
        """Add a line of our own."""
        self._add(time.strftime("%H:%M:%S"), "redisq", level, text)

    def relay(self, source: str, text: str) -> None:
        """Add a line that a worker process wrote."""
        record = _LOG_LINE.fullmatch(text)
        level, said = (record[1], record[2]) if record else ("", text)
        self._add(time.strftime("%H:%M:%S"), source, level, said)

    def _add(self, at: str, source: str, level: str, text: str) -> None:
        self._number += 1
        shown = text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."
        line = Line(self._number, at, source, level, printable(shown.replace("\t", "    ").replace("\n", " ")))
        self.lines.append(line)
        if level in _TROUBLE:
            self.errors.append(line)
        self.news.set()
