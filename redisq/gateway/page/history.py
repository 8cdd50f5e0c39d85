"""How queues have been doing: their figures, sampled while somebody looks, and for some minutes after.

Nobody looking costs nothing. Somebody looking costs one `stats` per queue that was looked at and EVERY seconds, however
many look; MOST queues at most. An hour of one queue is 510 samples, some 150 kB; it is this process' memory, so that
after a restart charts begin anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from redisq.errors import RedisQError, UpgradeNeeded
from redisq.gateway.server.stopping import Stopping
from redisq.model.queue import QueueStats

EVERY = 2.0  # seconds between samples
MOST = 100  # queues that are sampled; of more, those looked at last
_FINE = 150  # samples EVERY seconds apart: five minutes
_COARSE_EVERY = 10.0  # seconds
_COARSE = 360  # samples: an hour
_LOOKED = 180.0  # seconds that sampling goes on after the last look
_AT_ONCE = 16  # calls under way
_GAP = 3.0  # how many times the usual step is a gap, in which nothing is known

log = logging.getLogger("redisq.gateway")


class Sample(NamedTuple):
    """A queue's figures at a time of this process' monotonic clock."""

    at: float
    ready: int
    scheduled: int
    in_progress: int
    dead: int
    queued: int
    completed: int
    failed: int


class Rates(NamedTuple):
    """What was added per second to three totals, up to a time; None where nothing is known."""

    at: float
    queued: float | None
    completed: float | None
    failed: float | None


def sample_of(stats: QueueStats, at: float) -> Sample:
    """Take what is charted of a queue's figures."""
    depths = (stats.ready, stats.scheduled, stats.in_progress, stats.dead)
    return Sample(at, *depths, stats.queued, stats.completed, stats.failed + stats.lost)


def rates_of(samples: Sequence[Sample], step: float) -> list[Rates]:
    """Return the rates between samples `step` seconds apart. A queue that was dropped meanwhile began anew at 0."""
    rates: list[Rates] = []
    for before, after in pairwise(samples):
        seconds = after.at - before.at
        if seconds > _GAP * step:
            rates.append(Rates(after.at, None, None, None))
            continue
        added = (after.queued - before.queued, after.completed - before.completed, after.failed - before.failed)
        rates.append(Rates(after.at, *(max(0, count) / seconds for count in added)))
    return rates


@dataclass
class _Track:
    """What is known of one queue."""

    looked: float
    latest: QueueStats | None = None
    at: float = 0.0
    fine: deque[Sample] = field(default_factory=lambda: deque(maxlen=_FINE))
    coarse: deque[Sample] = field(default_factory=lambda: deque(maxlen=_COARSE))

    def add(self, stats: QueueStats, now: float) -> None:
        self.latest, self.at = stats, now
        sample = sample_of(stats, now)
        self.fine.append(sample)
        if not self.coarse or now - self.coarse[-1].at >= _COARSE_EVERY - EVERY / 2:
            self.coarse.append(sample)


class History:
    """Samples of the queues that were looked at of late.

    `stats` asks for one queue's figures; sampling ends with `stopping`; `clock` gives seconds that only go forward.
    """

    def __init__(
        self,
        stats: Callable[[str], Awaitable[QueueStats]],
        stopping: Stopping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._stopping = stopping
        self._clock = clock
        self._tracks: dict[str, _Track] = {}  # in the order in which they were looked at
        self._task: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def look(self, queues: Iterable[str]) -> list[QueueStats]:
        """Give figures of queues, a few seconds old at most, and go on sampling these queues.

        Raises:
            Unavailable, Forbidden: as `stats` does.
        """
        names, now = list(queues), self._clock()
        for name in names:
            track = self._tracks.pop(name, None) or _Track(now)
            track.looked = now
            self._tracks[name] = track
        old = [name for name in names if now - self._tracks[name].at > 1.5 * EVERY or not self._tracks[name].latest]
        await asyncio.gather(*(self._ask(name) for name in old))
        found = [track.latest for name in names if (track := self._tracks[name]).latest]
        for name in list(self._tracks)[: -MOST or None]:
            del self._tracks[name]
        self._go_on()
        return found

    def fine(self, queue: str) -> list[Sample]:
        """Return the last five minutes, oldest first."""
        return list(self._tracks[queue].fine) if queue in self._tracks else []

    def coarse(self, queue: str) -> list[Sample]:
        """Return the last hour, oldest first, in steps of ten seconds."""
        return list(self._tracks[queue].coarse) if queue in self._tracks else []

    def now(self) -> float:
        """Return the time, by the clock that samples have."""
        return self._clock()

    async def _ask(self, name: str) -> None:
        """Ask for a queue's figures, once for all who want them now."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._sample(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        await asyncio.shield(task)

    async def _sample(self, name: str) -> None:
        async with self._turns:
            try:
                stats = await self._stats(name)
            except UpgradeNeeded:  # its figures are for newer gateways
                return
        if track := self._tracks.get(name):
            track.add(stats, self._clock())

    def _go_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Sample while somebody looks. An outage leaves a gap, and sampling goes on after it."""
        due = self._clock()
        while True:
            due = max(due + EVERY, self._clock())
            if await self._stopping.wait_or(due - self._clock()):
                return
            now = self._clock()
            names = [name for name, track in self._tracks.items() if now - track.looked < _LOOKED]
            if not names:
                return
            outcomes = await asyncio.gather(*(self._ask(name) for name in names), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception) and not isinstance(outcome, RedisQError):
                    log.error("sampling a queue failed: %s", type(outcome).__name__)
