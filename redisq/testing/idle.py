"""`run_until_idle`: a worker works off all that there is for it, and time passes as fast as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from redisq.async_client import AsyncRedisQ
from redisq.client import RedisQ
from redisq.errors import InvalidArgument, MessageConflict, NeverIdle, TestingError
from redisq.operations import options
from redisq.runtime import loops
from redisq.testing.deliveries import check_no_loop
from redisq.testing.queues import Opened, current
from redisq.worker import burst
from redisq.worker.registry import schedules_of
from redisq.worker.schedule import Schedule
from redisq.worker.worker import Worker

_TRIES = 10  # of a claim to take over what has lapsed
_MOST_TICKS = 10_000  # of a schedule, in what the clock was advanced by


def run_until_idle(worker: Worker, *, within: float = 30.0) -> None:
    """Have a worker work off everything in its queues, also what its handlers queue; then it ends.

    When nothing is ready the virtual clock goes forward to what is due next: a retry, a delayed message, a lease that
    lapses. So all there is has finished in the end, unless its queue is paused. Ticks of the worker's schedules come of
    `clock.advance` alone: they are queued first, each with its own time.

    Raises:
        TestingError: no queue is open; an event loop runs in this thread: `await run_until_idle_async()` there; the
            worker ended with exit code 1; or, on a real server, something is due later.
        NeverIdle: there was still something to do after `within` seconds of real time.
        WorkerError: the worker has no handlers, or is running. InvalidArgument: this is no worker.
    """
    check_no_loop("run_until_idle")
    loops.run(run_until_idle_async(worker, within=within), foreign=True)


async def run_until_idle_async(worker: Worker, *, within: float = 30.0) -> None:
    """Do the same where an event loop runs already. See `run_until_idle`."""
    if not isinstance(worker, Worker):
        raise InvalidArgument(f"run_until_idle takes a redisq.Worker, not {type(worker).__name__}")
    opened, limit = current(), asyncio.timeout(options.seconds_of("within", within))
    try:
        async with limit:
            while True:
                await _queue_ticks(worker, opened)
                await _work_off(worker, opened)
                if not _spans(worker, opened):
                    return
    except TimeoutError:
        if not limit.expired():
            raise
        text = f"The worker has not become idle within {within:g} s: does a handler queue without end, or hang?"
        raise NeverIdle(f"{text} {_left(worker)}") from None


async def _work_off(worker: Worker, opened: Opened) -> None:
    ahead = _Ahead(worker, opened)
    token = burst.goes_on.set(ahead.pull)
    try:
        code = await worker.run_async(burst=True)
    finally:
        burst.goes_on.reset(token)
        if opened.memory is not None:
            opened.memory.lapsed_by = 0
    if ahead.refusal:
        raise TestingError(ahead.refusal)
    if code:
        raise TestingError(f"The worker ended with exit code {code}: its log says why.")


class _Ahead:
    """What is still to come in a worker's queues."""

    def __init__(self, worker: Worker, opened: Opened) -> None:
        self._queues = worker.queues
        self._opened = opened
        self._tries = 0
        self.refusal = ""
        self._take_over()

    def pull(self) -> bool:
        """Go forward to what is due next, and return whether there is something."""
        memory = self._opened.memory
        scheduled, leases = list(self._first("scheduled")), list(self._first("leases"))
        if memory is None:
            if scheduled or leases:
                self.refusal = "Something is due later, and a real server's clock cannot be moved: it is left as it is."
            return False
        now = memory.clock.ms
        if any(ms <= now for ms in leases) and self._tries < _TRIES:  # for want of room for suspects, see there
            self._tries += 1
            return True
        coming = [ms for ms in (*scheduled, *leases) if ms > now]
        if coming:
            memory.clock.pull(min(coming))
            self._take_over()
        return bool(coming)

    def _take_over(self) -> None:
        """Whoever has a lease that lapsed by now is dead: no handler runs at this moment."""
        self._tries = 0
        if self._opened.memory is not None:
            self._opened.memory.lapsed_by = self._opened.memory.clock.ms

    def _first(self, kind: str) -> Iterator[int]:
        """Return when the first of each queue is due, or its lease lapses, in milliseconds since 1970."""
        for queue in self._queues:
            key = getattr(self._opened.caller.keys_of(queue), kind)
            for score in self._opened.link.command("ZRANGE", key, 0, 0, "WITHSCORES")[1:]:
                yield int(float(score))


def _spans(worker: Worker, opened: Opened) -> int:
    """Return by how many steps the clock was advanced since the worker's schedules had their ticks."""
    if opened.memory is None or not worker.schedules:
        return 0
    return len(opened.memory.clock.spans) - opened.ticked.get(worker, 0)


async def _queue_ticks(worker: Worker, opened: Opened) -> None:
    new = _spans(worker, opened)
    if not new:
        return
    spans = opened.clock.spans[-new:]
    opened.ticked[worker] = len(opened.clock.spans)
    async with AsyncRedisQ() as mq:
        for schedule in schedules_of(worker._collections()).values():
            for tick in _ticks(schedule, spans):
                request = await schedule.request(tick)
                with suppress(MessageConflict):  # another worker's function has made another request of it
                    await mq.queue_message(schedule.queue, request, idempotency_key=schedule.key(tick))


def _ticks(schedule: Schedule, spans: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    count = 0
    for began, ended in spans:
        tick = schedule.cron.after(began)
        while tick <= ended:
            yield tick
            count += 1
            if count == _MOST_TICKS:
                raise NeverIdle(f"The schedule {schedule.name} has more than {count:,} ticks in this time.")
            tick = schedule.cron.after(tick)


def _left(worker: Worker) -> str:
    with RedisQ() as mq:
        found = [mq.stats(queue) for queue in worker.queues]
    texts = [f"{one.queue}: {one.ready} ready, {one.scheduled} scheduled, {one.in_progress} running" for one in found]
    return f"There is still {'; '.join(texts)}."
