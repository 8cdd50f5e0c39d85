"""`Worker.stop()` from wherever, and `run()` where a loop runs already."""

from __future__ import annotations

import asyncio
import threading

import pytest

from redisq import Delivery, RedisQ, Worker, WorkerError, embedded
from tests.conftest import settings_for
from tests.support.servers.proxy import Proxy
from tests.system.conftest import eventually


def make(server: embedded.EmbeddedServer, namespace: str) -> Worker:
    worker = Worker(settings=settings_for(server.url, namespace))
    worker.handler("orders")(lambda delivery: None)
    return worker


def test_stop_before_run_is_remembered_once(system_server: embedded.EmbeddedServer, namespace: str) -> None:
    worker = make(system_server, namespace)
    worker.stop()
    assert worker.run() == 0
    timer = threading.Timer(0.2, worker.stop)  # from another thread
    timer.start()
    assert worker.run() == 0
    timer.join()


def test_run_where_a_loop_runs_says_what_to_do(system_server: embedded.EmbeddedServer, namespace: str) -> None:
    async def main() -> None:
        with pytest.raises(WorkerError, match=r"await worker\.run_async\(\)"):
            make(system_server, namespace).run()

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [0, pytest.param(1, marks=pytest.mark.full)])
def test_a_stop_while_redis_is_away_says_how_much_is_lost_by_that(
    system_server: embedded.EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture, waiting: int
) -> None:
    """With nothing to report it waits for no answer."""
    began, go_on = threading.Event(), threading.Event()
    with Proxy(system_server.url) as proxy, RedisQ(settings=settings_for(system_server.url, namespace)) as mq:
        worker = Worker(settings=settings_for(proxy.url, namespace, command_timeout=0.5, retry_deadline=60))

        @worker.handler("orders")
        def handle(delivery: Delivery) -> None:
            began.set()
            go_on.wait(60)

        def conduct() -> None:
            if waiting:
                mq.queue_message("orders", 1)
                assert began.wait(60)
            eventually(lambda: "working on orders" in caplog.text, "the worker")
            proxy.reset(b"\r\n", times=1_000_000)
            proxy.hang_up()
            eventually(lambda: "no claim" in caplog.text, "the outage")
            go_on.set()
            worker.stop()

        with caplog.at_level("INFO", "redisq"):
            conductor = threading.Thread(target=conduct)
            conductor.start()
            assert worker.run() == 0
            conductor.join()
    assert ("1 outcomes did not reach Redis" in caplog.text) == bool(waiting)
    assert "not every outcome" not in caplog.text
