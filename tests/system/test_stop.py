"""`Worker.stop()` from wherever, and `run()` where a loop runs already."""

from __future__ import annotations

import asyncio
import threading

import pytest

from redisq import Worker, WorkerError, embedded
from tests.conftest import settings_for


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
