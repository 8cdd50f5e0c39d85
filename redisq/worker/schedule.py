"""Recurring messages: when a schedule's ticks are, and the loop that queues a message at each of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from redisq.claims.identity import about
from redisq.claims.policy import pause_after
from redisq.drivers import drive_async
from redisq.errors import InvalidArgument, InvalidMessage, MessageConflict, QueueFull, RedisQError, Unavailable
from redisq.link.aio import AsyncLink
from redisq.operations import options, queueing
from redisq.operations.caller import Caller
from redisq.operations.options import Options
from redisq.runtime import logs, process
from redisq.worker.handlers import shapes
from redisq.worker.handlers.error_text import type_name
from redisq.worker.handlers.runners import Surroundings
from redisq.worker.handlers.verdicts import is_awaitable

log = logs.logger("redisq.worker")

_LONGEST_SLEEP = 30.0  # seconds; a clock that was set is noticed so soon
_LATE = timedelta(seconds=30)  # a tick may be so late even when the next is due: a loop that was held up loses none
_TAKES = "The function of a schedule takes one argument, the tick's time, a datetime, or none."
_OF_WINDOW = 0.9  # of the deduplication window; the rest is for clocks that differ


@dataclass(frozen=True, slots=True)
class Cron:
    """When something recurs: a cron expression of 5 fields, or of 6 with seconds first, in a time zone.

    Where the clocks change it goes as cronsim has it, after Debian's cron. With 5 fields of which neither minute nor
    hour begins with `*`, a tick in the hour that is left out comes at the end of it, and one in the hour that comes
    twice comes in the first. Any other expression goes by the clock on the wall: no tick there, or two.
    """

    expression: str
    zone: tzinfo

    @classmethod
    def parse(cls, expression: str, timezone: str) -> Cron:
        """Check an expression and the name of a time zone.

        Raises:
            ImportError: the library is not installed.
            InvalidArgument: one of them is not valid, or the expression never comes true.
        """
        try:
            from cronsim import CronSimError
        except ImportError:
            from redisq.runtime import extras

            raise ImportError(f"a schedule needs the package cronsim: {extras.install('cron')}") from None
        if not isinstance(expression, str):
            raise InvalidArgument("every() takes a cron expression, a text like '*/5 * * * *'")
        cron = cls(expression, _zone(timezone))
        try:
            cron.after(datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            text = f"{expression!r} is no cron expression of 5 fields, or of 6 with seconds first: {error}"
            raise InvalidArgument(text) from None
        return cron

    def after(self, moment: datetime) -> datetime:
        """Return the first tick after a moment, in UTC."""
        from cronsim import CronSim

        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            tick = found.astimezone(UTC)
            if tick > moment:  # in the hour that comes twice cronsim may begin with one that has passed
                return tick
        raise InvalidArgument(f"the cron expression {self.expression!r} never comes true")


def _zone(name: str) -> tzinfo:
    if not isinstance(name, str):
        raise InvalidArgument("timezone= takes a name, a text like 'Europe/Berlin'")
    if name == "UTC":
        return UTC  # also where there is no database of time zones
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidArgument(f"this machine knows no time zone {name!r} (the package tzdata has them all)") from None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A function that makes the request of each tick, and where its messages go."""

    cron: Cron
    queue: str
    name: str
    function: Callable[..., Any]
    takes_tick: bool

    @classmethod
    def of(cls, cron: Cron, queue: str, name: str | None, function: Callable[..., Any]) -> Schedule:
        """Look at a function, and name the schedule after it unless it has a name.

        Raises:
            InvalidHandler: it is no function of one argument, the tick's time, or none.
            InvalidArgument: there is no name, or one that is too long.
        """
        with shapes.looking_at(function):
            takes_tick = _takes_tick(function)
            if name is None:
                name = f"{function.__module__}.{function.__qualname__}" if hasattr(function, "__qualname__") else ""
        schedule = cls(cron, queue, name, function, takes_tick)
        try:
            options.id_of(None, schedule.key(datetime.max) if name and isinstance(name, str) else "", "", queue)
        except InvalidMessage:
            raise InvalidArgument("name= of a schedule takes text of 1 to 491 characters") from None
        return schedule

    @property
    def place(self) -> tuple[str, str]:
        """Its queue and its name, which no other schedule of a worker has."""
        return self.queue, self.name

    def key(self, tick: datetime) -> str:
        """Return the idempotency key of the message of a tick, in UTC: the same in all workers."""
        return f"{self.name}@{tick:%Y-%m-%dT%H:%M:%SZ}"

    async def request(self, tick: datetime) -> Any:
        """Let the function make the request of a tick; what it raises is raised."""
        call = partial(self.function, tick.astimezone(self.cron.zone)) if self.takes_tick else self.function
        pid = process.pid
        try:
            answer = call() if shapes.is_async(self.function) else await _in_thread(call)
            while is_awaitable(answer):
                answer = await answer
        except BaseException as error:
            if process.pid != pid:
                process.end_fork(error)
            raise
        if process.pid != pid:
            process.end_fork()
        return answer


