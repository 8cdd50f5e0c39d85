"""A fault of redisq's own in a worker's background work is logged, and the work goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from redisq import InvalidSettings, RedisQ, Status, Worker, embedded, store
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


PASSWORD = "hunter2"


def protected(start_another: Callable[..., embedded.EmbeddedServer]) -> str:
    """Start a server that wants a password, and give its host and port."""
    server = start_another(tcp=True, options={"requirepass": PASSWORD})
    return urlsplit(server.url).netloc.rpartition("@")[2]


@pytest.mark.parametrize(
    ("login", "told"),
    [
        (":wrong-one@", "the user name or password in REDISQ_URL is wrong"),
        ("nobody:hunter2@", "the user name or password in REDISQ_URL is wrong"),
        ("", "it wants a password: put it in REDISQ_URL"),
    ],
)
def test_a_worker_does_not_start_with_a_wrong_login(
    start_another: Callable[..., embedded.EmbeddedServer], namespace: str, login: str, told: str
) -> None:
    worker = Worker(settings=settings_for(f"redis://{login}{protected(start_another)}/0", namespace))
    worker.handler("orders")(nothing)
    with pytest.raises(InvalidSettings, match=told) as caught:
        asyncio.run(asyncio.wait_for(worker.run_async(), 30))
    assert "wrong-one" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def nothing(_: Any) -> None:
    return None


def test_a_login_that_is_refused_later_is_an_outage(
    start_another: Callable[..., embedded.EmbeddedServer], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(f"redis://:{PASSWORD}@{protected(start_another)}/0", namespace)
    worker = Worker(settings=settings)
    worker.handler("orders")(nothing)

    def is_told() -> bool:
        return any("no claim" in record.getMessage() for record in caplog.records)

    async def main(client: RedisQ, office: redis.Redis) -> Status:
        running = asyncio.create_task(worker.run_async())
        first = await asyncio.to_thread(client.queue_message, "orders", 1)
        assert (await asyncio.to_thread(client.get_message, "orders", first, wait=20)).finished
        office.config_set("requirepass", "another")
        office.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(30):
            while not (is_told() or running.done()):
                await asyncio.sleep(0.01)
        office.config_set("requirepass", PASSWORD)
        second = await asyncio.to_thread(client.queue_message, "orders", 2)
        message = await asyncio.to_thread(client.get_message, "orders", second, wait=30)
        worker.stop()
        assert await running == 0
        return message.status

    with RedisQ(settings=settings) as client, redis.Redis.from_url(settings.url) as office:
        assert asyncio.run(main(client, office)) is Status.COMPLETE
