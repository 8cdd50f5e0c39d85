"""A Redis of our own, and what it tells of its work."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis

from redisq import embedded

_PATIENCE = 10.0  # seconds for clients that have ended to be gone


@dataclass(frozen=True)
class Totals:
    """What a server has done so far. Times are seconds; `scripts` is its time within scripts.

    `commands` counts those that scripts run, too, as INFO does.
    """

    commands: int
    cpu: float
    scripts: float
    to_server: int
    from_server: int

    def __sub__(self, earlier: Totals) -> Totals:
        """Give what was done between two looks."""
        return Totals(
            self.commands - earlier.commands,
            self.cpu - earlier.cpu,
            self.scripts - earlier.scripts,
            self.to_server - earlier.to_server,
            self.from_server - earlier.from_server,
        )


class Server:
    """A running server that nobody else uses; it may be emptied."""

    def __init__(self, server: embedded.EmbeddedServer) -> None:
        self.url = server.url
        self.name = f"{server.kind} {server.version}"
        self.redis = redis.Redis.from_url(server.url, protocol=2)
        self._looks = 0  # at commands

    def info(self, *sections: str) -> dict[str, Any]:
        """Ask for sections of INFO."""
        return {name: value for section in sections for name, value in self.redis.info(section).items()}

    def totals(self) -> Totals:
        """Look at what was done so far."""
        told = self.info("stats", "cpu")
        return Totals(
            told["total_commands_processed"],
            told["used_cpu_user"] + told["used_cpu_sys"],
            self.script_seconds(),
            told["total_net_input_bytes"],
            told["total_net_output_bytes"],
        )

    def script_seconds(self) -> float:
        """Give the time spent within scripts so far, with the commands that they ran."""
        told = self.info("commandstats")
        return float(sum(told.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("eval", "evalsha")) / 1e6)

    def commands(self) -> int:
        """Give the number of commands so far, those within scripts and not our own ones here."""
        self._looks += 1
        return int(self.info("stats")["total_commands_processed"]) - self._looks

    def calls(self) -> int:
        """Give the number of scripts that clients ran so far: round trips, however many commands each runs."""
        told = self.info("commandstats")
        self._looks += 1
        return int(sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha")))

    def memory(self) -> int:
        """Give the bytes of what is stored: `used_memory` less cached scripts, once no other client is connected.

        This is on a new connection, whose buffers are the same each time, so they drop out of a difference.
        """
        self.redis.close()
        self.wait_until_alone()
        told = self.info("memory")
        return int(told["used_memory"] - told["used_memory_scripts"])

    def wait_until_alone(self) -> None:
        """Return once all other clients are gone."""
        end = time.monotonic() + _PATIENCE
        while self.info("clients")["connected_clients"] > 1:
            if time.monotonic() > end:
                raise TimeoutError("clients that have ended are still connected")
            time.sleep(0.01)

    @contextmanager
    def appending(self, policy: str) -> Iterator[None]:
        """Have it append each write to a file meanwhile, which it brings to the disk by this `appendfsync`."""
        self.redis.config_set("appendfsync", policy)
        self.redis.config_set("appendonly", "yes")
        while self.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        try:
            yield
        finally:
            self.redis.config_set("appendonly", "no")

    @contextmanager
    def crowded(self, number: int) -> Iterator[None]:
        """Have so many idle connections open meanwhile."""
        address = urlsplit(self.url)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, number + 1_000)), hard))
        with ExitStack() as stack:
            for _ in range(number):
                stack.enter_context(socket.create_connection((address.hostname, address.port)))
            yield

    def empty(self) -> None:
        """Remove everything, and wait until its memory is free."""
        self.redis.flushall(asynchronous=False)


@contextmanager
def running(binary: str | None) -> Iterator[Server]:
    """Start a server, by default the first real one that is found here; it keeps nothing on disk. End it in the end.

    Raises:
        Unavailable: there is none.
    """
    if binary is None:
        found = [candidate for candidate in embedded.candidates() if candidate.binary]
        if not found:
            raise SystemExit("no Redis here: name one with --server")
        binary = str(found[0].binary)
    with embedded.start(binary=binary, tcp=True, options={"appendonly": "no"}) as started:
        server = Server(started)
        with suppress(redis.ResponseError):  # from 7.0 on each command's first use takes 30 KB for its histogram
            server.redis.config_set("latency-tracking", "no")
        try:
            yield server
        finally:
            server.redis.close()
