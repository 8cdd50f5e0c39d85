"""One run of a process' workers, from their first look at Redis to their last outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redisq import store
from redisq.claims.hints import hear
from redisq.claims.identity import about, process_name
from redisq.claims.suspects import Suspects
from redisq.errors import InvalidHandler, InvalidSettings, RedisQError, Unavailable
from redisq.link.aio import AsyncLink
from redisq.link.faults import is_login
from redisq.operations.caller import Caller, limits_of
from redisq.runtime import logs, process
from redisq.settings import Settings
from redisq.store import keys
from redisq.tokens.scopes import is_queue
from redisq.worker.burst import Burst
from redisq.worker.consumer import Consumer
from redisq.worker.deliveries import Deliveries
from redisq.worker.ending import Ending
from redisq.worker.handlers.contexts import Contexts
from redisq.worker.handlers.error_text import type_name
from redisq.worker.handlers.lifespan import Function, Lifespan
from redisq.worker.handlers.loop_watch import LoopWatch
from redisq.worker.handlers.runners import Handler, Surroundings
from redisq.worker.heartbeat import Heartbeat
from redisq.worker.outcomes import OutcomeLog
from redisq.worker.schedule import Schedule, Scheduler
from redisq.worker.slots import Turns
from redisq.worker.watchdog import Fetches, Watchdog

log = logs.logger("redisq.worker")

_LAST_WORDS = 1.0  # seconds for cancelled handlers to end
_FAREWELL = 5.0  # seconds for the last outcomes to reach Redis; what does not is delivered again after its lease


@dataclass
class Part:
    """One worker's part of a run: its connections, its schedules, and a consumer for each of its handlers.

    `lifespan` is what it wants open meanwhile.
    """

    caller: Caller
    handlers: Sequence[Handler]
    turns: Turns | None
    schedules: Sequence[Schedule]
    lifespan: Function | None = None
    name: str = field(default_factory=process_name)
    consumers: list[Consumer] = field(default_factory=list)
    scheduler: Scheduler | None = None
    #: of its consumers, once there are some
    fetches: list[Fetches] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """Its worker's settings."""
        return self.caller.settings

    async def connect(self, stack: AsyncExitStack) -> None:
        """Find its server; what is opened is closed by the stack."""
        self._link = AsyncLink(self.settings)
        self._claims = AsyncLink(self.settings.model_copy(update={"retry_deadline": 0.0}))
        await self._link.endpoint()
        stack.push_async_callback(self._link.close)
        stack.push_async_callback(self._claims.close)

    async def look_around(self, stack: AsyncExitStack) -> None:
        """Have leases renewed from now on, and see that the server and the queues are what they should be."""
        self._heartbeat = Heartbeat(self.settings, self.name, asyncio.get_running_loop())
        self._heartbeat.start()
        stack.push_async_callback(_end, self._heartbeat)
        await self._claims.check_server()
        await self._check_queues(self._claims)
        await self._heartbeat.connected()

    def make_consumers(self, surroundings: Surroundings, suspects: Suspects, on_stuck: Callable[[], None]) -> None:
        """Get ready to claim."""
        outcomes = OutcomeLog(self.name, self.settings.log_errors)
        for handler in self.handlers:
            where = self.caller.keys_of(handler.queue)
            limits = limits_of(self.settings.model_copy(update=handler.policy))
            deliveries = Deliveries(
                *(handler, where, limits, self._link, self.name, self._heartbeat),
                *(suspects, self.turns, surroundings, on_stuck, outcomes),
            )
            made = Consumer(deliveries, where, limits, self._link, self._claims, self.name, suspects)
            self.consumers.append(made)
            self.fetches.append(made.fetcher.fetches)
        self._surroundings = surroundings

    async def hear(self) -> None:
        """Pass on what is heard of messages that its consumers hold, for ever."""
        queues = [self.caller.keys_of(handler.queue) for handler in self.handlers]
        hinted = zip(queues, self.consumers, strict=True)
        await hear(self._link, {keys.hints: consumer.deliveries.hint for keys, consumer in hinted})

    def loops(self, burst: Burst | None) -> list[Coroutine[Any, Any, None]]:
        """Return what is to run until it is stopped."""
        if self.handlers:
            log.info("working on %s", ", ".join(handler.queue for handler in self.handlers), extra=about(self.name))
        loops = [consumer.fetcher.run(burst) for consumer in self.consumers]
        if self.schedules and burst is None:
            names = ", ".join(schedule.name for schedule in self.schedules)
            log.info("queueing on schedule: %s", names, extra=about(self.name))
            self.scheduler = Scheduler(self.schedules, self.caller, self._link, self.name, self._surroundings)
            loops.append(self.scheduler.run())
        return loops

    def stop(self) -> None:
        """Queue no more on schedule, claim no more, hand back what has not started."""
        if self.scheduler is not None:
            self.scheduler.stop()
        for consumer in self.consumers:
            consumer.stop()

    async def _check_queues(self, link: AsyncLink) -> None:
        """Warn of handlers whose queue does not exist: so look slips in its name, the namespace and the server."""
        namespace = self.settings.namespace
        try:
            registry = await link.call(store.queues.registry(keys.queues_key(namespace)))
            server = (await link.endpoint()).server
        except RedisQError as error:
            if is_login(error):  # as much a slip as a bad URL; once it has worked, it is an outage
                raise InvalidSettings(str(error)) from None
            log.debug("queues not listed: %s", error, extra=about(self.name))
            return
        known, made_here = list(filter(is_queue, registry)), {schedule.queue for schedule in self.schedules}
        for queue in {handler.queue for handler in self.handlers} - registry.keys() - made_here:
            log.log(
                logging.WARNING if known else logging.INFO,  # without any queue it is the service that is new
                "queue %s: no message was ever queued to it in namespace %s at %s. %s",
                *(queue, namespace, server, keys.others(queue, known)),
                extra=about(self.name, queue),
            )


