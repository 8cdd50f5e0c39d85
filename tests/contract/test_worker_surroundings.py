"""What handlers run in: a context of their own, a watched loop, and a timeout that counts whoever kept the loop."""

from __future__ import annotations

import asyncio
import decimal
import functools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context, ContextVar
from datetime import datetime
from typing import Any

import pytest

from redisq import Delivery, RedisQ, Status, Worker, embedded
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, asynchronous, plain

kinds = pytest.mark.parametrize("kind", [asynchronous, plain])
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture
def bench(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5))
    yield made
    made.client.close()


# --- Contexts ---


def leave_traces(delivery: Delivery) -> list[Any]:
    """Tell what is set, and set it otherwise."""
    found = [tenant.get(), decimal.getcontext().prec]
    tenant.set(f"message {delivery.request}")
    decimal.getcontext().prec = 5
    return found


@pytest.mark.full(keep=1)
@kinds
@pytest.mark.parametrize("used", [True, False], ids=["decimal used before", "decimal not used"])
def test_each_message_has_a_fresh_copy_of_the_context_of_run(bench: Bench, kind: Any, used: bool) -> None:
    bench.worker.handler("orders", concurrency=1)(kind(leave_traces))
    ids = bench.client.queue_messages("orders", range(5))

    def run() -> None:
        tenant.set("the worker")
        if used:
            decimal.getcontext().prec = 40
        assert bench.worker.run(burst=True) == 0
        assert tenant.get() == "the worker"

    thread = threading.Thread(target=Context().run, args=(run,))
    thread.start()
    thread.join(30)
    precision = 40 if used else decimal.DefaultContext.prec
    assert [bench.client.get_message("orders", id).result for id in ids] == [["the worker", precision]] * 5


@kinds
def test_what_a_plain_handler_returns_is_awaited_in_its_context(bench: Bench, kind: Any) -> None:
    async def later() -> str:
        return tenant.get()

    def handle(delivery: Delivery) -> Any:
        tenant.set(f"message {delivery.request}")
        return later()

    bench.worker.handler("orders", concurrency=1)(kind(handle))
    found = bench.finish(*bench.client.queue_messages("orders", range(3)))
    assert [message.result for message in found] == ["message 0", "message 1", "message 2"]


@pytest.mark.full(keep=1)
@kinds
def test_each_tick_has_a_fresh_copy_of_the_context(bench: Bench, kind: Any) -> None:
    found, done = list[Any](), asyncio.Event()

    def look(tick: datetime) -> str:
        found.append((tenant.get(), decimal.getcontext().prec))
        tenant.set("a tick")
        decimal.getcontext().prec = 5
        return "tick"

    async def look_async(tick: datetime) -> str:
        return look(tick)

    bench.worker.every("* * * * * *", queue="reports", name="report")(look if kind is plain else look_async)

    @bench.worker.handler("reports")
    async def take(delivery: Delivery) -> None:
        if len(found) > 1:
            done.set()

    async def main() -> None:
        tenant.set("the worker")
        decimal.getcontext().prec = 40
        running = asyncio.create_task(bench.worker.run_async())
        await asyncio.wait_for(done.wait(), 30)
        bench.worker.stop()
        assert await running == 0

    asyncio.run(main())
    assert set(found) == {("the worker", 40)}


# --- What is awaited ---


async def answer(delivery: Delivery) -> str:
    await asyncio.sleep(0)
    assert threading.current_thread() is threading.main_thread()
    return f"answered {delivery.request}"


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return wrapper


