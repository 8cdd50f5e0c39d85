"""Whatever a handler does, its message gets an outcome and its slot is free again; and a run leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redisq import Delivery, Status, Worker, embedded
from redisq.store.keys import partition_keys
from tests.conftest import Raw, settings_for
from tests.contract.test_worker import Bench, asynchronous, plain, untraced


@pytest.fixture
def bench(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5))
    yield made
    made.client.close()


class WithoutText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class WithANumber(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


@pytest.mark.parametrize("kind", [asynchronous, plain])
@pytest.mark.parametrize(("error", "broken"), [(WithoutText, "RuntimeError"), (WithANumber, "TypeError")])
def test_an_exception_that_cannot_be_read_is_an_error_like_any_other(
    bench: Bench, kind: Callable[[Any], Any], error: type[Exception], broken: str
) -> None:
    def handle(delivery: Delivery) -> str:
        if delivery.request == "bad":
            raise error
        return "fine"

    bench.worker.handler("orders", concurrency=1)(kind(handle))
    bad, good = bench.finish(*bench.client.queue_messages("orders", ["bad", "good"]))
    assert untraced(bad) == {
        "type": error.__name__,
        "message": f"The exception has no text: its __str__ raised {broken}.",
        "reason": "failed",
    }
    assert good.result == "fine"


def test_an_async_handler_that_ignores_its_cancellation_fails_at_its_timeout(bench: Bench) -> None:
    go_on = asyncio.Event()
    ended = []

    @bench.worker.handler("orders", timeout=0.05)
    async def deaf(delivery: Delivery) -> str:
        if delivery.attempt == 1:
            while not go_on.is_set():
                try:
                    await go_on.wait()
                except asyncio.CancelledError:
                    assert delivery.cancelled
            ended.append(delivery.attempt)
            return "too late"
        go_on.set()
        return "in time"

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.result, message.attempts) == ("in time", 2)
    assert bench.client.stats("orders").failed == 1
    assert ended == [1]


@pytest.mark.parametrize("kind", [asynchronous, plain])
def test_a_burst_leaves_no_trace_of_its_worker(bench: Bench, raw: Raw, kind: Callable[[Any], Any]) -> None:
    bench.worker.handler("orders")(kind(lambda delivery: delivery.request))
    for _ in range(2):
        bench.client.queue_message("orders", 1)
        assert asyncio.run(bench.worker.run_async(burst=True)) == 0
    assert bench.client.stats("orders").completed == 2
    assert raw.redis.hlen(partition_keys(bench.settings.namespace, "orders").workers) == 0


def test_a_worker_runs_once_at_a_time(bench: Bench) -> None:
    @bench.worker.handler("orders")
    async def handle(delivery: Delivery) -> str:
        with pytest.raises(RuntimeError, match="This worker is running"):
            await bench.worker.run_async()
        return "once"

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert message.result == "once"
    (message,) = bench.finish(bench.client.queue_message("orders", 2))
    assert message.status is Status.COMPLETE


@pytest.mark.full(keep=1)
def test_two_workers_share_one_loop(bench: Bench) -> None:
    seen: list[str] = []
    workers = [Worker(settings=bench.settings) for _ in range(2)]
    for number, worker in enumerate(workers):

        @worker.handler("orders", concurrency=1)
        async def handle(delivery: Delivery, number: int = number) -> int:
            seen.append(delivery.id)
            return number

    ids = bench.client.queue_messages("orders", list(range(50)))

    async def work() -> list[int]:
        return await asyncio.gather(*(worker.run_async(burst=True) for worker in workers))

    assert asyncio.run(work()) == [0, 0]
    assert sorted(seen) == sorted(ids)


@pytest.mark.parametrize("count", [8, 3])
def test_plain_handlers_of_messages_that_came_together_run_at_once(bench: Bench, count: int) -> None:
    """One thread takes what came together, but a handler that waits holds up no other."""
    together = threading.Barrier(count)

    @bench.worker.handler("orders", concurrency=8)
    def meet(delivery: Delivery) -> str:
        together.wait(timeout=20)
        return "met"

    found = bench.finish(*bench.client.queue_messages("orders", range(count)))
    assert [message.result for message in found] == ["met"] * count