def _takes_tick(function: Callable[..., Any]) -> bool:
    what = "the function of a schedule"
    shapes.check_callable(function, what)
    parameters = shapes.parameters_of(function, what)
    if parameters is None:
        raise shapes.refusal(function, f"it does not say what it takes: wrap it in one that does. {_TAKES}")
    required = shapes.required_of(parameters)
    if len(required) > 1:
        raise shapes.refusal(function, f"it takes {len(required)} arguments. {_TAKES}")
    if not required:
        return False
    annotation = shapes.annotation_of(required[0], function)
    if not shapes.takes(annotation, datetime):
        problem = f"its argument {required[0].name} is annotated with {shapes.annotated(annotation)}. {_TAKES}"
        raise shapes.refusal(function, problem)
    return True


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Call a plain function in a thread of its own: one that never returns cannot keep the process from ending."""
    outcome: concurrent.futures.Future[tuple[Any, BaseException | None]] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()  # from now on it cannot be cancelled

    def work() -> None:
        try:
            try:
                answer: tuple[Any, BaseException | None] = (call(), None)
            except BaseException as error:  # SystemExit too; and as a value, as a future holds no StopIteration
                answer = (None, error)
            if process.pid != pid:
                process.end_fork(answer[1])
            outcome.set_result(answer)
        except BaseException as thrown:  # into this thread, too late
            if not outcome.done():
                outcome.set_result((None, thrown))

    pid = process.pid
    run = contextvars.copy_context().run  # the tick's
    threading.Thread(target=run, args=(work,), name=f"{process.HANDLERS}-schedule", daemon=True).start()
    value, error = await asyncio.wrap_future(outcome)
    if error is not None:
        raise error
    return value


class Scheduler:
    """Queues the messages of a worker's schedules as their ticks come, until it is stopped.

    The message of a tick has the same id in all workers, so it is queued once, however many of them do it. If the
    process dies the others go on. Ticks that pass while no worker runs are not made up for.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        caller: Caller,
        link: AsyncLink,
        worker: str,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._schedules = schedules
        self._caller = caller
        self._link = link
        self._worker = worker
        self._surroundings = surroundings or Surroundings.here(worker)
        self._making: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._surroundings.watch.over("a schedule's function", self._making)
        self._window = timedelta(seconds=max(1.0, _OF_WINDOW * caller.settings.dedup_window))
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Queue until stopped."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow(schedule)) for schedule in self._schedules]
            await self._stopped.wait()
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """End at once, whatever is under way. What reaches Redis nevertheless is what another worker queues, too."""
        self._stopped.set()

    async def _follow(self, schedule: Schedule) -> None:
        after = schedule.cron.after
        tick = after(_now())
        while not self._stopped.is_set():  # a function may have caught its cancellation
            left = (tick - _now()).total_seconds()
            if left > 0:
                await asyncio.sleep(min(left, _LONGEST_SLEEP))
                # When the clock was set back, ticks come again. Their ids are what they were: nothing is queued twice.
                tick = min(tick, after(_now()))
                continue
            until = min(max(after(tick), tick + _LATE), tick + self._window)
            if _now() < until:
                await self._keep(schedule, tick, until)
            else:
                self._skip(schedule, tick, "this process was held up, or its clock was set")
            tick = after(max(tick, _now() - _LATE))

    async def _keep(self, schedule: Schedule, tick: datetime, until: datetime) -> None:
        """Queue the message of a tick, or log why not."""
        try:
            request = await self._request(schedule, tick)
        except BaseException as error:  # SystemExit too: it may not end the worker
            if _is_cancelled():
                raise
            self._skip(schedule, tick, "its function raised %s", type_name(error))  # the text may hold anything
            if self._caller.settings.log_errors == "full":
                log.debug("schedule %s", schedule.name, exc_info=error, extra=self._about(schedule))
            return
        try:
            id = await self._queue(schedule, tick, request, until)
            log.debug("schedule %s: tick of %s queued as %s", schedule.name, tick, id, extra=self._about(schedule))
        except MessageConflict:
            text = "schedule %s: tick of %s was queued by another worker, with another body"
            log.debug(text, schedule.name, tick, extra=self._about(schedule))
        except InvalidMessage as error:
            self._skip(schedule, tick, "its request is refused: %s", type(error).__name__)  # the text may name keys
        except RedisQError as error:
            self._skip(schedule, tick, "%s", error)
        except BaseException:  # a fault of ours, or of what its request does when it is read, may not stop the schedule
            if _is_cancelled():
                raise
            log.exception("schedule %s: tick of %s skipped", schedule.name, tick, extra=self._about(schedule))

    async def _request(self, schedule: Schedule, tick: datetime) -> Any:
        """Make the request of a tick, in a task and a context of its own."""
        making = asyncio.create_task(_caught(schedule.request(tick)), context=self._surroundings.contexts.fresh())
        self._making[schedule.place] = making
        self._surroundings.watch.wake()
        try:
            request, error = await making
        finally:
            del self._making[schedule.place]
        if error is not None:
            raise error
        return request

    async def _queue(self, schedule: Schedule, tick: datetime, request: Any, until: datetime) -> str:
        """Queue a message, again and again while Redis is unreachable or full; in the end raise what was in the way."""
        chosen = Options(idempotency_key=schedule.key(tick))
        failures, refusal = 0, RedisQError("It was not queued in time.")
        left = (until - _now()).total_seconds()
        if left <= 0:
            raise refusal
        try:
            async with asyncio.timeout(left):
                while True:
                    try:
                        flow = queueing.queue_message(self._caller, schedule.queue, request, None, chosen)
                        id, _ = await drive_async(flow, self._link, self._caller.settings.retry_deadline)
                        return id
                    except (Unavailable, QueueFull) as error:
                        failures, refusal = failures + 1, error
                        await asyncio.sleep(pause_after(failures, random.random()))
        except TimeoutError:
            raise refusal from None

    def _skip(self, schedule: Schedule, tick: datetime, text: str, *args: object) -> None:
        log.warning(
            f"queue %s schedule %s: tick of %s skipped: {text}",
            *(schedule.queue, schedule.name, tick, *args),
            extra=self._about(schedule),
        )

    def _about(self, schedule: Schedule) -> dict[str, object]:
        return about(self._worker, schedule.queue)


def _is_cancelled() -> bool:
    """Return whether the scheduler wants this task to end; what the user's code raises may look like it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _caught(making: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Return what comes of it as a value: a task that ends with SystemExit ends the loop with it."""
    try:
        return await making, None
    except BaseException as error:
        return None, error


def _now() -> datetime:
    return datetime.now(UTC)