def unnamed(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda delivery: function(delivery)


class Awaited:
    """Something of the user's own that can be awaited."""

    def __init__(self, inner: Awaitable[Any]) -> None:
        self.inner = inner

    def __await__(self) -> Any:
        return self.inner.__await__()


async def forgotten(delivery: Delivery) -> Any:
    return answer(delivery)


def bound(delivery: Delivery, how: str) -> Any:
    return answer(delivery)


AWAITED = [
    *(logged(answer), unnamed(answer), unnamed(logged(answer)), lambda delivery: Awaited(answer(delivery)), forgotten),
    *(functools.partial(bound, how="x"), functools.partial(logged(answer))),
]


@pytest.mark.parametrize("number", range(len(AWAITED)))
def test_what_can_be_awaited_is(bench: Bench, number: int) -> None:
    bench.worker.handler("orders")(AWAITED[number])
    (found,) = bench.finish(bench.client.queue_message("orders", 7))
    assert (found.status, found.result) == (Status.COMPLETE, "answered 7")


def test_a_coroutine_behind_a_plain_function_has_its_timeout_and_is_cancelled(bench: Bench) -> None:
    cancelled = []

    async def hang(delivery: Delivery) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(delivery.cancelled)
            raise

    bench.worker.handler("orders", timeout=0.2)(unnamed(hang))
    (found,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (found.error["type"], found.attempts, cancelled) == ("TimeoutError", 2, [True, True])


def test_a_coroutine_behind_a_plain_function_is_handed_back_when_the_worker_stops(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hang(delivery: Delivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    bench.worker.handler("orders")(unnamed(hang))
    bench.client.queue_message("orders", 1)

    async def main() -> None:
        running = asyncio.create_task(bench.worker.run_async())
        await asyncio.wait_for(begun.wait(), 30)
        bench.worker.stop()
        bench.worker.stop()
        assert await asyncio.wait_for(running, 30) == 0

    asyncio.run(main())
    stats = bench.client.stats("orders")
    assert (stats.ready, stats.in_progress, stats.released) == (1, 0, 1)


def test_a_generator_that_is_returned_is_rejected_with_what_to_do(bench: Bench) -> None:
    bench.worker.handler("orders")(lambda delivery: (number for number in range(3)))
    (found,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (found.error["reason"], found.attempts) == ("rejected", 1)
    assert "the handler returned a generator, which nobody runs" in found.error["message"]


# --- Timeouts, and the loop ---


@pytest.mark.full(keep=2)
@kinds
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_who_blocks_the_loop_beyond_the_timeout_has_overrun_it(bench: Bench, kind: Any, ends: str) -> None:
    def block(delivery: Delivery) -> str:
        time.sleep(0.5)
        if ends == "raises":
            raise ValueError("too late to be told")
        return "too late"

    bench.worker.handler("orders", timeout=0.2)(kind(block))
    (found,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (found.status, found.attempts) == (Status.ERROR, 2)
    assert found.error["type"] == "TimeoutError"


def test_a_plain_handler_is_judged_by_its_own_time_whoever_keeps_the_loop(bench: Bench) -> None:
    """One that has returned in time has not overrun, though the loop hears of it much later; one that has not, has."""
    blocked, released = threading.Event(), threading.Event()

    @bench.worker.handler("blocks")
    async def block(delivery: Delivery) -> None:
        blocked.set()
        released.wait(20)

    @bench.worker.handler("orders", timeout=1, concurrency=2, max_attempts=1)
    def work(delivery: Delivery) -> str:
        bench.client.queue_message("blocks", 1)
        blocked.wait(20)
        if delivery.request == "slow":
            time.sleep(1.5)
            released.set()
        return "done"

    quick, slow = bench.finish(*bench.client.queue_messages("orders", ["quick", "slow"]))
    assert (quick.status, quick.result) == (Status.COMPLETE, "done")
    assert (slow.status, slow.error["type"]) == (Status.ERROR, "TimeoutError")


def block_secretly(seconds: float) -> None:
    time.sleep(seconds)


def test_who_holds_the_loop_is_told_once_with_the_stack(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @bench.worker.handler("orders", concurrency=1)
    async def hold(delivery: Delivery) -> None:
        block_secretly(1.6)

    @bench.worker.handler("letters")
    async def quick(delivery: Delivery) -> None:
        block_secretly(0.01)

    before = set(threading.enumerate())
    bench.client.queue_messages("letters", range(20))
    with caplog.at_level(logging.WARNING, "redisq.worker"):
        bench.finish(*bench.client.queue_messages("orders", ["secret", "secret"]))
    told = [record for record in caplog.records if "held the event loop" in record.getMessage()]
    assert len(told) == 1
    text = told[0].getMessage()
    assert text.startswith("queue orders: its handler has held the event loop for more than 1 s")
    assert "test_worker_surroundings.py:" in text
    assert text.index(" hold") < text.index(" block_secretly")
    assert "\n" not in text
    assert set(threading.enumerate()) <= before | {threading.main_thread()} | {
        thread for thread in threading.enumerate() if thread.name.startswith(("asyncio", "ThreadPool"))
    }


def test_a_loop_that_waits_is_held_by_nobody(real_server: embedded.EmbeddedServer, namespace: str, caplog: Any) -> None:
    settings = settings_for(real_server.url, namespace)
    worker = Worker(settings=settings)

    @worker.handler("orders")
    async def wait(delivery: Delivery) -> None:
        await asyncio.sleep(1.5)

    @worker.handler("letters")
    def wait_in_a_thread(delivery: Delivery) -> None:
        time.sleep(1.5)

    with RedisQ(settings=settings) as client, caplog.at_level(logging.WARNING, "redisq.worker"):
        client.queue_message("orders", 1)
        client.queue_message("letters", 1)
        assert worker.run(burst=True) == 0
    assert [record for record in caplog.records if "event loop" in record.getMessage()] == []
