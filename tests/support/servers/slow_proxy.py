"""A proxy that makes Redis as slow as a test likes, and tells how many messages each request brought."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from redisq.store import scripts
from tests.support.servers.proxy import Proxy, script

_BEGINNING = re.compile(rb"\*(\d+)\r\n\$7\r\nEVALSHA\r\n")
#: How many arguments come before the messages, and how many there are for each; see the scripts' headers.
ARGUMENTS = {"register": (0, 2), "queue": (5, 3), "get": (0, 1), "delete": (5, 1), "complete": (4, 4), "fail": (6, 7)}


class Dam(Proxy):
    """Keeps requests of some scripts from the server until they are let go."""

    def __post_init__(self) -> None:
        self._gates: list[threading.Event] = []
        self._held: dict[str, int] = {}
        super().__post_init__()

    def hold(self, name: str) -> Callable[..., None]:
        """Hold back every request of the script `name` from now on; give what lets them go, or the first half of each.

        What is cut in half ends with its connection.
        """
        gate, cuts = threading.Event(), list[bool]()
        self._gates.append(gate)

        def act(pipe: Any, request: bytes) -> bytes:
            if gate.is_set():
                return request
            self._count_held(name, 1)
            gate.wait()
            self._count_held(name, -1)
            if cuts == [True]:
                pipe.server.sendall(request[: len(request) // 2])
                pipe.close()
            return request

        self._add(act, script(name), 1_000_000, 0)

        def let_go(cut: bool = False) -> None:
            cuts.append(cut)
            gate.set()

        return let_go

    def _count_held(self, name: str, change: int) -> None:
        with self._lock:
            self._held[name] = self._held.get(name, 0) + change

    def held(self, name: str) -> int:
        """How many requests of a script are held back now."""
        with self._lock:
            return self._held.get(name, 0)

    def sizes(self, name: str) -> list[int]:
        """How many messages each request of a script brought, in order."""
        head, size = ARGUMENTS[name]
        other = 3 + len(scripts.load(name).keys) + head  # the command, the script, the number of keys
        with self._lock:
            found = [_BEGINNING.match(request) for request in self._requests if script(name) in request[:100]]
        return [(int(match[1]) - other) // size for match in found if match]

    def close(self) -> None:
        """Let all go, and hang up on everybody."""
        for gate in self._gates:
            gate.set()
        super().close()
