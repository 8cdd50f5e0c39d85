"""Which messages are run apart from each other, so that one that takes its worker down is found and no other charged.

A process that dies takes all its messages along, and nobody can tell which of them, if any, is to blame: a handler that
ran out of memory, or the power that failed. So the first time nobody is charged. Its messages become *suspects*:

1. A suspect is redelivered at once, but a worker holds only a quarter of its slots of them at a time.
2. If that worker dies, too, each of its suspects is redelivered to a worker that holds no other suspect.
3. A message whose lease lapses there has done it by itself: it is charged for all three, and each further time for one,
   until `max_lost` makes it a dead letter. A handler that returns or raises clears its message at once.

The limit of this: a new message beside an isolated suspect may be the one that takes the worker down, and the suspect
is charged for it. So keep `max_lost` at its default or above where several messages may do that.

Other messages run beside suspects as ever. With `max_lost` 2 the second step is the first; with 1 the first lapse is
the end of the message.
"""

from __future__ import annotations

_SHARE = 4


def share_of(slots: int) -> int:
    """Return how many of so many slots may hold suspects."""
    return max(1, slots // _SHARE)


class Suspects:
    """The room for suspects in one process, shared by its queues. Used on the loop's thread only."""

    def __init__(self, slots: int) -> None:
        self._width = share_of(slots)
        self._room = self._width

    def reserve(self) -> tuple[int, bool]:
        """Take all the room for one claim: how many suspects it may bring, and whether it may bring an isolated one."""
        room, self._room = self._room, 0
        return room, room == self._width

    def weigh(self, isolated: bool) -> int:
        """Return how much room one suspect holds."""
        return self._width if isolated else 1

    def release(self, room: int) -> None:
        """Give back what a claim did not need, or what a suspect held whose lease has ended."""
        self._room += room
