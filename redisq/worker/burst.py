"""When a burst of several queues has come to its end: one may still bring work to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Protocol

#: Asked when a burst would be over: whether there may be more to do by now, so that it goes on. For `redisq.testing`.
goes_on: ContextVar[Callable[[], bool] | None] = ContextVar("goes_on", default=None)


class Member(Protocol):
    """The fetcher of one queue."""

    @property
    def is_idle(self) -> bool:
        """Whether none of its handlers runs that may still bring an outcome, and none waits to be sent."""

    def look(self) -> None:
        """Claim again at once, or see that the burst is over."""


class Burst:
    """Ends when each queue was found with nothing ready after the last handler of any had returned."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        #: Members whose last claim found nothing, and what had changed when it was made.
        self._quiet: dict[int, int] = {}
        self._changes = 0
        self.is_over = False

    def changed(self) -> None:
        """Take note that a member has become idle: its handlers may have queued something anywhere."""
        self._changes += 1
        if all(member.is_idle for member in self._members):
            self._look()

    def asks(self, member: Member) -> int:
        """Take note that a member makes a claim; give what to tell `found_nothing` if that brings nothing."""
        self._quiet.pop(id(member), None)
        return self._changes

    def found_nothing(self, member: Member, changes: int) -> bool:
        """Take note that a claim has brought nothing; it was made after so many changes.

        Return whether to claim again at once: what changed meanwhile may be the last that anybody is told of.
        """
        self._quiet[id(member)] = changes
        if not all(member.is_idle for member in self._members):
            return False
        if all(self._quiet.get(id(member)) == self._changes for member in self._members):
            ask = goes_on.get()
            if ask is not None and ask():
                self._changes += 1
            else:
                self.is_over = True
            self._look()
        return changes != self._changes

    def _look(self) -> None:
        for member in self._members:
            member.look()
