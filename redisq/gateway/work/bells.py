"""Which dispatchers listen to their queue's bell: each that does takes a connection to Redis."""

from __future__ import annotations

MOST = 32  # that listen
_SHORTEST, _EACH = 0.5, 0.01  # seconds: those that do not listen look together a hundred times a second


class Bells:
    """The right of a few to listen. Whoever has none looks now and then."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._listening: set[object] = set()
        self._deaf: set[object] = set()

    @property
    def pause(self) -> float:
        """Seconds between two looks of one that does not listen."""
        return max(_SHORTEST, len(self._deaf) * _EACH)

    def take(self, who: object) -> bool:
        """Return whether it may listen, until it gives that back."""
        if who in self._listening or len(self._listening) < self._most:
            self._listening.add(who)
            self._deaf.discard(who)
            return True
        self._deaf.add(who)
        return False

    def give_back(self, who: object) -> None:
        """Take note that it neither listens nor looks any more."""
        self._listening.discard(who)
        self._deaf.discard(who)
