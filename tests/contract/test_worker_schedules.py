"""Recurring messages: each tick is queued once, whatever the number of workers, and whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redisq import Delivery, MissingCredentials, RedisQ, Settings, Worker, embedded
from redisq.store.keys import derived_id, id_text
from tests.conftest import CREDENTIALS, settings_for
from tests.support.servers.proxy import Proxy, script

SECOND = timedelta(seconds=1)
EACH_SECOND = "* * * * * *"


async def until(condition: Callable[[], object], patience: float = 30) -> None:
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.01)


def play(plot: Callable[[], Awaitable[Any]], *workers: Worker) -> None:
    """Run workers on one loop until the plot has ended."""

    async def main() -> None:
        running = [asyncio.create_task(worker.run_async()) for worker in workers]
        try:
            await plot()
        finally:
            for worker in workers:
                worker.stop()
            codes = await asyncio.wait_for(asyncio.gather(*running), 30)
        assert set(codes) == {0}

    asyncio.run(main())


class Ticks:
    """The schedule of each second, and the handler that gets its messages."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.handled: list[tuple[str, datetime]] = []

    def scheduler(self, settings: Settings | None = None, ticked: Callable[[datetime], object] = str) -> Worker:
        """Make a worker that only has the schedule; it tells `ticked` of each tick that it queues."""
        worker = Worker(settings=settings or self.settings)

        @worker.every(EACH_SECOND, queue="reports", timezone="Europe/Berlin", name="report")
        async def report(tick: datetime) -> datetime:
            ticked(tick)
            return tick

        return worker

    def handler(self) -> Worker:
        """Make a worker that only has the handler."""
        worker = Worker(settings=self.settings)

        @worker.handler("reports")
        async def handle(delivery: Delivery) -> None:
            self.handled.append((delivery.id, delivery.request))

        return worker

    def check(self) -> None:
        """Handle the rest; then each tick was there once, under its own id, and none is missing between two."""
        assert asyncio.run(self.handler().run_async(burst=True)) == 0
        ticks = sorted(tick.astimezone(UTC) for _, tick in self.handled)
        assert ticks == [ticks[0] + n * SECOND for n in range(len(ticks))]
        assert sorted(id for id, _ in self.handled) == sorted(
            id_text(derived_id(CREDENTIALS.app, "reports", f"report@{tick:%Y-%m-%dT%H:%M:%SZ}")) for tick in ticks
        )
        with RedisQ(settings=self.settings) as mq:
            assert mq.stats("reports").queued == len(ticks)


@pytest.mark.full
def test_ten_workers_queue_each_tick_once(server: embedded.EmbeddedServer, namespace: str) -> None:
    ticks = Ticks(settings_for(server.url, namespace))
    play(lambda: until(lambda: len(ticks.handled) >= 4), ticks.handler(), *[ticks.scheduler() for _ in range(10)])
    ticks.check()


def test_ticks_go_on_when_workers_come_and_go(real_server: embedded.EmbeddedServer, namespace: str) -> None:
    """No tick is missing while one takes over from another that still runs."""
    ticks = Ticks(settings_for(real_server.url, namespace))

    async def plot() -> None:
        earlier: tuple[Worker, asyncio.Task[int]] | None = None
        for _ in range(3):
            ticked: list[datetime] = []
            worker = ticks.scheduler(ticked=ticked.append)
            running = asyncio.create_task(worker.run_async())
            await until(lambda ticked=ticked: ticked)
            await end(earlier)
            earlier = worker, running
        await end(earlier)

    async def end(earlier: tuple[Worker, asyncio.Task[int]] | None) -> None:
        if earlier is not None:
            worker, running = earlier
            worker.stop()
            assert await running == 0

    play(plot, ticks.handler())
    ticks.check()


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("fault", ["reset", "swallow_request", "cut_reply"])
def test_a_tick_at_which_redis_is_away_is_queued_once_it_is_back(
    proxy: Proxy, real_server: embedded.EmbeddedServer, namespace: str, fault: str
) -> None:
    ticks = Ticks(settings_for(real_server.url, namespace))
    lossy = settings_for(proxy.url, namespace, retry_deadline=0, command_timeout=0.1, connect_timeout=1)

    async def plot() -> None:
        await until(lambda: ticks.handled)
        before = proxy.count(script("queue"))
        getattr(proxy, fault)(script("queue"), times=3)
        await until(lambda: proxy.count(script("queue")) >= before + 4)
        count = len(ticks.handled)
        await until(lambda: len(ticks.handled) > count)

    play(plot, ticks.handler(), ticks.scheduler(lossy))
    ticks.check()


