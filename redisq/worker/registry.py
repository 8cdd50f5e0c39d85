"""`Handlers`: collects handlers and schedules, in the module that they belong to, for the workers that include them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from redisq.errors import InvalidArgument
from redisq.model.bounds import check_definition
from redisq.operations import options
from redisq.store import keys
from redisq.worker.handlers import batches, shapes
from redisq.worker.handlers.arguments import adapted
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.runners import Handler
from redisq.worker.schedule import Cron, Schedule

F = TypeVar("F", bound=Callable[[Any], Any] | Callable[[Delivery, Any], Any])
R = TypeVar("R", bound=Callable[..., Any])


_LINGER = 0.05  # seconds
_LONGEST_LINGER = 60.0


class Handlers:
    """Handlers and schedules of one part of a program, which a worker includes.

        orders = Handlers()                       # shop/orders.py

        @orders.handler("orders", concurrency=50)
        async def handle(delivery): ...

        worker.include(orders)                    # shop/work.py

    A function that is defined anew under its name, as by a cell of a notebook that is run again, takes the place of the
    one before.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._schedules: dict[tuple[str, str], Schedule] = {}

    @property
    def queues(self) -> list[str]:
        """The queues that have a handler."""
        return list(handlers_of(self._collections()))

    @property
    def schedules(self) -> list[str]:
        """The names of its schedules."""
        return [schedule.name for schedule in schedules_of(self._collections()).values()]

    def _collections(self) -> Iterable[Handlers]:
        """Return whose handlers these are: its own, and of others that it includes."""
        return (self,)

    def handler(
        self,
        queue: str,
        *,
        concurrency: int | None = None,
        timeout: float | None = None,
        priority: int = 1,
        batch: int | None = None,
        linger: float | None = None,
        max_attempts: int | None = None,
        max_lost: int | None = None,
        backoff_base: float | None = None,
        backoff_cap: float | None = None,
    ) -> Callable[[F], F]:
        """Register a function for a queue. An `async def` runs on the worker's loop, a plain one in threads.

        It takes the delivery; or, annotated with whatever pydantic's TypeAdapter takes (a model, a dataclass,
        `list[Order]`), the request as such: `handle(order: Order)`; or both: `handle(delivery, order: Order)`. A
        request that does not fit is dead at once, reason `rejected`.

        With `batch` it takes a list of up to so many deliveries: those that come within `linger` seconds, 0.05 unless
        given, after the first. It returns None, or a list of as many results or exceptions as it got, in their order,
        where `Retry`, `Reject` and `Defer` count; what it raises, all of them have failed with. Its timeout is for all
        of them.

        `concurrency` is how many messages it works on at once, 10 unless given, with `batch` twice that; for a plain
        function, its threads, with `batch` one for each full batch. `timeout` is in
        seconds, REDISQ_HANDLER_TIMEOUT unless given: an attempt that takes longer fails. A plain function cannot be
        stopped and keeps its thread until it returns. `priority`, from 1 to 1,000, tells which queue is worked on first
        or more: see `Worker`. The other four are its retry policy, in place of the settings'; what the queue defines
        wins over both.

        Raises:
            InvalidQueueName, InvalidDefinition: see there.
            InvalidArgument: a number is out of bounds, or the queue has another handler already.
            InvalidHandler: the function can be none: it takes other arguments, or yields instead of returning.
        """
        keys.check_queue_name(queue)
        slots = _slots_of(concurrency, batch)
        lingers = _linger_of(linger, batch)
        check_whole("priority", priority, 1_000)
        if timeout is not None and not options.seconds_of("timeout", timeout):
            raise InvalidArgument("timeout takes seconds, more than 0, at most a year")
        given = {
            "max_attempts": max_attempts,
            "max_lost": max_lost,
            "backoff_base": backoff_base,
            "backoff_cap": backoff_cap,
        }
        policy = {name: value for name, value in check_definition(given).items() if value is not None}

        def register(function: F) -> F:
            name = shapes.qualified_name(function)
            called: Callable[[Any], Any] = adapted(function) if batch is None else batches.check(function)
            handler = Handler(queue, called, slots, timeout, priority, policy, name, batch or 0, lingers)
            _check_free(handlers_of(self._collections()).get(queue), handler)
            self._handlers[queue] = handler
            return function

        return register

    def every(self, expression: str, *, queue: str, timezone: str = "UTC", name: str | None = None) -> Callable[[R], R]:
        """Register a function that makes the message of each tick of a cron expression.

        `expression` has five fields, or six with seconds first, and is read in `timezone`, for example "Europe/Berlin".
        The function, an `async def` or a plain one, takes the tick's time, an aware datetime in that zone, or nothing,
        and returns the message.

        Any number of workers may have the same schedule. Each of them queues each tick, under an id made of `queue`,
        the tick and `name` (unless given, the function's module and qualified name), so there is one message. Ticks are
        by the worker's own clock: workers agree as long as their clocks differ by less than the deduplication window.

        Ticks that pass while no worker runs are not made up for, and in a burst there are none. A tick that cannot be
        queued, because Redis is unreachable or the queue full, is tried until the next is due, half a minute at least,
        but not beyond the deduplication window. Then, or when the function raises, it is skipped with a warning. Where
        clocks change, see `redisq.worker.schedule.Cron`.

        Raises:
            InvalidQueueName: see there.
            ImportError: the library is missing; the text says how to install it.
            InvalidHandler: the function takes other arguments, or yields instead of returning.
            InvalidArgument: the expression, the time zone or the name is not valid, or the queue has another schedule
                so named.
        """
        keys.check_queue_name(queue)
        cron = Cron.parse(expression, timezone)

        def register(function: R) -> R:
            schedule = Schedule.of(cron, queue, name, function)
            _check_unnamed(schedules_of(self._collections()).get(schedule.place), schedule)
            self._schedules[schedule.place] = schedule
            return function

        return register


