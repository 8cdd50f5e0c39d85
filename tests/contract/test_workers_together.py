"""Several workers in one process: their lifespans, a subset of their queues, other numbers, and one end."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from redisq import (
    Delivery,
    Forbidden,
    Handlers,
    InvalidArgument,
    InvalidSettings,
    RedisQ,
    Settings,
    Status,
    Worker,
    WorkerError,
    embedded,
)
from redisq.worker.worker import run_together
from tests.conftest import settings_for


@pytest.fixture
def settings(real_server: embedded.EmbeddedServer, namespace: str) -> Settings:
    return settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=1, grace=5)


@pytest.fixture
def client(settings: Settings) -> Iterator[RedisQ]:
    with RedisQ(settings=settings) as mq:
        yield mq


@pytest.fixture
def make(settings: Settings) -> Callable[..., Worker]:
    """Make a worker whose handlers return the queue and the state."""

    def made(*queues: str, **values: Any) -> Worker:
        worker = Worker(settings=settings, **values)
        for queue in queues:
            worker.handler(queue)(lambda delivery: [delivery.queue, delivery.state])
        return worker

    return made


def test_each_worker_has_its_own_handlers_and_state(make: Callable[..., Worker], client: RedisQ) -> None:
    events: list[str] = []
    first, second, third = make("a"), make("b"), make("c")

    def living(name: str) -> Any:
        async def opened() -> AsyncIterator[str]:
            events.append(f"enter {name}")
            yield name
            events.append(f"leave {name}")

        return opened

    shared = living("shared")
    first.lifespan(living("first"))
    second.lifespan(shared)
    third.lifespan(shared)
    ids = {queue: client.queue_message(queue, 1) for queue in "abc"}
    assert run_together([first, second, third], burst=True) == 0
    assert [client.get_message(queue, id).result for queue, id in ids.items()] == [
        ["a", "first"],
        ["b", "shared"],
        ["c", "shared"],
    ]
    assert events == ["enter first", "enter shared", "leave shared", "leave first"]


def test_a_second_lifespan_that_fails_leaves_the_first_and_nothing_is_claimed(
    make: Callable[..., Worker], client: RedisQ
) -> None:
    left: list[int] = []
    first, second = make("a"), make("b")

    @first.lifespan
    def good() -> Iterator[None]:
        yield
        left.append(1)

    @second.lifespan
    def bad() -> Iterator[None]:
        raise ConnectionError
        yield

    ids = [client.queue_message(queue, 1) for queue in "ab"]
    assert run_together([first, second], burst=True) == 1
    assert left == [1]
    assert [client.get_message(queue, id).attempts for queue, id in zip("ab", ids, strict=True)] == [0, 0]


def test_a_burst_is_over_when_all_have_nothing_ready(make: Callable[..., Worker], client: RedisQ) -> None:
    """Also what one worker's handler queues for another, whose queue was empty before."""
    first, second = make(), make("b")

    @first.handler("a")
    def pass_on(delivery: Delivery) -> str:
        time.sleep(0.3)
        return client.queue_message("b", delivery.request)

    id = client.queue_message("a", 7)
    assert run_together([first, second], burst=True) == 0
    passed_on = client.get_message("a", id).result
    assert client.get_message("b", passed_on).status == Status.COMPLETE


def test_to_stop_one_stops_all(make: Callable[..., Worker], client: RedisQ) -> None:
    first, second = make("a"), make()

    @second.handler("b")
    def stop(delivery: Delivery) -> None:
        second.stop()

    client.queue_message("b", 1)
    assert run_together([first, second]) == 0
    assert second._ending is not first._ending
    first.stop()  # before a run
    assert run_together([second, first]) == 0


def test_only_some_queues(make: Callable[..., Worker], client: RedisQ) -> None:
    first, second = make("a", "b"), make("c")
    entered: list[int] = []

    @second.lifespan
    def opened() -> Iterator[None]:
        entered.append(1)
        yield

    ids = {queue: client.queue_message(queue, 1) for queue in "abc"}
    assert run_together([first, second], burst=True, queues=["b"]) == 0
    assert {queue: client.get_message(queue, id).attempts for queue, id in ids.items()} == {"a": 0, "b": 1, "c": 0}
    assert not entered, "a worker of which nothing runs opens nothing"
    with pytest.raises(WorkerError, match=r"No handler is for the queue d: there are handlers for a, b, c"):
        run_together([first, second], burst=True, queues=["b", "d"])


