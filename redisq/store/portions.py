"""How many messages one reply may hold, learned from those that did not get through.

Hosted servers bound what they keep for a client to read (`client-output-buffer-limit normal`), and close the connection
instead of sending a larger reply. They tell nobody where the bound is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_LESS = 4  # so that few replies are lost until one gets through
_LEARN = 60.0  # seconds without a reply cut, until more is asked for again


class Portion:
    """What to ask for at once: as much as may be, a quarter after each reply that was cut, one at least.

    It grows again with each answer, up to half of what was cut, and after a minute beyond. Used by threads without a
    lock: a figure that is lost is learned anew.
    """

    __slots__ = ("_clock", "_cut", "_cut_at", "_full", "most")

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._full = most
        self._clock = clock
        self._cut = 0  # what was asked for when a reply was last cut
        self._cut_at = 0.0

    def cut(self, asked: int) -> None:
        """Take note that the reply to so many was cut."""
        self.most = max(1, min(self.most, asked // _LESS))
        self._cut = asked
        self._cut_at = self._clock()

    def passed(self) -> None:
        """Take note that a reply got through."""
        if self.most < self._full:
            bound = self._full if self._clock() >= self._cut_at + _LEARN else self._cut // 2
            self.most = max(self.most, min(2 * self.most, bound))
