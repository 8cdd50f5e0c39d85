"""A queue that needs a newer redisq: who is too old says so by name, and does what else there is to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisq import Delivery, RedisQ, UpgradeNeeded, Worker
from tests.conftest import Raw

NEEDS = "groups@9.1.0"


def test_a_client_says_which_version_it_takes(make_client: Any, raw_real: Raw) -> None:
    mq = make_client(raw_real.settings)
    id = mq.queue_message("orders", "hello")
    raw_real.redis.hset(raw_real.keys.config, "needs", NEEDS)
    for operation in (
        lambda: mq.queue_message("orders", "hello"),
        lambda: mq.get_message("orders", id),
        lambda: mq.get_message("orders", id, wait=5),
        lambda: mq.delete_message("orders", id),
        lambda: mq.stats("orders"),
        lambda: mq.define("orders", max_length=5),
    ):
        with pytest.raises(UpgradeNeeded, match=r"needs groups, which takes redisq 9\.1\.0 or later: nothing was"):
            operation()
    raw_real.redis.hdel(raw_real.keys.config, "needs")
    assert mq.get_message("orders", id).request == "hello"


def test_the_doctor_says_so(make_client: Any, raw_real: Raw) -> None:
    mq = make_client(raw_real.settings)
    mq.queue_message("orders", "hello")
    raw_real.redis.hset(raw_real.keys.config, "needs", NEEDS)
    (finding,) = mq.doctor("orders", fix=True)
    assert (finding.code, finding.severity) == ("upgrade-needed", "error")
    assert "9.1.0" in finding.meaning


def test_a_worker_goes_on_with_other_queues_and_with_this_one_once_it_may(
    raw_real: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    settings, done = raw_real.settings.model_copy(update={"stale_after": 1.0}), []
    worker = Worker(settings=settings)

    @worker.handler("orders")
    @worker.handler("mails")
    async def handle(delivery: Delivery) -> None:
        done.append(delivery.queue)

    async def until(count: int) -> None:
        while len(done) < count:
            await asyncio.sleep(0.01)

    async def run() -> int:
        with RedisQ(settings=settings) as mq:
            mq.queue_message("orders", "hello")
            raw_real.redis.hset(raw_real.keys.config, "needs", NEEDS)
            running = asyncio.create_task(worker.run_async())
            await asyncio.sleep(3)  # longer than a worker lives that can fetch nothing
            mq.queue_message("mails", "hello")
            await until(1)
            raw_real.redis.hdel(raw_real.keys.config, "needs")
            await until(2)
            worker.stop()
            return await running

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 0
    assert done == ["mails", "orders"]
    assert "queue orders: no claim: The queue needs groups, which takes redisq 9.1.0 or later" in caplog.text