@pytest.mark.parametrize("slots", [1, 3])
def test_another_number_counts_for_all_of_them(settings: Settings, client: RedisQ, slots: int) -> None:
    running, most, lock = [0], [0], threading.Lock()

    def handle(delivery: Delivery) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1

    first, second = Worker(settings=settings), Worker(settings=settings)
    first.handler("a", concurrency=1)(handle)
    second.handler("b", concurrency=1)(handle)
    for queue in "ab":
        client.queue_messages(queue, range(12))
    assert run_together([first, second], burst=True, concurrency=slots) == 0
    assert most[0] == slots
    assert [client.stats(queue).completed for queue in "ab"] == [12, 12]


def test_more_slots_than_the_code_says(settings: Settings, client: RedisQ) -> None:
    barrier = threading.Barrier(4, timeout=30)
    worker = Worker(settings=settings)
    worker.handler("a", concurrency=1)(lambda delivery: barrier.wait() and None)
    client.queue_messages("a", range(4))
    assert run_together([worker], burst=True, concurrency=4) == 0
    assert client.stats("a").completed == 4


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, 100_001])
def test_a_bad_number_is_refused(make: Callable[..., Worker], bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="concurrency takes a whole number"):
        run_together([make("a")], burst=True, concurrency=bad)


def test_workers_of_two_orders_cannot_share_slots(make: Callable[..., Worker]) -> None:
    with pytest.raises(WorkerError, match="cannot share slots"):
        run_together([make("a"), make("b", order="weighted")], burst=True, concurrency=3)


def test_one_that_may_not_work_keeps_all_from_starting(
    make: Callable[..., Worker], client: RedisQ, settings: Settings
) -> None:
    other = Worker(settings=Settings(url=settings.url, namespace=settings.namespace))
    other.handler("b")(lambda delivery: None)
    id = client.queue_message("a", 1)
    with pytest.raises(Exception, match="credentials") as caught:
        run_together([make("a"), other], burst=True)
    assert not isinstance(caught.value, Forbidden)
    for workers, queues in (([], None), ([make("a")], [])):
        with pytest.raises(WorkerError, match="nothing to run"):
            run_together(workers, queues=queues)
    with pytest.raises(WorkerError, match="has no handler"):
        run_together([make("a"), make()], burst=True)
    assert client.get_message("a", id).attempts == 0


def test_included_handlers_run_under_the_workers_middleware_and_state(settings: Settings, client: RedisQ) -> None:
    orders, worker = Handlers(), Worker(settings=settings)

    @orders.handler("orders")
    async def handle(delivery: Delivery) -> Any:
        return delivery.state

    @worker.lifespan
    async def opened() -> AsyncIterator[str]:
        yield "open"

    @worker.middleware
    async def doubled(delivery: Delivery, call_next: Callable[[Delivery], Any]) -> Any:
        return [await call_next(delivery)] * 2

    worker.include(orders)
    id = client.queue_message("orders", 1)
    assert worker.run(burst=True) == 0
    assert client.get_message("orders", id).result == ["open", "open"]


# --- A handler's time ---


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_handler_without_a_timeout_has_that_of_the_settings(settings: Settings, client: RedisQ, kind: str) -> None:
    import asyncio

    async def on_loop(delivery: Delivery) -> None:
        await asyncio.sleep(3600 if delivery.request else 0)

    def in_thread(delivery: Delivery) -> None:
        while delivery.request and not delivery.cancelled:
            time.sleep(0.01)

    handle: Any = on_loop if kind == "async" else in_thread
    worker = Worker(settings=settings.model_copy(update={"handler_timeout": 0.2}))
    worker.handler("short")(handle)
    worker.handler("long", timeout=30)(lambda delivery: time.sleep(0.5))
    short, long = client.queue_message("short", 1), client.queue_message("long", 1)
    assert worker.run(burst=True) == 0
    assert client.get_message("short", short).error["message"].endswith("its timeout of 0.2 s.")
    assert client.get_message("long", long).status == Status.COMPLETE


@pytest.mark.parametrize("bad", [0, -1, 31_536_001, "x", True])
def test_a_bad_timeout_of_the_settings_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidSettings, match="REDISQ_HANDLER_TIMEOUT"):
        Settings(handler_timeout=bad)


def test_a_handler_that_runs_for_ten_leases_is_named_once(
    settings: Settings, client: RedisQ, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(settings=settings.model_copy(update={"lease": 0.1}))

    @worker.handler("slow", concurrency=3)
    def crawl(delivery: Delivery) -> None:
        end = time.monotonic() + 60
        while "crawl has run for longer than ten leases" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)

    client.queue_messages("slow", range(3))
    assert worker.run(burst=True) == 0
    assert caplog.text.count("has run for longer than ten leases") == 1
