"""A worker that can fetch nothing any more ends with exit code 1; one that has no slot free is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from redisq import Delivery, Settings, Worker, embedded
from redisq.worker.watchdog import Fetches, Watchdog
from tests.conftest import settings_for
from tests.support.servers.proxy import Proxy


def worker_of(settings: Settings, handle: Callable[[Delivery], Any], **options: Any) -> Worker:
    worker = Worker(settings=settings)
    worker.handler("orders", **options)(handle)
    return worker


async def nothing(_: Delivery) -> None:
    return None


def test_without_redis_it_ends_to_be_replaced(proxy: Proxy, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(proxy.url, namespace, stale_after=1, command_timeout=0.2, connect_timeout=0.2, grace=1)

    async def run() -> int:
        running = asyncio.create_task(worker_of(settings, nothing).run_async())
        await asyncio.sleep(0.3)
        proxy.reset(b"\r\n", times=1_000_000)
        return await asyncio.wait_for(running, 30)

    assert asyncio.run(run()) == 1
    assert "REDISQ_STALE_AFTER" in caplog.text


@pytest.mark.full
def test_an_idle_worker_is_well(server: embedded.EmbeddedServer, namespace: str) -> None:
    settings = settings_for(server.url, namespace, stale_after=6)  # an idle worker asks every 5 s

    async def run() -> int:
        worker = worker_of(settings, nothing)
        running = asyncio.create_task(worker.run_async())
        await asyncio.sleep(8)
        worker.stop()
        return await running

    assert asyncio.run(run()) == 0


@pytest.mark.full
def test_a_worker_whose_slots_are_taken_is_well(
    server: embedded.EmbeddedServer, namespace: str, make_client: Any
) -> None:
    settings = settings_for(server.url, namespace, stale_after=0.5)
    client = make_client(settings)

    async def slow(_: Delivery) -> None:
        await asyncio.sleep(2)

    async def run() -> int:
        worker = worker_of(settings, slow, concurrency=1)
        running = asyncio.create_task(worker.run_async(burst=True))
        return await running

    id = client.queue_message("orders", None)
    assert asyncio.run(run()) == 0
    assert client.get_message("orders", id).status == "COMPLETE"


def test_fetches() -> None:
    fetches = Fetches()
    assert fetches.stale_for() >= 0
    fetches.not_wanted()
    assert fetches.stale_for() == 0
    fetches.succeeded()
    first = fetches.stale_for()
    assert fetches.stale_for() >= first


def test_a_loop_that_is_kept_is_ended_with_its_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("redisq.worker.watchdog.process.end", leave)
    stale: list[float] = []
    watchdog = Watchdog("w-1", [Fetches()], 0.05, stale.append, kill_after=0.1)
    with pytest.raises(SystemExit) as ended:
        watchdog.run()
    assert (ended.value.code, len(stale)) == (1, 1)
    assert "keeps the event loop" in caplog.text
