"""What a worker opens before its first message and closes after its last."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from redisq import Delivery, InvalidArgument, InvalidHandler, RedisQ, Settings, Status, Worker, embedded
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, asynchronous, plain

kinds = pytest.mark.parametrize("kind", [asynchronous, plain])
Lives = Callable[..., Any]
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.fixture
def bench(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5))
    yield made
    made.client.close()


def on_loop(begin: Callable[[], Any], end: Callable[[], Any]) -> Any:
    async def opened() -> AsyncIterator[Any]:
        state = begin()
        yield state
        end()

    return opened


def in_thread(begin: Callable[[], Any], end: Callable[[], Any]) -> Any:
    def opened() -> Iterator[Any]:
        state = begin()
        yield state
        end()

    return opened


forms = pytest.mark.parametrize("form", [on_loop, in_thread])


@forms
@kinds
def test_it_is_entered_before_the_first_claim_and_left_after_the_drain(bench: Bench, form: Lives, kind: Any) -> None:
    events: list[Any] = []

    def begin() -> dict[str, str]:
        events.append(("begin", bench.client.stats("orders").in_progress))
        tenant.set("a")
        return {"database": "open"}

    def end() -> None:
        counted = bench.client.stats("orders")
        events.append(("end", counted.in_progress, counted.completed))

    bench.worker.lifespan(form(begin, end))
    bench.worker.handler("orders")(kind(lambda delivery: [delivery.state, tenant.get()]))
    ids = bench.client.queue_messages("orders", range(20))
    assert bench.worker.run(burst=True) == 0
    assert bench.client.get_message("orders", ids[0]).result == [{"database": "open"}, "a"]
    assert events == [("begin", 0), ("end", 0, 20)]
    assert bench.worker.run(burst=True) == 0  # a second run is a second life
    assert len(events) == 4


def test_without_one_the_state_is_none(bench: Bench) -> None:
    bench.worker.handler("orders")(lambda delivery: delivery.state)
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.result) == (Status.COMPLETE, None)


@forms
def test_one_that_fails_at_its_start_ends_the_worker_with_1_and_claims_nothing(
    bench: Bench, form: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = [ConnectionError("no database"), SystemExit(0), KeyboardInterrupt()]
    bench.worker.handler("orders")(lambda delivery: None)
    id = bench.client.queue_message("orders", 1)
    bench.worker.lifespan(form(lambda: (_ for _ in ()).throw(errors.pop()), list))
    while errors:
        assert bench.worker.run(burst=True) == 1
    message = bench.client.get_message("orders", id)
    assert (message.status, message.attempts) == (Status.PENDING, 0)
    assert "failed at its start, and nothing is claimed: ConnectionError" in caplog.text
    assert "no database" in caplog.text  # with its traceback


@forms
def test_one_that_fails_at_its_end_ends_the_worker_with_1(
    bench: Bench, form: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    bench.worker.handler("orders")(lambda delivery: None)
    id = bench.client.queue_message("orders", 1)
    bench.worker.lifespan(form(dict, lambda: 1 / 0))
    assert bench.worker.run(burst=True) == 1
    assert bench.client.get_message("orders", id).status == Status.COMPLETE
    assert "opened failed at its end: ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("how", ["async", "plain"])
@pytest.mark.parametrize("yields", [0, 2])
def test_one_that_does_not_yield_once_is_refused(bench: Bench, how: str, yields: int) -> None:
    closed: list[int] = []

    async def on_the_loop() -> AsyncIterator[int]:
        try:
            for number in range(yields):
                yield number
        finally:
            closed.append(1)

    def in_a_thread() -> Iterator[int]:
        try:
            yield from range(yields)
        finally:
            closed.append(1)

    bench.worker.handler("orders")(lambda delivery: None)
    bench.worker.lifespan(on_the_loop if how == "async" else in_a_thread)
    id = bench.client.queue_message("orders", 1)
    with pytest.raises(InvalidHandler, match=r"a lifespan yields once; this one did a second|this one ended without"):
        bench.worker.run(burst=True)
    assert closed == [1]
    assert bench.client.get_message("orders", id).attempts == (1 if yields else 0)


@forms
@pytest.mark.parametrize("way", ["stop", "cancel"])
def test_it_is_left_however_the_worker_ends(bench: Bench, form: Lives, way: str) -> None:
    left = threading.Event()
    bench.worker.lifespan(form(dict, left.set))
    begun = threading.Event()
    bench.worker.handler("orders")(lambda delivery: begun.set())
    bench.client.queue_message("orders", 1)

    async def main() -> None:
        task = asyncio.create_task(bench.worker.run_async())
        await asyncio.to_thread(begun.wait, 30)
        if way == "stop":
            bench.worker.stop()
            assert await task == 0
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert left.is_set()


def test_a_stop_ends_one_that_has_not_started_yet(bench: Bench) -> None:
    seen: list[str] = []

    @bench.worker.lifespan
    async def slow() -> AsyncIterator[None]:
        bench.worker.stop()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        yield

    bench.worker.handler("orders")(lambda delivery: None)
    id = bench.client.queue_message("orders", 1)
    assert bench.worker.run() == 0
    assert seen == ["cancelled"]
    assert bench.client.get_message("orders", id).attempts == 0


def test_a_second_stop_cuts_its_end_short(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @bench.worker.lifespan
    async def slow() -> AsyncIterator[None]:
        yield
        bench.worker.stop()
        bench.worker.stop()
        await asyncio.sleep(3600)

    bench.worker.handler("orders")(lambda delivery: None)
    assert bench.worker.run(burst=True) == 1
    assert "slow failed at its end: TimeoutError" in caplog.text


def test_one_that_ends_by_itself_ends_the_worker(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    failing = asyncio.Event()

    async def watch() -> None:
        await failing.wait()
        raise ConnectionError("the stream of prices ended")

    @bench.worker.lifespan
    async def watched() -> AsyncIterator[asyncio.Event]:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield failing

    @bench.worker.handler("orders")
    async def handle(delivery: Delivery) -> str:
        delivery.state.set()
        return "done"

    id = bench.client.queue_message("orders", 1)
    assert bench.worker.run() == 1
    assert bench.client.get_message("orders", id).result == "done"
    assert "watched ended while the worker works" in caplog.text


def test_a_task_group_and_a_timeout_may_be_open_in_it(bench: Bench) -> None:
    @bench.worker.lifespan
    async def grouped() -> AsyncIterator[asyncio.TaskGroup]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            yield group

    @bench.worker.handler("orders")
    async def handle(delivery: Delivery) -> int:
        return await delivery.state.create_task(asyncio.sleep(0, 7))

    id = bench.client.queue_message("orders", 1)
    assert bench.worker.run(burst=True) == 0
    assert bench.client.get_message("orders", id).result == 7


@forms
def test_a_child_that_it_forks_does_not_become_a_second_worker(bench: Bench, form: Lives) -> None:
    children: list[int] = []

    def begin() -> None:
        if child := os.fork():
            children.append(child)

    ended: list[int] = []
    bench.worker.lifespan(form(begin, lambda: ended.append(os.getpid())))
    bench.worker.handler("orders")(lambda delivery: os.getpid())
    id = bench.client.queue_message("orders", 1)
    assert bench.worker.run(burst=True) == 0
    assert bench.client.get_message("orders", id).result == os.getpid()
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) in (0, 1)
    assert ended == [os.getpid()]


# --- What can be one ---


async def ordinary() -> AsyncIterator[None]:
    yield


def with_argument(app: Any) -> Iterator[None]:
    yield


async def no_generator() -> None: ...


class Callable_:  # noqa: N801
    async def __call__(self) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize("good", [ordinary, functools.partial(with_argument, 1), Callable_()])
def test_a_generator_function_can_be_one(good: Any) -> None:
    assert Worker(settings=Settings(auth="none")).lifespan(good) is good


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (no_generator, "yields once, what is opened"),
        (lambda: None, "yields once"),
        (asynccontextmanager(ordinary), "Leave out its other decorator"),
        (with_argument, "a lifespan takes no argument"),
        (ordinary(), "yields once"),
        (None, "yields once"),
        (Callable_, "yields once"),
    ],
)
def test_what_can_be_none_is_refused(bad: Any, told: str) -> None:
    worker = Worker(settings=Settings(auth="none"))
    with pytest.raises(InvalidHandler, match=told):
        worker.lifespan(bad)
    worker.lifespan(ordinary)  # nothing was changed


def test_a_worker_has_one_that_a_cell_which_runs_again_replaces() -> None:
    worker = Worker(settings=Settings(auth="none"))

    def cell() -> Any:
        @worker.lifespan
        async def opened() -> AsyncIterator[None]:
            yield

        return opened

    cell()
    again = cell()
    assert worker._lifespan is again
    with pytest.raises(InvalidArgument, match="has a lifespan already"):
        worker.lifespan(ordinary)


def test_a_client_may_be_open_in_it(bench: Bench) -> None:
    @bench.worker.lifespan
    def client() -> Iterator[RedisQ]:
        with RedisQ(settings=bench.settings) as mq:
            yield mq

    bench.worker.handler("orders")(lambda delivery: delivery.state.queue_message("mail", delivery.request))
    id = bench.client.queue_message("orders", 1)
    assert bench.worker.run(burst=True) == 0
    sent = bench.client.get_message("orders", id).result
    assert bench.client.get_message("mail", sent).request == 1
