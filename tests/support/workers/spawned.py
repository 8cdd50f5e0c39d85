"""Workers for the delivery tests: many in processes that die, and some in a thread of the test."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redisq import Settings, Worker
from tests.support.servers.proxy import until

HERE = Path(__file__).parent
PATIENCE = 120.0


@dataclass(frozen=True)
class Event:
    """Something that a handler logged: `start`, `kill` or `end`; `at` is in seconds since 1970."""

    kind: str
    id: str
    attempt: int
    pid: int
    at: float


def environment_of(settings: Settings, **extra: str) -> dict[str, str]:
    """What a process finds in its environment that works with these settings."""
    assert settings.app_id is not None
    assert settings.app_secret is not None
    given = settings.model_dump(include=settings.model_fields_set - {"app_secret"})
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")},
        **{f"REDISQ_{name.upper()}": str(value) for name, value in given.items()},
        "REDISQ_APP_SECRET": settings.app_secret.get_secret_value(),
        "PYTHONPATH": str(HERE.parents[2]),
        **extra,
    }


class Nursery:
    """Worker processes of one application on the queue `tasks`, forked from one; see `spawner.py`."""

    def __init__(self, settings: Settings, log: Path, concurrency: int, **extra: str) -> None:
        self.log = log
        self.codes: dict[int, int] = {}
        self._began: queue.SimpleQueue[int] = queue.SimpleQueue()
        nursery = {"NURSERY_LOG": str(log), "NURSERY_CONCURRENCY": str(concurrency)}
        environment = environment_of(settings, **nursery, **extra)
        command = [sys.executable, str(HERE / "spawner.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, bufsize=0, **pipes)  # type: ignore[call-overload]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            word, pid, *code = line.split()
            if word == b"began":
                self._began.put(int(pid))
            else:
                self.codes[int(pid)] = int(code[0])

    def start(self) -> int:
        """Start a worker and give its process id."""
        self._process.stdin.write(b"start\n")
        return self._began.get(timeout=PATIENCE)

    def end(self, pid: int, number: int) -> int:
        """Send a worker a signal, wait until it has ended, and give its exit code."""
        os.kill(pid, number)
        until(lambda: pid in self.codes, PATIENCE)
        return self.codes[pid]

    def close(self) -> None:
        """Kill whoever is left."""
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    # --- What was logged ---

    def events(self) -> list[Event]:
        """All that handlers logged, in order."""
        if not self.log.exists():
            return []
        lines = (line.split() for line in self.log.read_text().splitlines())
        return [Event(kind, id, int(attempt), int(pid), float(at)) for kind, id, attempt, pid, at in lines]

    def count(self, kind: str) -> Counter[str]:
        """How often each id had an event of that kind."""
        return Counter(event.id for event in self.events() if event.kind == kind)

    def starts(self) -> dict[str, list[Event]]:
        """The starts of each message, in order."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.events():
            if event.kind == "start":
                found[event.id].append(event)
        return found

    def warnings(self) -> str:
        """What the workers warned of."""
        path = Path(f"{self.log}.warnings")
        return path.read_text() if path.exists() else ""


@contextmanager
def working(*workers: Worker) -> Iterator[None]:
    """Run workers on a loop in a thread; at the end stop them, and check that each ended well."""
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    codes: list[Any] = []

    async def main() -> None:
        runs = [asyncio.create_task(worker.run_async()) for worker in workers]
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await stop.wait()
        for worker in workers:
            worker.stop()
        codes.extend(await asyncio.gather(*runs, return_exceptions=True))

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    until(lambda: loops)
    try:
        yield
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the workers do not end"
    assert codes == [0] * len(workers)
