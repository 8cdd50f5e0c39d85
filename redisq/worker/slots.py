"""Whose turn it is to claim, where the queues of one worker share its slots. Pure; used on the loop's thread only.

A consumer with a *seat* asks before each claim, and gets so many of the worker's free slots, or none: then it is woken
when it may ask again. In strict order a queue waits while one of higher priority may have messages ready and handlers
free for them. In weighted order, and among equals in strict order, the next is who has had least for its weight, of
all that may have messages ready (stride scheduling: Waldspurger and Weihl, 1995). Whoever comes back from having
nothing starts level with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sized


class Seat:
    """One consumer's place. `busy` are its handlers that run, at most `concurrency`; `wake` tells it to ask again."""

    def __init__(self, turns: Turns, priority: int, concurrency: int, busy: Sized, wake: Callable[[], None]) -> None:
        self._turns = turns
        self._priority = priority
        self._weight = priority if turns.weighted else 1
        self._concurrency = concurrency
        self._busy = busy
        self._wake = wake
        self._granted = 0  # slots for a claim that is under way
        self._hungry = True  # there may be messages ready
        self._waiting = False
        self._had = 0.0  # slots so far, over its weight
        self._crowded = False  # there was no slot at the last look

    @property
    def taken(self) -> int:
        """How many slots it holds."""
        return len(self._busy) + self._granted

    def take(self, wanted: int) -> int:
        """Take up to so many slots for a claim; 0: not now."""
        if not self._hungry:
            self._hungry = True
            self._had = max(self._had, self._turns.least_had(self))
        self._waiting = not self.may_take()
        if not self._waiting:
            self._granted = min(wanted, self._turns.free)
            self._had += self._granted / self._weight
        return self._granted

    def claimed(self, count: int, more: bool) -> None:
        """Take note of what a claim brought; its handlers are busy by now. `more`: there are more messages ready."""
        self._had -= (self._granted - count) / self._weight
        self._granted, self._hungry = 0, more
        self._turns.go_on()

    def rest(self) -> None:
        """Give slots back that it got for a claim, if any, and keep nobody waiting: it cannot claim now."""
        self._had -= self._granted / self._weight
        self._granted, self._hungry = 0, False
        self._turns.go_on()

    def returned(self) -> None:
        """Take note that a handler has returned."""
        self._turns.go_on()

    def is_crowded_out(self) -> bool:
        """Return whether others held all slots at this look and at the last one."""
        before, self._crowded = self._crowded, self._turns.free <= 0
        return before and self._crowded

    def may_take(self) -> bool:
        """Return whether there is a slot, and it is this one's turn."""
        return self._turns.free > 0 and not any(other.goes_before(self) for other in self._turns.seats)

    def goes_before(self, seat: Seat) -> bool:
        """Return whether `seat` has to wait for this one."""
        if self is seat or not self._hungry or self.taken >= self._concurrency:
            return False
        if not self._turns.weighted and self._priority != seat._priority:
            return self._priority > seat._priority
        return self._had < seat._had

    def go_on(self) -> None:
        """Wake its consumer, if it waits and may take."""
        if self._waiting and self.may_take():
            self._wake()


class Turns:
    """The slots that queues share, and their seats."""

    def __init__(self, slots: int, *, weighted: bool) -> None:
        self.weighted = weighted
        self.seats: list[Seat] = []
        self._slots = slots

    def seat(self, priority: int, concurrency: int, busy: Sized, wake: Callable[[], None]) -> Seat:
        """Return one more consumer a seat."""
        self.seats.append(Seat(self, priority, concurrency, busy, wake))
        return self.seats[-1]

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self._slots - sum(seat.taken for seat in self.seats)

    def least_had(self, newcomer: Seat) -> float:
        """Return where somebody starts who comes back: level with the least of those that are hungry."""
        return min((seat._had for seat in self.seats if seat._hungry and seat is not newcomer), default=0.0)

    def go_on(self) -> None:
        """Wake whoever may take now."""
        for seat in self.seats:
            seat.go_on()
