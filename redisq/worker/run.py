"""One run of a worker, from its first look at Redis to its last outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from redisq import store
from redisq.claims.identity import about, process_name
from redisq.claims.suspects import Suspects
from redisq.errors import InvalidSettings, RedisQError, Unavailable
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
from redisq.worker.handlers.loop_watch import LoopWatch
from redisq.worker.handlers.runners import Handler, Surroundings
from redisq.worker.heartbeat import Heartbeat
from redisq.worker.schedule import Schedule, Scheduler
from redisq.worker.slots import Turns
from redisq.worker.watchdog import Watchdog

log = logs.logger("redisq.worker")

_LAST_WORDS = 1.0  # seconds for cancelled handlers to end
_FAREWELL = 5.0  # seconds for the last outcomes to reach Redis; what does not is delivered again after its lease


@dataclass
class Run:
    """Claims for handlers and keeps schedules until it is told to stop, or its burst is over. It is run once."""

    _caller: Caller
    _handlers: Sequence[Handler]
    _turns: Turns | None
    _schedules: Sequence[Schedule]
    _ending: Ending
    _name: str = field(default_factory=process_name)
    _consumers: list[Consumer] = field(default_factory=list)
    _scheduler: Scheduler | None = None

    @property
    def _settings(self) -> Settings:
        return self._caller.settings

    async def to_the_end(self, burst: bool, on_signal: Callable[[], None] | None) -> int:
        """Run, and return the exit code. With `on_signal` the process is this worker's: it is called at a signal."""
        settings, loop = self._settings, asyncio.get_running_loop()
        link, claims = AsyncLink(settings), AsyncLink(settings.model_copy(update={"retry_deadline": 0.0}))
        heartbeat = Heartbeat(settings, self._name, loop)
        async with AsyncExitStack() as stack:
            self._ending.begin()
            stack.callback(self._ending.ended)
            stack.enter_context(process.guarding(loop))
            await link.endpoint()
            stack.push_async_callback(link.close)
            stack.push_async_callback(claims.close)
            if on_signal is not None:
                stack.enter_context(process.catching(lambda _: on_signal(), loop, self._ending.note_signal))
            heartbeat.start()
            stack.push_async_callback(_end, heartbeat)
            surroundings = Surroundings.here(self._name)
            surroundings.watch.start()
            stack.push_async_callback(_end, surroundings.watch)
            self._consumers = self._make_consumers(link, claims, heartbeat, surroundings)
            for consumer in self._consumers:
                stack.push_async_callback(consumer.close)
            watchdog = self._watchdog(loop, may_kill=on_signal is not None)
            watchdog.start()
            stack.push_async_callback(_end, watchdog)
            if self._schedules and not burst:
                self._scheduler = Scheduler(self._schedules, self._caller, link, self._name, surroundings)
            await claims.check_server()
            await self._look_around(claims)
            await heartbeat.connected()
            await self._work(burst)
        return self._ending.exit_code

    def _make_consumers(
        self, link: AsyncLink, claims: AsyncLink, heartbeat: Heartbeat, surroundings: Surroundings
    ) -> list[Consumer]:
        suspects, name = Suspects(sum(handler.concurrency for handler in self._handlers)), self._name
        turns, made = self._turns, []
        for handler in self._handlers:
            where = self._caller.keys_of(handler.queue)
            limits = limits_of(self._settings.model_copy(update=handler.policy))
            deliveries = Deliveries(
                handler, where, limits, link, name, heartbeat, suspects, turns, surroundings, self._check_stuck
            )
            made.append(Consumer(deliveries, where, limits, link, claims, name, suspects))
        return made

    async def _look_around(self, link: AsyncLink) -> None:
        """Warn of handlers whose queue does not exist: so look slips in its name, the namespace and the server."""
        namespace = self._settings.namespace
        try:
            registry = await link.call(store.queues.registry(keys.queues_key(namespace)))
            server = (await link.endpoint()).server
        except RedisQError as error:
            if is_login(error):  # as much a slip as a bad URL; once it has worked, it is an outage
                raise InvalidSettings(str(error)) from None
            log.debug("queues not listed: %s", error, extra=about(self._name))
            return
        known, made_here = list(filter(is_queue, registry)), {schedule.queue for schedule in self._schedules}
        for queue in {handler.queue for handler in self._handlers} - registry.keys() - made_here:
            log.log(
                logging.WARNING if known else logging.INFO,  # without any queue it is the service that is new
                "queue %s: no message was ever queued to it in namespace %s at %s. %s",
                *(queue, namespace, server, keys.others(queue, known)),
                extra=about(self._name, queue),
            )

    async def _work(self, burst: bool) -> None:
        if self._handlers:
            log.info("working on %s", ", ".join(handler.queue for handler in self._handlers), extra=about(self._name))
        common = Burst([consumer.fetcher for consumer in self._consumers]) if burst else None
        loops = [consumer.fetcher.run(common) for consumer in self._consumers]
        if self._scheduler is not None:
            log.info(
                "queueing on schedule: %s",
                ", ".join(schedule.name for schedule in self._schedules),
                extra=about(self._name),
            )
            loops.append(self._scheduler.run())
        running = asyncio.gather(*loops)
        stopped = asyncio.create_task(self._ending.stop.wait())
        try:
            await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # a burst has ended; or a fault of ours, which must not be hidden
            log.info("stopping", extra=about(self._name))
            await self._wind_down(running, self._settings.grace)
        except asyncio.CancelledError:
            await self._wind_down(running, 0.0)
            raise
        finally:
            stopped.cancel()
            running.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)

    async def _wind_down(self, claiming: asyncio.Future[Any], grace: float) -> None:
        if self._scheduler is not None:
            self._scheduler.stop()
        for consumer in self._consumers:
            consumer.stop()
        await self._wait_until_idle(grace)
        for consumer in self._consumers:
            consumer.deliveries.cancel_all()
        await self._wait_until_idle(_LAST_WORDS, hurried=True)
        for consumer in self._consumers:
            consumer.deliveries.hand_back()
        try:
            async with asyncio.timeout(_FAREWELL):
                await asyncio.shield(claiming)  # a claim under way may still bring messages, to be handed back
                await asyncio.gather(*(consumer.leave() for consumer in self._consumers))
        except (TimeoutError, Unavailable) as error:
            if unsent := sum(consumer.unsent for consumer in self._consumers):
                text = "%d outcomes did not reach Redis, their messages are delivered again after their leases: %s"
                log.warning(text, unsent, str(error) or "no answer in time", extra=about(self._name))
        except RedisQError as error:
            log.warning("leaving: %s", error, extra=about(self._name))

    async def _wait_until_idle(self, seconds: float, hurried: bool = False) -> None:
        """Wait until no handler runs, `seconds` have passed, or, unless `hurried`, a second signal came."""
        idle = [consumer.deliveries.idle() for consumer in self._consumers]
        waits: list[asyncio.Future[Any]] = [asyncio.gather(*idle)]
        if not hurried:
            waits.append(asyncio.ensure_future(self._ending.hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _check_stuck(self) -> None:
        stuck = sum(consumer.deliveries.stuck for consumer in self._consumers)
        if stuck >= self._settings.max_stuck and not self._ending.stop.is_set():
            text = "%d handlers overran their timeouts and hold their threads: this process ends to be replaced"
            log.error(text, stuck, extra=about(self._name))
            self._ending.give_up()

    def _watchdog(self, loop: asyncio.AbstractEventLoop, may_kill: bool) -> Watchdog:
        def on_stale(seconds: float) -> None:
            text = "no message was fetched for %.0f s (REDISQ_STALE_AFTER): this worker ends to be replaced"
            log.error(text, seconds, extra=about(self._name))
            loop.call_soon_threadsafe(self._ending.give_up)

        fetches = [consumer.fetcher.fetches for consumer in self._consumers]
        end_within = self._settings.grace + _LAST_WORDS + _FAREWELL
        kill_after = end_within if may_kill else None
        return Watchdog(self._name, fetches, self._settings.stale_after, on_stale, kill_after, self._ending)


async def _end(thread: Heartbeat | Watchdog | LoopWatch) -> None:
    thread.stop()
    while thread.is_alive():  # not joined in a thread: the loop's own may all be taken by handlers
        await asyncio.sleep(0.005)
