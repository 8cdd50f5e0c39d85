"""Those who wait for messages of a queue, first come, first served."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from redisq.errors import RedisQError
from redisq.model.delivery import Receipt
from redisq.operations.deliveries import Delivered


@dataclass(frozen=True, slots=True)
class Handed:
    """What one claim gave. Whoever cannot pass it on gives it back."""

    deliveries: Sequence[Delivered] = ()
    receipts: Sequence[Receipt] = ()
    lease: float = 0.0


@dataclass(eq=False, slots=True)
class Waiter:
    """One claim of one HTTP worker, until it is answered; cancel `answer` to leave.

    With a `worker` of its own and a `nonce` it may be the repeat of an earlier claim, so it is asked for by itself.
    """

    count: int
    joined: float  # by the loop's clock, as is `ends`
    ends: float
    worker: str | None
    nonce: str | None
    answer: asyncio.Future[Handed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    timer: asyncio.TimerHandle | None = None


class Waiters:
    """Who waits, until each is answered."""

    def __init__(self, patience: float) -> None:
        self._patience = patience  # seconds that a claim is tried in an outage
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._repeats: OrderedDict[Waiter, None] = OrderedDict()  # of the waiters, those to ask for by themselves
        self.kick = asyncio.Event()  # somebody came who cannot wait, or nobody waits any more

    def __bool__(self) -> bool:
        return bool(self._waiters)

    @property
    def has_repeats(self) -> bool:
        """Whether somebody has to be asked for by itself."""
        return bool(self._repeats)

    def join(self, waiter: Waiter) -> None:
        """Wait from now on."""
        self._waiters[waiter] = None
        if waiter.nonce is not None:
            self._repeats[waiter] = None

    def next(self) -> Waiter | None:
        """Return for whom to look next; one to ask for by itself comes only once."""
        if self._repeats:
            return self._repeats.popitem(last=False)[0]
        return next(iter(self._waiters), None)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self._waiters.pop(waiter, None)
        self._repeats.pop(waiter, None)
        if waiter.timer is not None:
            waiter.timer.cancel()
        if not self._waiters:
            self.kick.set()

    def answer(self, waiter: Waiter, handed: Handed) -> None:
        """Answer one of them."""
        self.leave(waiter)
        if not waiter.answer.done():
            waiter.answer.set_result(handed)

    def answer_all(self, handed: Handed, joined_by: float = math.inf, ended_by: float = math.inf) -> None:
        """Answer each who had joined by then, and whose time is over by then."""
        for waiter in [one for one in self._waiters if one.joined <= joined_by and one.ends <= ended_by]:
            self.answer(waiter, handed)

    def refuse(self, waiter: Waiter, error: RedisQError) -> None:
        """Answer one of them with an error."""
        self.leave(waiter)
        if not waiter.answer.done():
            waiter.answer.set_exception(copy.copy(error))

    def refuse_all(self, error: RedisQError) -> None:
        """Answer each with an error."""
        for waiter in list(self._waiters):
            self.refuse(waiter, error)

    def refuse_overdue(self, error: RedisQError, since: float, now: float) -> None:
        """Refuse those whom an outage has cost their time: what a call is tried for, less when their own wait ends."""
        for waiter in list(self._waiters):
            tried = waiter.joined + self._patience
            if now >= min(max(since, waiter.joined) + self._patience, max(waiter.ends, tried)):
                self.refuse(waiter, error)
