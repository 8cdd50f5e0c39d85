"""Processes for the system tests: workers that are started, watched and always ended by their own process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from redisq import RedisQ, Settings, embedded
from tests.conftest import REAL, SERVERS, settings_for, started

if TYPE_CHECKING:
    from tests.support.shell import Shell

HERE = Path(__file__).parent
PATIENCE = 60.0


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll until `condition()` is true, and return its value; fail with `what` after `patience` seconds."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"gave up waiting for: {what}"
        time.sleep(0.02)
    return value


class Crew:
    """Worker processes on one server and namespace, and what their handlers logged."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.log = log
        self.processes: list[subprocess.Popen[bytes]] = []

    def environment(self, **extra: str) -> dict[str, str]:
        settings = self.settings
        assert settings.app_id is not None
        assert settings.app_secret is not None
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")},
            "PYTHONPATH": str(HERE.parent.parent),
            "REDISQ_URL": settings.url,
            "REDISQ_NAMESPACE": settings.namespace,
            "REDISQ_APP_ID": settings.app_id,
            "REDISQ_APP_SECRET": settings.app_secret.get_secret_value(),
            "REDISQ_LEASE": str(settings.lease),
            "REDISQ_GRACE": str(settings.grace),
            "REDISQ_BACKOFF_BASE": str(settings.backoff_base),
            "CREW_LOG": str(self.log),
            **extra,
        }

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start a worker process; its log goes to this test's output."""
        command = [sys.executable, str(HERE.parent / "support" / "workers" / "logging_worker.py"), *arguments]
        process = subprocess.Popen(command, env=self.environment(**extra), stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def events(self) -> list[tuple[str, str, int, int]]:
        """What the handlers logged: event, id, attempt, process id."""
        if not self.log.exists():
            return []
        whole, _, _ = self.log.read_text().rpartition("\n")  # of a line that is being written a part may be there
        lines = (line.split() for line in whole.splitlines())
        return [(event, id, int(attempt), int(pid)) for event, id, attempt, pid in lines]

    def count(self, event: str) -> Counter[str]:
        """How often each id had `event`."""
        return Counter(id for found, id, _, _ in self.events() if found == event)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def system_server(running: dict[str, embedded.EmbeddedServer]) -> embedded.EmbeddedServer:
    """One real server (fakeredis where there is none): what processes do does not depend on the server's version."""
    return started(running, REAL or SERVERS[0])


@pytest.fixture
def make_crew(system_server: embedded.EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    """Make a crew on the system server; keywords are settings."""
    if REAL is None:
        pytest.skip("no real Redis here, and fakeredis is too slow for twenty workers")
    made: list[Crew] = []

    def make(**values: Any) -> Crew:
        values = {"lease": 30, "grace": 10, "backoff_base": 0.05, **values}
        made.append(Crew(settings_for(system_server.url, namespace, **values), tmp_path / f"crew{len(made)}.log"))
        return made[-1]

    yield make
    for crew in made:
        crew.end()


@pytest.fixture
def crew(make_crew: Callable[..., Crew]) -> Crew:
    """A crew with ordinary settings."""
    return make_crew()


@pytest.fixture
def shell(system_server: embedded.EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Shell]:
    """The command line, in a folder that holds a worker for the queues `orders` and `slow`."""
    from tests.support.shell import SHOP, Shell  # which needs what is above

    (tmp_path / "loaded").mkdir()
    (tmp_path / "shop.py").write_text(SHOP)
    shell = Shell(system_server.url, namespace, tmp_path)
    yield shell
    shell.end()


@pytest.fixture
def producer(system_server: embedded.EmbeddedServer, namespace: str) -> Iterator[RedisQ]:
    """A client in the crew's namespace."""
    with RedisQ(settings=settings_for(system_server.url, namespace)) as client:
        yield client
