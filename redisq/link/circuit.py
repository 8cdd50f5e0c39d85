"""A circuit breaker before one server: who may try, while it answers and while it does not.

    CLOSED  all may try      --a try is lost-->  OPEN, until a pause has passed
    OPEN    nobody may       --pause over----->  HALF OPEN: one probe, and the next after a longer pause
    HALF OPEN                --answered------->  CLOSED
                             --lost----------->  OPEN, for longer

Without it each thread and task of a process would knock by itself, hundreds of times a second, at a server that is gone
or just coming back. Pure: time is passed in, as seconds of a monotonic clock.
"""

from __future__ import annotations

import random
import threading

FIRST_PAUSE = 0.02  # seconds; doubles with each failure, full jitter
LONGEST_PAUSE = 1.0
_SHORTEST_LOOK = 0.005  # seconds; about what it takes to connect to a server nearby


class Permit:
    """Permission to try. It stands until a try fails; what was connected under an earlier one is not trusted."""

    __slots__ = ("stands",)

    def __init__(self) -> None:
        self.stands = True


class Circuit:
    """Closed until a try fails. Then one probe at a time may try, and an answer to it closes the circuit again.

    The pauses between probes grow exponentially, with full jitter. A probe that takes long, in a black hole or on an
    event loop that stands still, keeps nobody from the next one. Safe to share between threads and event loops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed: Permit | None = Permit()  # everybody's; None while it is open
        self._probes: list[Permit] = []  # under way
        self._probed_at = 0.0
        self._probe_at = 0.0
        self._failures = 0
        #: Why the circuit was opened last, in words for the user.
        self.reason = ""

    def enter(self, now: float, *, probe: bool = True) -> Permit | None:
        """Return a permit to try, or None: not now. Who does not `probe` gets one only while the circuit is closed."""
        permit = self._closed
        if permit is None and probe:
            with self._lock:
                permit = self._closed
                if permit is None and now >= self._probe_at:
                    permit = Permit()
                    self._probes.append(permit)
                    self._probed_at, self._probe_at = now, now + LONGEST_PAUSE
        return permit

    def pause(self, now: float) -> float:
        """Return how long to wait before entering again, in seconds."""
        with self._lock:
            if self._closed is not None:
                return 0.0
            left = self._probe_at - now
            if self._probes:  # one may be answered at any moment: look after about as long as it has taken so far
                left = min(left, (now - self._probed_at) * random.uniform(0.5, 1))
            return max(_SHORTEST_LOOK, left)

    def answered(self, permit: Permit) -> None:
        """Close the circuit, if it was a probe that the server answered."""
        if permit is self._closed:
            return
        with self._lock:
            if permit in self._probes:
                for probe in self._probes:
                    probe.stands = probe is permit
                self._probes.clear()
                self._closed, self._failures = permit, 0

    def lost(self, permit: Permit, now: float, reason: str, *, connected: bool) -> None:
        """Open the circuit, or keep it open for longer: what was tried was not answered.

        Once `connected`, the server may be well and only that connection dead: then the first probe goes at once. What
        was tried before the circuit last changed is no news.
        """
        with self._lock:
            if not permit.stands:
                return
            permit.stands = False
            self.reason = reason
            if permit is self._closed:
                self._closed = None
                if connected:
                    self._probe_at = now
                    return
            else:
                self._probes.remove(permit)
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
            self._failures += 1
            self._probe_at = now + random.uniform(0, longest)

    def let_go(self, permit: Permit) -> None:
        """Take note that a probe ended without any outcome, as when it was cancelled."""
        if permit is self._closed:
            return
        with self._lock:
            if permit in self._probes:
                self._probes.remove(permit)
                permit.stands = False
