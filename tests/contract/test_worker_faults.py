"""A fault of redisq's own in a worker's background work is logged, and the work goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from redisq import RedisQ, Status, Worker, embedded, store
from tests.conftest import settings_for


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("broken", ["renew", "sweep", "complete"])
def test_one_fault_stops_no_background_work(
    real_server: embedded.EmbeddedServer,
    namespace: str,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = settings_for(real_server.url, namespace, lease=0.6, grace=5)
    worker = Worker(settings=settings)
    works, faults = getattr(store.deliveries, broken), []

    def faulty(*args: Any, **options: Any) -> Any:
        if not faults:
            faults.append(broken)
            raise ZeroDivisionError("a fault of our own")
        return works(*args, **options)

    monkeypatch.setattr(store.deliveries, broken, faulty)

    @worker.handler("orders")
    async def work(delivery: Any) -> str:
        await asyncio.sleep(2)
        return "done"

    async def main(client: RedisQ) -> Any:
        running = asyncio.create_task(worker.run_async())
        id = await asyncio.to_thread(client.queue_message, "orders", 1)
        message = await asyncio.to_thread(client.get_message, "orders", id, wait=20)
        while not faults:
            await asyncio.sleep(0.01)
        worker.stop()
        assert await running == 0
        return message

    with RedisQ(settings=settings) as client, caplog.at_level(logging.ERROR, "redisq.worker"):
        message = asyncio.run(main(client))
    assert (message.status, message.result) == (Status.COMPLETE, "done")
    assert message.attempts == (2 if broken == "complete" else 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
