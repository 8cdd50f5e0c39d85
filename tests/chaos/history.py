"""What happened, as every process wrote it down: append-only files, one per process, one line per event.

    <time> <event> <id> <attempt> <digest> <detail>

`time` is in nanoseconds of the monotonic clock, which all processes of a machine share. A line is in the file as soon
as it is noted, so that a SIGKILL loses none. The file's name is the process: `worker-1.4711.log`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

#: What the checker holds in memory at once, of the files; lines take about eight times as much as Python objects.
SHARE_BYTES = 16 * 1024 * 1024
_MOST_SHARES = 256  # files open at once


class Event(NamedTuple):
    """One line. `process` is the name of its file: a slot and a process id."""

    time: int
    what: str
    id: str
    attempt: int
    digest: str
    detail: str
    process: str


class Log:
    """The file of this process. Safe to share between threads."""

    def __init__(self, folder: Path, slot: str) -> None:
        self.process = f"{slot}.{os.getpid()}"
        self._file = os.open(
            folder / f"{self.process}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )

    def note(self, what: str, id: str, attempt: int = 0, digest: str = "-", detail: object = "-") -> int:
        """Write one event and give its time."""
        now = time.monotonic_ns()
        os.write(self._file, f"{now} {what} {id} {attempt} {digest} {detail}\n".encode())
        return now

    def note_all(self, what: str, items: Iterable[tuple[str, str, object]]) -> None:
        """Write one event per (id, digest, detail), all at the same time."""
        now = time.monotonic_ns()
        os.write(
            self._file, b"".join(f"{now} {what} {id} 0 {digest} {detail}\n".encode() for id, digest, detail in items)
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def files(folder: Path, slot: str = "*") -> list[Path]:
    """List the files of one slot, or of all."""
    return sorted(folder.glob(f"{slot}.*.log"))


def events(path: Path) -> Iterator[Event]:
    """Read one process' events; a last line that was cut off is none."""
    process = path.name.removesuffix(".log")
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield _event(line, process)


def by_message(folder: Path, share_bytes: int = SHARE_BYTES) -> Iterator[tuple[str, list[Event]]]:
    """Give each message's events in order of time. Holds a bounded share of the messages in memory at once."""
    sources = files(folder)
    shares = min(_MOST_SHARES, 1 + sum(path.stat().st_size for path in sources) // share_bytes)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        parts = [open(f"{scratch}/{share}", "w+", encoding="utf-8") for share in range(shares)]  # noqa: SIM115
        try:
            for source in sources:
                _deal(source, parts)
            for part in parts:
                part.seek(0)
                yield from _grouped(part)
        finally:
            for part in parts:
                part.close()


def _deal(source: Path, parts: list[IO[str]]) -> None:
    process = source.name.removesuffix(".log")
    with source.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                id = line.split(" ", 3)[2]
                parts[int(id[:8], 16) % len(parts)].write(f"{process} {line}")


def _grouped(part: Iterable[str]) -> Iterator[tuple[str, list[Event]]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for line in part:
        process, _, rest = line.partition(" ")
        event = _event(rest, process)
        found[event.id].append(event)
    for id, own in found.items():
        own.sort(key=lambda event: event.time)
        yield id, own


def _event(line: str, process: str) -> Event:
    when, what, id, attempt, digest, detail = line.rstrip("\n").split(" ", 5)
    return Event(int(when), what, id, int(attempt), digest, detail, process)
