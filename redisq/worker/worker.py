"""`Worker`: registers handlers and runs them until it is told to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypeVar

from redisq import preload
from redisq.errors import InvalidArgument, WorkerError
from redisq.operations import options
from redisq.operations.caller import Caller
from redisq.runtime import logs, loops, process
from redisq.settings import Settings
from redisq.tokens.token import Credentials
from redisq.worker.ending import Ending
from redisq.worker.handlers import lifespan, middleware, shapes
from redisq.worker.handlers.middleware import Middleware, wrapped
from redisq.worker.handlers.runners import Handler
from redisq.worker.registry import Handlers, check_whole, handlers_of, schedules_of
from redisq.worker.run import Part, Run
from redisq.worker.slots import Turns

log = logs.logger("redisq.worker")

L = TypeVar("L", bound=lifespan.Function)
M = TypeVar("M", bound=Middleware)


class Worker(Handlers):
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
            check_whole("concurrency", concurrency, 100_000)
        if order not in ("strict", "weighted"):
            raise InvalidArgument("order takes 'strict' or 'weighted'")
        self._concurrency = concurrency
        self._order = order
        self._settings = settings
        self._credentials = credentials
        super().__init__()
        self._included: list[Handlers] = []
        self._lifespan: lifespan.Function | None = None
        self._middleware: list[Middleware] = []
        self._ending = Ending()

    def include(self, handlers: Handlers) -> None:
        """Work with the handlers and schedules of a module, too; also with those that it collects after this.

        Raises:
            InvalidArgument: these are no `Handlers`, or have a handler for a queue, or a schedule of a name, that this
                worker has.
        """
        if not isinstance(handlers, Handlers) or isinstance(handlers, Worker):
            raise InvalidArgument("include() takes redisq.Handlers; `redisq worker` takes several workers")
        if not any(handlers is other for other in self._included):
            handlers_of((*self._collections(), handlers))
            schedules_of((*self._collections(), handlers))
            self._included.append(handlers)

    def _collections(self) -> Iterable[Handlers]:
        return (*self._included, self)

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
        `Retry`, `Reject` and `Defer`. An `async def` wraps both kinds of handlers, around the hop to the thread; a
        plain function runs in the thread with plain handlers, inside of all async ones, and a worker that has an async
        handler beside it does not start. Around a handler of batches it is called once, with a `Batch`.

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
        return run_together([self], burst=burst)

    async def run_async(self, *, burst: bool = False) -> int:
        """Work until `stop()` is called or the task is cancelled. See `run`; the signals are left to the caller."""
        return await _run([self], burst, signals=False)

    def stop(self) -> None:
        """Stop as the first SIGTERM does; called again, as the second. From any thread, or a signal handler.

        Before the worker runs, it makes the next run end as soon as it has begun.
        """
        self._ending.ask()

    def _part(self, queues: Collection[str] | None, concurrency: int | None, turns: Turns | None) -> Part:
        """Return what is to run: of the handlers those of some queues, with other numbers when these are given."""
        settings = Settings.merged(self._settings, None)
        caller = Caller(settings, self._credentials)
        schedules = list(schedules_of(self._collections()).values())
        handlers = [
            wrapped(handler, self._middleware)
            for queue, handler in handlers_of(self._collections()).items()
            if queues is None or queue in queues
        ]
        for handler in handlers:
            caller.authorise("work", handler.queue, None)
        for schedule in schedules:
            caller.authorise("queue", schedule.queue, None)
        if concurrency is None:
            handlers, turns = self._share_slots(handlers)
        else:
            handlers = [replace(handler, concurrency=concurrency) for handler in handlers]
        handlers = [
            replace(handler, timeout=settings.handler_timeout if handler.timeout is None else handler.timeout)
            for handler in handlers
        ]
        return Part(caller, handlers, turns, schedules, self._lifespan)

    def _share_slots(self, handlers: list[Handler]) -> tuple[list[Handler], Turns | None]:
        """Return how many slots each handler has, and whether they are taken in turns."""
        slots = self._concurrency or max((handler.concurrency for handler in handlers), default=1)
        handlers = [replace(handler, concurrency=min(slots, handler.concurrency)) for handler in handlers]
        ranks = {handler.priority for handler in handlers}
        shared = len(handlers) > 1 and (self._concurrency is not None or len(ranks) > 1)
        return handlers, Turns(slots, weighted=self._order == "weighted") if shared else None


def run_together(
    workers: Sequence[Worker],
    *,
    burst: bool = False,
    queues: Collection[str] | None = None,
    concurrency: int | None = None,
) -> int:
    """Run workers in this process until it is told to stop, and give its exit code; see `Worker.run`.

    Their lifespans are entered in this order, one that several have only once, and left when all have drained. To stop
    one of them stops all. With `queues` only the handlers of these run, and all schedules; with `concurrency` the
    handlers of all workers share so many slots, whatever the code says.

    Raises:
        WorkerError: there is no handler for a queue, or the workers cannot share slots; and as `Worker.run`.
        InvalidArgument: `concurrency` is out of bounds.
    """
    if asyncio._get_running_loop() is not None:
        raise WorkerError("An event loop runs in this thread already: there, `await worker.run_async()`.")
    process.open_standard_streams()
    before = {*threading.enumerate()}
    with process.catching_to_the_end():
        try:
            running = _run(workers, burst, True, queues, concurrency)
            return loops.run(running, loops.fastest(), foreign=True)
        finally:
            process.warn_of_threads(before)


async def _run(
    workers: Sequence[Worker],
    burst: bool,
    signals: bool,
    queues: Collection[str] | None = None,
    concurrency: int | None = None,
) -> int:
    options.switch_of("burst", burst)
    for worker in workers:
        if not (worker.queues or worker.schedules):
            raise WorkerError("This worker has no handler: decorate a function with @worker.handler(QUEUE).")
        if worker._ending.loop is not None:
            raise WorkerError("This worker is running: a second run at the same time takes a Worker of its own.")
    _check_queues(workers, queues)
    turns = None if concurrency is None else _turns(workers, concurrency)
    parts = [worker._part(queues, concurrency, turns) for worker in workers]
    preload.read_all()
    parts = [part for part in parts if part.handlers or part.schedules]
    with _one_ending(workers) as ending:
        run = Run(parts, ending)
        return await run.to_the_end(burst, ending.ask if signals else None)


def _check_queues(workers: Sequence[Worker], queues: Collection[str] | None) -> None:
    known = {queue for worker in workers for queue in worker.queues}
    if not workers or (queues is not None and not queues):
        raise WorkerError("There is nothing to run: name a worker, and a queue of its own with queues=.")
    if unknown := sorted({*(queues or ())} - known):
        has = f"there are handlers for {', '.join(sorted(known))}" if known else "there are none"
        raise WorkerError(f"No handler is for the queue {unknown[0]}: {has}.")


def _turns(workers: Sequence[Worker], concurrency: int) -> Turns:
    check_whole("concurrency", concurrency, 100_000)
    if len(orders := {worker._order for worker in workers}) > 1:
        raise WorkerError("These workers cannot share slots: one has order='weighted' and another one 'strict'.")
    return Turns(concurrency, weighted=orders == {"weighted"})


@contextmanager
def _one_ending(workers: Sequence[Worker]) -> Iterator[Ending]:
    """Have what stops one of these workers stop all of them."""
    ending = workers[0]._ending
    for worker in workers[1:]:
        ending.join(worker._ending)
        worker._ending = ending
    try:
        yield ending
    finally:
        for worker in workers[1:]:
            worker._ending = Ending()