class Run:
    """Claims for handlers and keeps schedules until it is told to stop, or its burst is over. It is run once."""

    def __init__(self, parts: Sequence[Part], ending: Ending) -> None:
        self._parts = parts
        self._ending = ending
        self._about = about(parts[0].name)
        self._lives: dict[Function, Lifespan] = {}
        self._leave_until = 0.0  # by the loop's clock: the end of the grace

    async def to_the_end(self, burst: bool, on_signal: Callable[[], None] | None) -> int:
        """Run, and return the exit code. With `on_signal` the process is this run's: it is called at a signal."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            self._ending.begin()
            stack.callback(self._ending.ended)
            stack.enter_context(process.guarding(loop))
            for part in self._parts:
                await part.connect(stack)
            if on_signal is not None:
                stack.enter_context(process.catching(lambda _: on_signal(), loop, self._ending.note_signal))
            watch = LoopWatch(loop, self._parts[0].name)
            watch.start()
            stack.push_async_callback(_end, watch)
            for part in self._parts:
                watchdog = self._watchdog(part, loop, may_kill=on_signal is not None)
                watchdog.start()
                stack.push_async_callback(_end, watchdog)
                await part.look_around(stack)
            if await self._enter_lifespans(stack):
                self._make_consumers(stack, watch)
                await self._work(burst)
        return self._ending.exit_code

    async def _enter_lifespans(self, stack: AsyncExitStack) -> bool:
        """Enter each lifespan once, in the order of the workers; return False when nothing may be claimed."""
        for function in dict.fromkeys(part.lifespan for part in self._parts if part.lifespan is not None):
            if self._ending.stop.is_set():
                return False
            life = self._lives[function] = Lifespan(function, partial(self._ended_by_itself, function))
            stack.push_async_callback(self._leave, life)
            try:
                if not await life.enter(self._ending.stop):
                    return False
            except InvalidHandler:
                raise
            except BaseException as error:  # SystemExit too
                if _is_cancelled():
                    raise
                text = "the lifespan %s failed at its start, and nothing is claimed: %s"
                log.error(text, life.name, type_name(error), exc_info=self._traced(error), extra=self._about)
                self._ending.fail()
                return False
        return True

    def _traced(self, error: BaseException) -> BaseException | None:
        """Return what a lifespan has raised, if its traceback may be logged."""
        return error if all(part.settings.log_errors == "full" for part in self._parts) else None

    def _ended_by_itself(self, function: Function) -> None:
        log.error(
            "the lifespan %s ended while the worker works: it stops", self._lives[function].name, extra=self._about
        )
        self._ending.give_up()

    async def _leave(self, life: Lifespan) -> None:
        """Let a lifespan end, in what is left of the grace, but in some seconds at least."""
        left = self._leave_until - asyncio.get_running_loop().time()
        error = await life.leave(max(_FAREWELL, left), self._ending.hurry)
        if isinstance(error, InvalidHandler):
            raise error
        if error is not None:
            text = "the lifespan %s failed at its end: %s"
            log.error(text, life.name, type_name(error), exc_info=self._traced(error), extra=self._about)
            self._ending.fail()

    def _make_consumers(self, stack: AsyncExitStack, watch: LoopWatch) -> None:
        suspects = Suspects(sum(handler.concurrency for part in self._parts for handler in part.handlers))
        for part in self._parts:
            life = self._lives.get(part.lifespan) if part.lifespan is not None else None
            context = copy_context() if life is None else life.context
            part.make_consumers(
                Surroundings(Contexts(context), watch, life and life.state, part.settings.traceback_bytes),
                suspects,
                partial(self._check_stuck, part),
            )
            for consumer in part.consumers:
                stack.push_async_callback(consumer.close)
            stack.push_async_callback(_cancel, asyncio.create_task(part.hear()))

    async def _work(self, burst: bool) -> None:
        common = Burst([consumer.fetcher for consumer in self._consumers()]) if burst else None
        running = asyncio.gather(*(loop for part in self._parts for loop in part.loops(common)))
        stopped = asyncio.create_task(self._ending.stop.wait())
        try:
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # a burst has ended; or a fault of ours, which must not be hidden
            log.info("stopping", extra=self._about)
            await self._wind_down(running, self._grace)
        except asyncio.CancelledError:
            await self._wind_down(running, 0.0)
            raise
        finally:
            stopped.cancel()
            running.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)

    async def _wind_down(self, claiming: asyncio.Future[Any], grace: float) -> None:
        self._leave_until = asyncio.get_running_loop().time() + grace
        for part in self._parts:
            part.stop()
        await self._wait_until_idle(grace)
        for consumer in self._consumers():
            consumer.deliveries.cancel_all()
        await self._wait_until_idle(_LAST_WORDS, hurried=True)
        for consumer in self._consumers():
            consumer.deliveries.hand_back()
        try:
            async with asyncio.timeout(_FAREWELL):
                await asyncio.shield(claiming)  # a claim under way may still bring messages, to be handed back
                await asyncio.gather(*(consumer.leave() for consumer in self._consumers()))
        except (TimeoutError, Unavailable) as error:
            if unsent := sum(consumer.unsent for consumer in self._consumers()):
                text = "%d outcomes did not reach Redis, their messages are delivered again after their leases: %s"
                log.warning(text, unsent, str(error) or "no answer in time", extra=self._about)
        except RedisQError as error:
            log.warning("leaving: %s", error, extra=self._about)

    async def _wait_until_idle(self, seconds: float, hurried: bool = False) -> None:
        """Wait until no handler runs, `seconds` have passed, or, unless `hurried`, a second signal came."""
        idle = [consumer.deliveries.idle() for consumer in self._consumers()]
        waits: list[asyncio.Future[Any]] = [asyncio.gather(*idle)]
        if not hurried:
            waits.append(asyncio.ensure_future(self._ending.hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _consumers(self) -> list[Consumer]:
        return [consumer for part in self._parts for consumer in part.consumers]

    @property
    def _grace(self) -> float:
        return max(part.settings.grace for part in self._parts)

    def _check_stuck(self, part: Part) -> None:
        stuck = sum(consumer.deliveries.stuck for consumer in part.consumers)
        if stuck >= part.settings.max_stuck and not self._ending.stop.is_set():
            text = "%d handlers overran their timeouts and hold their threads: this process ends to be replaced"
            log.error(text, stuck, extra=about(part.name))
            self._ending.give_up()

    def _watchdog(self, part: Part, loop: asyncio.AbstractEventLoop, may_kill: bool) -> Watchdog:
        def on_stale(seconds: float) -> None:
            text = "no message was fetched for %.0f s (REDISQ_STALE_AFTER): this worker ends to be replaced"
            log.error(text, seconds, extra=about(part.name))
            loop.call_soon_threadsafe(self._ending.give_up)

        leaving = len({part.lifespan for part in self._parts} - {None}) * (_FAREWELL + _LAST_WORDS)
        kill_after = self._grace + _LAST_WORDS + _FAREWELL + leaving if may_kill else None
        return Watchdog(part.name, part.fetches, part.settings.stale_after, on_stale, kill_after, self._ending)


def _is_cancelled() -> bool:
    """Return whether this run is; what the user's code raises may look like it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _end(thread: Heartbeat | Watchdog | LoopWatch) -> None:
    thread.stop()
    while thread.is_alive():  # not joined in a thread: the loop's own may all be taken by handlers
        await asyncio.sleep(0.005)
