"""The gate before one server: open while it answers; when it does not, one call at a time tries, ever more rarely.

Without it each thread and task of a process would knock by itself, hundreds of times a second, at a server that is gone
or just coming back. Pure: time is passed in, as seconds of a monotonic clock.
"""

from __future__ import annotations

import random
import threading

FIRST_PAUSE = 0.02  # seconds; doubles with each failure, full jitter
LONGEST_PAUSE = 1.0
_SHORTEST_LOOK = 0.005  # seconds; about what it takes to connect to a server nearby


class Leave:
    """Leave to try. It stands until a try fails. What was connected under an earlier one is not trusted any more."""

    __slots__ = ("stands",)

    def __init__(self) -> None:
        self.stands = True


class Gate:
    """Open for all until a try fails. Then each opening is for one probe alone, and an answer to it opens for all.

    The pauses between openings grow exponentially, with full jitter. A probe that takes long, in a black hole or on an
    event loop that stands still, keeps nobody from the next opening. Safe to share between threads and event loops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Leave | None = Leave()  # everybody's; None when shut
        self._probes: list[Leave] = []  # under way
        self._probed_at = 0.0
        self._opens_at = 0.0
        self._failures = 0
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the gate was shut last, in words for the user."""
        return self._reason

    def enter(self, now: float, *, probe: bool = True) -> Leave | None:
        """Give leave to try, or None: it is shut for now. Who does not `probe` enters only when it is open for all."""
        leave = self._open
        if leave is None and probe:
            with self._lock:
                leave = self._open
                if leave is None and now >= self._opens_at:
                    leave = Leave()
                    self._probes.append(leave)
                    self._probed_at, self._opens_at = now, now + LONGEST_PAUSE
        return leave

    def pause(self, now: float) -> float:
        """Return how long to wait before entering again, in seconds."""
        with self._lock:
            if self._open is not None:
                return 0.0
            left = self._opens_at - now
            if self._probes:  # one may be answered at any moment: look after about as long as it has taken so far
                left = min(left, (now - self._probed_at) * random.uniform(0.5, 1))
            return max(_SHORTEST_LOOK, left)

    def answered(self, leave: Leave) -> None:
        """Open for all, if it was a probe that the server answered."""
        if leave is self._open:
            return
        with self._lock:
            if leave in self._probes:
                for probe in self._probes:
                    probe.stands = probe is leave
                self._probes.clear()
                self._open, self._failures = leave, 0

    def lost(self, leave: Leave, now: float, reason: str, *, connected: bool) -> None:
        """Shut, or stay shut for longer: what was tried was not answered.

        Once `connected`, the server may be well and only that connection dead: then the first probe goes at once. What
        was tried before the gate was last shut or opened is no news.
        """
        with self._lock:
            if not leave.stands:
                return
            leave.stands = False
            self._reason = reason
            if leave is self._open:
                self._open = None
                if connected:
                    self._opens_at = now
                    return
            else:
                self._probes.remove(leave)
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
            self._failures += 1
            self._opens_at = now + random.uniform(0, longest)

    def let_go(self, leave: Leave) -> None:
        """Take note that a probe ended without any outcome, as when it was cancelled."""
        if leave is self._open:
            return
        with self._lock:
            if leave in self._probes:
                self._probes.remove(leave)
                leave.stands = False
