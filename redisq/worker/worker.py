"""`Worker`: registers handlers and runs them until it is told to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

from redisq import preload
from redisq.errors import InvalidArgument, WorkerError
from redisq.model.bounds import check_definition
from redisq.operations import options
from redisq.operations.caller import Caller
from redisq.runtime import logs, loops, process
from redisq.settings import Settings
from redisq.store import keys
from redisq.tokens.token import Credentials
from redisq.worker.ending import Ending
from redisq.worker.handlers import lifespan, middleware, shapes
from redisq.worker.handlers.arguments import adapted
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.middleware import Middleware, wrapped
from redisq.worker.handlers.runners import Handler
from redisq.worker.run import Part, Run
from redisq.worker.schedule import Cron, Schedule
from redisq.worker.slots import Turns

log = logs.logger("redisq.worker")

F = TypeVar("F", bound=Callable[[Any], Any] | Callable[[Delivery, Any], Any])
R = TypeVar("R", bound=Callable[..., Any])
L = TypeVar("L", bound=lifespan.Function)
M = TypeVar("M", bound=Middleware)


class Worker:
    """One process that works on queues: its handlers, and the loop that runs them.

        worker = Worker()

        @worker.handler("orders", concurrency=50, timeout=30)
        async def handle(delivery):
            return {"total": price(delivery.request)}

        worker.run()                 # or: redisq worker module:worker

    What a handler returns becomes the message's result; what it raises, its error, and the message is tried again.
    If the process dies, its messages are delivered to other workers when their leases lapse.

    Queues are worked on side by side, each with slots of its own, unless they get different priorities or the worker a
    `concurrency`: then they share that many slots, by default as many as the largest handler's, in this `order`:

    - strict: a queue gets none while one of higher priority has messages ready and a handler free;
    - weighted: as long as several have messages ready, each gets slots in proportion to its priority.

    Raises:
        InvalidArgument: `concurrency` is out of bounds, or there is no such `order`.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        credentials: Credentials | None = None,
        concurrency: int | None = None,
        order: Literal["strict", "weighted"] = "strict",
    ) -> None:
        if concurrency is not None:
            _check_whole("concurrency", concurrency, 100_000)
        if order not in ("strict", "weighted"):
            raise InvalidArgument("order takes 'strict' or 'weighted'")
        self._concurrency = concurrency
        self._order = order
        self._settings = settings
        self._credentials = credentials
        self._handlers: dict[str, Handler] = {}
        self._schedules: list[Schedule] = []
        self._lifespan: lifespan.Function | None = None
        self._middleware: list[Middleware] = []
        self._ending = Ending()

    @property
    def queues(self) -> list[str]:
        """The queues that have a handler."""
        return list(self._handlers)

    @property
    def schedules(self) -> list[str]:
        """The names of its schedules."""
        return [schedule.name for schedule in self._schedules]

    def handler(
        self,
        queue: str,
        *,
        concurrency: int = 10,
        timeout: float | None = None,
        priority: int = 1,
        max_attempts: int | None = None,
        max_lost: int | None = None,
        backoff_base: float | None = None,
        backoff_cap: float | None = None,
    ) -> Callable[[F], F]:
        """Register a function for a queue. An `async def` runs on the worker's loop, a plain one in threads.

        It takes the delivery; or, annotated with whatever pydantic's TypeAdapter takes (a model, a dataclass,
        `list[Order]`), the request as such: `handle(order: Order)`; or both: `handle(delivery, order: Order)`. A
        request that does not fit is dead at once, reason `rejected`.

        `concurrency` is how many messages it works on at once; for a plain function, its threads. `timeout` is in
        seconds: an attempt that takes longer fails. A plain function cannot be stopped and keeps its thread until it
        returns. `priority`, from 1 to 1,000, tells which queue is worked on first or more: see the class. The other
        four are its retry policy, in place of the settings'; what the queue defines wins over both.

        Raises:
            InvalidQueueName, InvalidDefinition: see there.
            InvalidArgument: `concurrency`, `timeout` or `priority` out of bounds, or the queue has a handler already.
            InvalidHandler: the function can be none: it takes other arguments, or yields instead of returning.
        """
        keys.check_queue_name(queue)
        if queue in self._handlers:
            raise InvalidArgument(f"the queue {queue} has a handler already")
        _check_whole("concurrency", concurrency, 100_000)
        _check_whole("priority", priority, 1_000)
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
            self._handlers[queue] = Handler(
                *(queue, adapted(function), concurrency, timeout, priority, policy, shapes.qualified_name(function))
            )
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
            InvalidArgument: the expression, the time zone or the name is not valid, or the queue has a schedule so
                named.
        """
        keys.check_queue_name(queue)
        cron = Cron.parse(expression, timezone)

        def register(function: R) -> R:
            schedule = Schedule.of(cron, queue, name, function)
            if any((other.queue, other.name) == (queue, schedule.name) for other in self._schedules):
                raise InvalidArgument(
                    f"the queue {queue} has a schedule {schedule.name} already: give one of them name="
                )
            self._schedules.append(schedule)
            return function

        return register

    def lifespan(self, function: L) -> L:
        """Register what opens at the worker's start what its handlers need, and closes it at the end.

            @worker.lifespan
            async def pool():
                async with connect() as database:
                    yield {"database": database}

        It is a generator function without arguments, async or plain (which runs in a thread of its own), that yields
        once: what it yields is `delivery.state`. It is entered once in a process before the first claim, and left when
        all handlers have returned and their outcomes are sent, however the worker ends, in what is left of `grace` but
        in 5 seconds at least; only a process that is killed leaves without it. Context variables that it sets are set
        for handlers, too.

        When it fails at its start, the worker claims nothing and ends with exit code 1; when it fails at its end, or
        ends too soon, with 1 as well.

        Raises:
            InvalidHandler: it is no such function.
            InvalidArgument: the worker has another one already.
        """
        lifespan.check(function)
        other = self._lifespan
        if other is not None and not shapes.is_again(function, other):
            raise InvalidArgument("the worker has a lifespan already: open all that it needs in one")
        self._lifespan = function
        return function

    def middleware(self, function: M) -> M:
        """Register what runs around each of the worker's handlers: around the handler only, the first one outermost.

            @worker.middleware
            async def timed(delivery, call_next):
                began = time.monotonic()
                try:
                    return await call_next(delivery)
                finally:
                    observe(delivery.queue, time.monotonic() - began)

        It sees what the handler returns or raises, and decides what counts: what it returns, or raises itself, such as
        `Retry` and `Reject`. An `async def` wraps both kinds of handlers, around the hop to the thread; a plain
        function runs in the thread with plain handlers, inside of all async ones, and a worker that has an async
        handler beside it does not start.

        A handler's timeout counts for its middleware, too. It should let `asyncio.CancelledError` through.

        Raises:
            InvalidHandler: it takes other arguments, or yields instead of returning.
        """
        middleware.check(function)
        self._middleware = shapes.with_one_more(self._middleware, function)
        return function

    def run(self, *, burst: bool = False) -> int:
        """Work until SIGTERM, SIGINT or SIGHUP, or `stop()`; give the process' exit code.

        The first signal stops claiming, hands back what has not started and gives running handlers `grace` seconds;
        then they are handed back, too. A second signal cuts the grace short. No handler can end it otherwise, whatever
        it does to the event loop. With `burst`, also end when the queues
        have nothing ready. The exit code is 0, or 1 when the process has to be replaced: `max_stuck` plain handlers
        overran their timeouts, or for `stale_after` seconds it wanted messages and got no answer.

        It does not wait for threads that handlers have left; those that Python will wait for, it names in the log. A
        handler that holds the event loop beyond all this after a signal is ended with its process. SIGHUP stays ignored
        where it was, as under `nohup`.

        Raises:
            WorkerError: an event loop runs in this thread: `await worker.run_async()` there. Or this worker runs.
            MissingCredentials, Forbidden, InvalidSettings, Unavailable: at the start.
        """
        if asyncio._get_running_loop() is not None:
            raise WorkerError("An event loop runs in this thread already: there, `await worker.run_async()`.")
        process.open_standard_streams()
        before = {*threading.enumerate()}
        with process.catching_to_the_end():
            try:
                return loops.run(self._run(burst, signals=True), loops.fastest(), foreign=True)
            finally:
                process.warn_of_threads(before)

    async def run_async(self, *, burst: bool = False) -> int:
        """Work until `stop()` is called or the task is cancelled. See `run`; the signals are left to the caller."""
        return await self._run(burst, signals=False)

    def stop(self) -> None:
        """Stop as the first SIGTERM does; called again, as the second. From any thread, or a signal handler.

        Before the worker runs, it makes the next run end as soon as it has begun.
        """
        self._ending.ask()

    async def _run(self, burst: bool, signals: bool) -> int:
        options.switch_of("burst", burst)
        if not (self._handlers or self._schedules):
            raise WorkerError("This worker has no handler: decorate a function with @worker.handler(QUEUE).")
        if self._ending.loop is not None:
            raise WorkerError("This worker is running: a second run at the same time takes a Worker of its own.")
        settings = Settings.merged(self._settings, None)
        caller = Caller(settings, self._credentials)
        for queue in self._handlers:
            caller.authorise("work", queue, None)
        for schedule in self._schedules:
            caller.authorise("queue", schedule.queue, None)
        preload.read_all()
        handlers, turns = self._share_slots()
        run = Run([Part(caller, handlers, turns, self._schedules, self._lifespan)], self._ending)
        return await run.to_the_end(burst, self.stop if signals else None)

    def _share_slots(self) -> tuple[list[Handler], Turns | None]:
        """Return how many slots each handler has, and whether they are taken in turns."""
        slots = self._concurrency or max((handler.concurrency for handler in self._handlers.values()), default=1)
        handlers = [
            wrapped(replace(handler, concurrency=min(slots, handler.concurrency)), self._middleware)
            for handler in self._handlers.values()
        ]
        ranks = {handler.priority for handler in handlers}
        shared = len(handlers) > 1 and (self._concurrency is not None or len(ranks) > 1)
        return handlers, Turns(slots, weighted=self._order == "weighted") if shared else None


def _check_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} takes a whole number from 1 to {most:,}")
