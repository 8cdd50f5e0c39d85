"""A Redis of a test's own, to be killed, stopped, filled, and started again on its data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import redis

from redisq import embedded
from tests.support.servers import append_only


def binary_of(name: str) -> str:
    """Find the program that a parameter of `tests.conftest.REAL_SERVERS` names: a path, or a kind."""
    if os.sep in name:
        return name
    return next(str(candidate.binary) for candidate in embedded.candidates() if candidate.kind == name)


class OwnServer:
    """A Redis on a unix socket in `folder`, which holds its data. `options` are those of redis.conf.

    When it cut its append-only file at a start, the file is written anew at once, as its operator has to; `mended`
    counts how often. `append_only.mend` says why.
    """

    def __init__(self, binary: str, folder: Path, **options: str) -> None:
        self.binary = binary
        self.folder = folder
        self.options = options
        self.url = f"unix://{folder / 's'}"
        self.admin = redis.Redis.from_url(self.url, protocol=2)
        self.mended = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it has loaded its data, and its file is sound."""
        settings = {"port": "0", "unixsocket": str(self.folder / "s"), "dir": str(self.folder), "save": ""}
        settings |= {name.replace("_", "-"): value for name, value in self.options.items()}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            said = log.tell()
            self._process = subprocess.Popen(
                [self.binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self._process.poll() is None, f"Redis has ended: {(self.folder / 'log').read_text()[-500:]}"
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.005)
        self.mended += append_only.mend(self.url, self.folder / "log", said)

    def rewrite(self) -> None:
        """Have it write its append-only file anew, and return when it has."""
        append_only.rewrite(self.url)

    def answers(self) -> bool:
        """Tell whether it serves commands."""
        with contextlib.suppress(redis.RedisError):
            return bool(self.admin.ping())
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.admin.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def commands(self) -> int:
        """Count the commands that clients sent so far; those that scripts sent are counted apart."""
        sent = ("evalsha", "eval", "blpop", "hello", "client", "client|setname", "client|setinfo", "select")
        stats = self.admin.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in sent)
