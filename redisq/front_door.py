"""What both clients are, whether their operations are called or awaited."""

from __future__ import annotations

from typing import NoReturn, Self, SupportsIndex

from redisq.operations.caller import Caller
from redisq.settings import Settings


class FrontDoor:
    """A client of one process: who calls, and by which settings."""

    _caller: Caller

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._caller.settings

    def within(self, seconds: float) -> Self:
        """Return a view of this client whose calls give up after so many seconds without Redis, for who must answer.

        It shares all else with this client, connections, too: make one for each request, or one for all.

        Raises:
            InvalidArgument: it is not from 0, which is one try, to 3,600.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self), _caller=self._caller.within(seconds))
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("A client belongs to its process: pass on its settings, and make one in each process")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self.settings.namespace!r})"
