"""What a process knows of each Redis server it talks to: its circuit breaker, whether it is fit, what it permits.

Shared by all links to one URL, however many clients there are. Pure, but for the log.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator

from redisq.errors import Unavailable
from redisq.link.circuit import Circuit
from redisq.link.faults import NEEDED
from redisq.runtime import logs

log = logs.logger("redisq.server")

_ASK_AGAIN = 1.0  # seconds after which whoever asked has probably got no answer
_VERSION = re.compile(r"^(valkey|redis)_version:((\d+)\.(\d+)\S*)", re.MULTILINE)


def check_version(info: str, server: str) -> None:
    """Read what INFO tells; a server that tells no version passes.

    Raises:
        Unavailable: the server is older than redisq needs. Most would work there; leftovers would never be forgotten.
    """
    version = _VERSION.search(info)
    if version and (int(version[3]), int(version[4])) < (6, 2):
        raise Unavailable(f"Redis at {server} is of version {version[2]}, and {NEEDED}.")


def risks(info: str, server: str) -> Iterator[str]:
    """Read what INFO tells, and say in which ways this server may lose messages. What it does not tell is no risk.

    A policy counts also while there is no maxmemory, which may be set at any time.
    """
    told = dict(line.partition(":")[::2] for line in info.splitlines())
    policy = told.get("maxmemory_policy", "")
    if policy.startswith("volatile-"):
        yield (
            f"Redis at {server} is set up as a cache: its maxmemory-policy is {policy}, which evicts keys that expire. "
            "redisq's do not, but what shares the server does. Set maxmemory-policy to noeviction in its configuration."
        )
    if policy.startswith("allkeys-"):
        yield (
            f"Redis at {server} may evict messages when its memory is full: its maxmemory-policy is {policy}. "
            "Set maxmemory-policy to noeviction in its configuration."
        )
    if told.get("aof_enabled") == "0":
        yield (
            f"Redis at {server} may lose messages when it restarts: it keeps no append-only file. "
            "Set appendonly to yes in its configuration."
        )


class Server:
    """One server, as its URL names it. `name` is for texts and holds no password."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.circuit = Circuit()
        self.permitted: set[bytes] = set()  # scripts, by their SHA-1, against whose commands it had no objection
        self._lock = threading.Lock()
        self._sound = False  # asked, and nothing to object
        self._warned = False  # asked, and told of the risks
        self._ask_again_at = 0.0

    def is_known(self, strict: bool) -> bool:
        """Return whether it was asked for INFO, and told all that counts."""
        return self._sound or (self._warned and not strict)

    def to_be_asked(self, strict: bool, clock: Callable[[], float]) -> bool:
        """Return whether the caller has to ask for INFO before its call.

        One asks, and others need not wait for the answer; but no strict one goes on without it.
        """
        if self.is_known(strict):
            return False
        if not strict:
            now = clock()
            if now < self._ask_again_at:
                return False
            self._ask_again_at = now + _ASK_AGAIN
        return True

    def judge(self, info: str | None, strict: bool) -> None:
        """Take what INFO told, None when the server does not tell. Risks are logged, once.

        Raises:
            Unavailable: it is too old; or there are risks, and `strict` takes none.
        """
        if info is None:
            log.debug("Redis at %s does not tell its configuration (INFO): not checked", self.name)
            self._sound = True
            return
        check_version(info, self.name)
        found = list(risks(info, self.name))
        if strict and found:
            raise Unavailable(f"{' '.join(found)} REDISQ_STRICT refuses such a server.")
        with self._lock:
            news, self._warned = not self._warned, True
        self._sound = not found
        for risk in found if news else ():
            log.warning(risk)


_known: dict[str, Server] = {}  # by URL; a process names few


def known(url: str, name: str) -> Server:
    """Return the server at a URL, the same one at each call."""
    return _known.get(url) or _known.setdefault(url, Server(name))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_known.clear)  # a child starts afresh, without locks that other threads held