def test_a_tick_that_cannot_be_queued_in_time_is_skipped_with_a_warning(
    proxy: Proxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(proxy.url, namespace, retry_deadline=0, command_timeout=0.1, dedup_window=1)
    ticks = Ticks(settings)
    proxy.reset(script("queue"), times=1_000_000)

    async def plot() -> None:
        await until(lambda: "skipped: Redis at" in caplog.text)
        proxy.heal()
        await until(lambda: ticks.handled)

    play(plot, ticks.handler(), ticks.scheduler())
    skipped = next(record for record in caplog.records if "skipped" in record.getMessage())
    assert (skipped.levelname, skipped.queue) == ("WARNING", "reports")


def test_a_worker_that_only_has_schedules_registers_the_queue(server: embedded.EmbeddedServer, namespace: str) -> None:
    ticks = Ticks(settings_for(server.url, namespace))
    with RedisQ(settings=ticks.settings) as mq:

        async def plot() -> None:
            while not mq.stats("reports").queued:
                await asyncio.sleep(0.01)

        play(plot, ticks.scheduler())
        assert mq.queues() == ["reports"]
    ticks.check()


def test_the_queue_of_a_schedule_is_not_reported_as_unknown(
    real_server: embedded.EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = Ticks(settings_for(real_server.url, namespace))
    worker = ticks.scheduler()
    handled = []

    @worker.handler("reports")
    def handle(delivery: Delivery) -> None:
        handled.append(delivery.id)

    with RedisQ(settings=ticks.settings) as mq, caplog.at_level(logging.INFO, "redisq.worker"):
        mq.queue_message("other", 1)
        play(lambda: until(lambda: handled), worker)
    assert "working on reports" in caplog.text
    assert "queueing on schedule: report" in caplog.text
    assert "no message was ever queued" not in caplog.text


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("with_handler", [True, False])
def test_a_burst_has_no_ticks(server: embedded.EmbeddedServer, namespace: str, with_handler: bool) -> None:
    settings = settings_for(server.url, namespace)
    worker, called, go_on = Worker(settings=settings), [], threading.Event()
    worker.every(EACH_SECOND, queue="reports", name="report")(lambda: called.append(1))

    async def meanwhile() -> None:
        tick = datetime.now(UTC).replace(microsecond=0) + 2 * SECOND
        await until(lambda: datetime.now(UTC) > tick)
        go_on.set()

    async def main() -> None:
        running = asyncio.create_task(worker.run_async(burst=True))
        if with_handler:
            await meanwhile()  # ticks pass while the burst is at its message
        assert await running == 0

    with RedisQ(settings=settings) as mq:
        if with_handler:
            worker.handler("orders")(lambda delivery: go_on.wait(30))
            mq.queue_message("orders", 1)
        asyncio.run(main())
        assert (called, mq.stats("reports").queued) == ([], 0)


def test_a_schedule_needs_a_token_that_may_queue(real_server: embedded.EmbeddedServer, namespace: str) -> None:
    worker = Worker(settings=Settings(url=real_server.url, namespace=namespace, app_id=None, app_secret=None))
    worker.every(EACH_SECOND, queue="reports", name="report")(lambda: 1)
    with pytest.raises(MissingCredentials):
        worker.run()


def test_a_worker_ends_at_once_while_a_schedules_function_hangs(
    real_server: embedded.EmbeddedServer, namespace: str
) -> None:
    worker, begun, let_go = Worker(settings=settings_for(real_server.url, namespace)), [], threading.Event()

    @worker.every(EACH_SECOND, queue="reports")
    def plain() -> None:
        begun.append("plain")
        let_go.wait(60)

    @worker.every(EACH_SECOND, queue="reports")
    async def slow() -> None:
        begun.append("slow")
        await asyncio.sleep(3600)

    play(lambda: until(lambda: {"plain", "slow"} <= set(begun)), worker)
    let_go.set()
