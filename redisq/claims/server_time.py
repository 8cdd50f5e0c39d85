"""What a worker knows of the server's clock, and which leases it may take for lapsed."""

from __future__ import annotations


class ServerTime:
    """The server's clock by its last answers, carried on by this machine's monotonic one.

    A lease that has lapsed need not be lost. When the server stood still for longer than a lease (its process was
    stopped, its machine paused, its disk slow) every lease has lapsed when it goes on, and claims that were under way
    may be answered before the holders' renewals. So a worker takes over only what had lapsed by a time that it has
    *seen*: one that the server told in an answer some `patience` ago. Whoever is alive has renewed by now.
    """

    def __init__(self) -> None:
        self._last: float | None = None  # the server's time in its last answer
        self._last_sent = self._last_at = 0.0  # when it was asked for, and when it came, by the monotonic clock
        self._seen = 0.0  # the latest time that is old enough
        self._mark = 0.0  # the one that will be next
        self._marked_at = 0.0

    def learn(self, server_time: float, patience: float, sent: float, at: float) -> bool:
        """Take over the time of an answer asked for at `sent`, read `at`. Tell whether the server's clock has leapt.

        The server looked at its clock at some time between the two, so only a step that fits to none of them is a leap.
        """
        leapt = False
        if self._last is not None:
            step, tolerance = server_time - self._last, max(1.0, patience)
            leapt = not sent - self._last_at - tolerance <= step <= at - self._last_sent + tolerance
        if leapt:
            self._seen = self._mark = 0.0
        self._last, self._last_sent, self._last_at = server_time, sent, at
        self.seen(patience, at)
        if not self._mark:
            self._mark, self._marked_at = server_time, at
        return leapt

    def seen(self, patience: float, at: float) -> float:
        """Return the latest time, in seconds since 1970, that was told at least `patience` before; 0 for none yet."""
        if self._mark and at - self._marked_at >= patience:
            self._seen, self._mark = self._mark, 0.0
        return self._seen
