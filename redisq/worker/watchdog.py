"""Whether a worker still gets at messages. One that does not had better end, so that its supervisor starts another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from redisq.claims.identity import about
from redisq.runtime import logs, process
from redisq.worker.ending import Ending

log = logs.logger("redisq.worker")

_LOOK_EVERY = 1.0  # seconds


class Fetches:
    """When one queue was last asked for messages. A worker whose slots are all taken asks for none, and is well."""

    def __init__(self) -> None:
        self._asked_at: float | None = time.monotonic()

    def succeeded(self, rest: float = 0.0) -> None:
        """Redis has answered a claim, or a slot is free again; the next claim is due in `rest` seconds."""
        self._asked_at = time.monotonic() + rest

    def not_wanted(self) -> None:
        """No slot is free, or the worker stops."""
        self._asked_at = None

    def stale_for(self) -> float:
        """Return the seconds since the last answer, 0 while none is wanted. From any thread."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else max(0.0, time.monotonic() - asked_at)


class Watchdog(threading.Thread):
    """Looks after the fetches of a worker, in a thread of its own: a handler may be blocking the loop.

    After `stale_after` seconds it calls `on_stale` once, which asks the loop to end the worker. With `kill_after`, a
    loop that has still not done so that many seconds later is ended with its process; and so is one that has not ended
    the worker so long after a signal, of which `ending` tells.
    """

    def __init__(
        self,
        worker: str,
        fetches: list[Fetches],
        stale_after: float,
        on_stale: Callable[[float], None],
        kill_after: float | None,
        ending: Ending | None = None,
    ) -> None:
        super().__init__(name="redisq-watchdog", daemon=True)
        self._worker = worker
        self._fetches = fetches
        self._stale_after = stale_after
        self._on_stale = on_stale
        self._kill_after = kill_after
        self._ending = ending
        self._ended = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def run(self) -> None:
        """Look until stopped."""
        told = False
        while not self._ended.wait(min(_LOOK_EVERY, self._stale_after / 2)):
            stale = max((fetch.stale_for() for fetch in self._fetches), default=0.0)
            if stale > self._stale_after and not told:
                told = True
                self._on_stale(stale)
            if self._kill_after is not None and stale > self._stale_after + self._kill_after:
                text = "a handler keeps the event loop, and no message was fetched for %.0f s: the process is ended"
                log.critical(text, stale, extra=about(self._worker))
                process.end(1)
            self._check_ending()

    def _check_ending(self) -> None:
        ending = self._ending
        if self._kill_after is None or ending is None or ending.signalled_at is None:
            return
        held_for = time.monotonic() - ending.signalled_at
        if held_for > self._kill_after:
            text = "a handler keeps the event loop, %.0f s after a signal to stop: the process is ended"
            log.critical(text, held_for, extra=about(self._worker))
            process.end(ending.exit_code)