def handlers_of(collections: Iterable[Handlers]) -> dict[str, Handler]:
    """Return the handlers of several collections, by queue.

    Raises:
        InvalidArgument: two are for one queue, and the later one is not the other one defined anew.
    """
    found: dict[str, Handler] = {}
    for collection in collections:
        for queue, handler in collection._handlers.items():
            _check_free(found.get(queue), handler)
            found[queue] = handler
    return found


def schedules_of(collections: Iterable[Handlers]) -> dict[tuple[str, str], Schedule]:
    """Return the schedules of several collections, by queue and name.

    Raises:
        InvalidArgument: two of a queue have one name, and the later one is not the other one defined anew.
    """
    found: dict[tuple[str, str], Schedule] = {}
    for collection in collections:
        for place, schedule in collection._schedules.items():
            _check_unnamed(found.get(place), schedule)
            found[place] = schedule
    return found


def _check_free(other: Handler | None, handler: Handler) -> None:
    if other is not None and other is not handler and not shapes.is_same_name(handler.name, other.name):
        raise InvalidArgument(f"the queue {handler.queue} has a handler already")


def _check_unnamed(other: Schedule | None, schedule: Schedule) -> None:
    if other is None or other is schedule:
        return
    if schedule.function is other.function or not shapes.is_again(schedule.function, other.function):
        text = f"the queue {schedule.queue} has a schedule {schedule.name} already: give one of them name="
        raise InvalidArgument(text)


def _slots_of(concurrency: int | None, batch: int | None) -> int:
    """Return how many messages a handler works on at once."""
    if batch is not None:
        check_whole("batch", batch, 10_000)
    slots = concurrency if concurrency is not None else 10 if batch is None else 2 * batch
    check_whole("concurrency", slots, 100_000)
    if slots < (batch or 1):
        raise InvalidArgument(f"concurrency={slots} has no room for batch={batch}: leave it out, or give twice as much")
    return slots


def _linger_of(linger: float | None, batch: int | None) -> float:
    """Return for how long a batch waits for more, in seconds."""
    if linger is None:
        return _LINGER
    if batch is None:
        raise InvalidArgument("linger= is for handlers with batch=")
    if options.seconds_of("linger", linger) > _LONGEST_LINGER:
        raise InvalidArgument(f"linger takes seconds, 0 to {_LONGEST_LINGER:g}")
    return float(linger)


def check_whole(name: str, value: object, most: int) -> None:
    """Check a number that is given.

    Raises:
        InvalidArgument: it is no whole number from 1 to `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} takes a whole number from 1 to {most:,}")
