"""What runs around handlers: in which order, in which thread, and what it may not break."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from redisq import Delivery, InvalidHandler, Reject, Retry, Settings, Status, Worker, embedded
from redisq.worker.handlers.middleware import wrapped
from redisq.worker.handlers.runners import Handler
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, asynchronous, plain

kinds = pytest.mark.parametrize("kind", [asynchronous, plain])
tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
Next = Callable[[Any], Any]


@pytest.fixture
def bench(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5))
    yield made
    made.client.close()


def noting(worker: Worker, seen: list[Any], name: str) -> None:
    @worker.middleware
    async def note(delivery: Delivery, call_next: Next) -> Any:
        seen.append(f"{name} before {delivery.request}")
        try:
            result = await call_next(delivery)
        except Exception as error:
            seen.append(f"{name} saw {type(error).__name__}")
            raise
        seen.append(f"{name} saw {result}")
        return [name, result]


# --- The onion ---


@kinds
def test_they_are_an_onion_in_the_order_of_registration(bench: Bench, kind: Any) -> None:
    seen: list[str] = []
    noting(bench.worker, seen, "outer")
    noting(bench.worker, seen, "inner")
    bench.worker.handler("orders")(kind(lambda delivery: delivery.request))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert message.result == ["outer", ["inner", 1]]
    assert seen == ["outer before 1", "inner before 1", "inner saw 1", "outer saw ['inner', 1]"]


@kinds
def test_they_see_what_the_handler_raises(bench: Bench, kind: Any) -> None:
    seen: list[str] = []
    noting(bench.worker, seen, "outer")
    bench.worker.handler("orders")(kind(lambda delivery: 1 // delivery.request))
    (message,) = bench.finish(bench.client.queue_message("orders", 0))
    assert message.error["type"] == "ZeroDivisionError"
    assert seen == ["outer before 0", "outer saw ZeroDivisionError"] * 2


def test_plain_ones_run_in_the_handlers_thread_inside_of_async_ones(bench: Bench) -> None:
    seen: list[Any] = []

    @bench.worker.middleware
    def in_thread(delivery: Delivery, call_next: Next) -> Any:
        seen.append(("plain", threading.get_ident()))
        return call_next(delivery)

    @bench.worker.middleware
    async def on_loop(delivery: Delivery, call_next: Next) -> Any:
        seen.append(("async", threading.get_ident()))
        return await call_next(delivery)

    @bench.worker.handler("orders")
    def handle(delivery: Delivery) -> None:
        seen.append(("handler", threading.get_ident()))

    bench.finish(bench.client.queue_message("orders", 1))
    assert [name for name, _ in seen] == ["async", "plain", "handler"]
    assert seen[1][1] == seen[2][1] != seen[0][1] == threading.get_ident()


@pytest.mark.parametrize("form", ["plain", "async"])
def test_a_plain_handler_that_gives_something_to_await_is_awaited(bench: Bench, form: str) -> None:
    async def later() -> int:
        await asyncio.sleep(0)
        return 7

    if form == "async":
        noting(bench.worker, [], "m")
    else:
        bench.worker.middleware(lambda delivery, call_next: call_next(delivery))
    bench.worker.handler("orders")(lambda delivery: later())
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert message.result == (["m", 7] if form == "async" else 7)


@kinds
def test_what_they_set_in_contexts_the_handler_finds(bench: Bench, kind: Any) -> None:
    @bench.worker.middleware
    async def bind(delivery: Delivery, call_next: Next) -> Any:
        assert tenant.get() == "nobody"
        tenant.set(f"tenant {delivery.request}")
        return await call_next(delivery)

    bench.worker.handler("orders", concurrency=1)(kind(lambda delivery: tenant.get()))
    found = bench.finish(*bench.client.queue_messages("orders", range(3)))
    assert [message.result for message in found] == ["tenant 0", "tenant 1", "tenant 2"]


def test_a_model_is_validated_inside(bench: Bench) -> None:
    from pydantic import BaseModel

    class Order(BaseModel):
        count: int

    seen: list[Any] = []
    noting(bench.worker, seen, "m")

    async def handle(order: Order) -> int:
        return order.count

    handle.__annotations__["order"] = Order
    bench.worker.handler("orders")(handle)
    (message,) = bench.finish(bench.client.queue_message("orders", {"count": "x"}))
    assert message.error["reason"] == "rejected"
    assert seen[1:] == ["m saw ValidationError"]


# --- What they decide ---


@kinds
@pytest.mark.parametrize(
    ("raised", "status", "attempts"),
    [(Retry(after=0), Status.ERROR, 2), (Reject("no"), Status.ERROR, 1), (SystemExit(3), Status.ERROR, 2)],
    ids=["retry", "reject", "exit"],
)
def test_what_they_raise_counts(bench: Bench, kind: Any, raised: BaseException, status: Status, attempts: int) -> None:
    @bench.worker.middleware
    async def refuse(delivery: Delivery, call_next: Next) -> Any:
        await call_next(delivery)
        raise raised

    bench.worker.handler("orders")(kind(lambda delivery: 1))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.attempts, message.error["type"]) == (status, attempts, type(raised).__name__)


@kinds
def test_one_that_swallows_an_exception_completes_the_message(bench: Bench, kind: Any) -> None:
    @bench.worker.middleware
    async def forgive(delivery: Delivery, call_next: Next) -> Any:
        try:
            return await call_next(delivery)
        except ZeroDivisionError:
            return "forgiven"

    bench.worker.handler("orders")(kind(lambda delivery: 1 // 0))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.result) == (Status.COMPLETE, "forgiven")


@kinds
def test_one_that_never_calls_next_decides_by_itself(bench: Bench, kind: Any) -> None:
    called: list[int] = []

    @bench.worker.middleware
    async def skip(delivery: Delivery, call_next: Next) -> Any:
        return "skipped"

    bench.worker.handler("orders", concurrency=1)(kind(lambda delivery: called.append(1)))
    found = bench.finish(*bench.client.queue_messages("orders", range(3)))
    assert [message.result for message in found] == ["skipped"] * 3
    assert not called


@kinds
def test_one_may_call_next_again(bench: Bench, kind: Any) -> None:
    tries: list[int] = []

    @bench.worker.middleware
    async def twice(delivery: Delivery, call_next: Next) -> Any:
        try:
            return await call_next(delivery)
        except ConnectionError:
            return await call_next(delivery)

    def handle(delivery: Delivery) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return len(tries)

    bench.worker.handler("orders")(kind(handle))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.result, message.attempts) == (2, 1)


# --- What they may not break ---


@kinds
@pytest.mark.parametrize("where", ["middleware", "handler"])
def test_a_timeout_counts_for_all_of_it_whatever_is_swallowed(bench: Bench, kind: Any, where: str) -> None:
    release = threading.Event()

    @bench.worker.middleware
    async def swallow(delivery: Delivery, call_next: Next) -> Any:
        if delivery.request == "hang" and where == "middleware":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "swallowed"
        try:
            return await call_next(delivery)
        except asyncio.CancelledError:
            return "swallowed"

    async def on_loop(delivery: Delivery) -> None:
        if delivery.request == "hang":
            await asyncio.sleep(3600)

    def in_thread(delivery: Delivery) -> None:
        if delivery.request == "hang" and where == "handler":
            release.wait(30)

    handle: Any = on_loop if kind is asynchronous else in_thread
    bench.worker.handler("orders", concurrency=1, timeout=0.2, max_attempts=1)(handle)
    hung = bench.client.queue_message("orders", "hang")
    threading.Timer(1.0, release.set).start()
    next_one = bench.client.queue_message("orders", "next")
    first, second = bench.finish(hung, next_one)
    assert first.error["type"] == "TimeoutError"
    assert second.status == Status.COMPLETE
    release.set()


def test_a_thread_that_overruns_behind_a_middleware_holds_its_slot(bench: Bench) -> None:
    """So many of them end the process, and no message waits for the thread of one."""
    release, running = threading.Event(), []

    @bench.worker.middleware
    async def through(delivery: Delivery, call_next: Next) -> Any:
        return await call_next(delivery)

    def hang(delivery: Delivery) -> None:
        running.append(1)
        release.wait(60)

    settings = bench.settings.model_copy(update={"max_stuck": 2, "grace": 0.1})
    worker = Worker(settings=settings)
    worker.middleware(through)
    worker.handler("orders", concurrency=2, timeout=0.1, max_attempts=1)(hang)
    ids = bench.client.queue_messages("orders", range(4))
    assert worker.run() == 1
    assert len(running) == 2
    statuses = [bench.client.get_message("orders", id).status for id in ids]
    assert statuses.count(Status.PENDING) == 2
    release.set()


def test_a_plain_handler_may_end_after_the_stop_as_without_middleware(bench: Bench) -> None:
    begun = threading.Event()
    noting(bench.worker, [], "m")

    def handle(delivery: Delivery) -> str:
        begun.set()
        while not delivery.cancelled:
            time.sleep(0.01)
        return "in time"

    bench.worker.handler("orders")(handle)
    bench.settings = bench.settings.model_copy(update={"grace": 0.0})
    worker = Worker(settings=bench.settings)
    noting(worker, [], "m")
    worker.handler("orders")(handle)
    id = bench.client.queue_message("orders", 1)

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        await asyncio.to_thread(begun.wait, 30)
        worker.stop()
        assert await run == 0

    asyncio.run(main())
    assert bench.client.get_message("orders", id).result == ["m", "in time"]


@kinds
def test_a_message_that_is_deleted_cancels_it(bench: Bench, kind: Any) -> None:
    begun, ended = threading.Event(), threading.Event()
    settings = bench.settings.model_copy(update={"lease": 0.5})
    worker = Worker(settings=settings)

    @worker.middleware
    async def watch(delivery: Delivery, call_next: Next) -> Any:
        try:
            result = await call_next(delivery)
            await asyncio.sleep(3600)  # a plain handler returns; then this is cancelled
            return result
        except asyncio.CancelledError:
            ended.set()
            raise

    async def on_loop(delivery: Delivery) -> None:
        begun.set()
        await asyncio.sleep(3600)

    def in_thread(delivery: Delivery) -> None:
        begun.set()
        while not delivery.cancelled:
            time.sleep(0.01)

    handle: Any = on_loop if kind is asynchronous else in_thread
    worker.handler("orders")(handle)
    id = bench.client.queue_message("orders", 1)

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        await asyncio.to_thread(begun.wait, 30)
        await asyncio.to_thread(bench.client.delete_message, "orders", id)
        assert await asyncio.to_thread(ended.wait, 30)
        worker.stop()
        assert await run == 0

    asyncio.run(main())


def test_one_may_set_a_time_limit_of_its_own(bench: Bench) -> None:
    @bench.worker.middleware
    async def limited(delivery: Delivery, call_next: Next) -> Any:
        async with asyncio.timeout(0.1):
            return await call_next(delivery)

    @bench.worker.handler("orders", max_attempts=1)
    def handle(delivery: Delivery) -> str:
        time.sleep(0.3)
        return "late"

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert message.error["type"] == "TimeoutError"


@kinds
def test_a_child_that_a_handler_forks_does_not_come_back_to_it(bench: Bench, kind: Any) -> None:
    after: list[int] = []

    @bench.worker.middleware
    async def note(delivery: Delivery, call_next: Next) -> Any:
        result = await call_next(delivery)
        after.append(os.getpid())
        with open(delivery.request, "a") as file:
            file.write(f"{os.getpid()}\n")
        return result

    def handle(delivery: Delivery) -> int:
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return 0

    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        bench.worker.handler("orders")(kind(handle))
        (message,) = bench.finish(bench.client.queue_message("orders", file.name))
        assert message.result == 0
        assert file.read().split() == [str(os.getpid()).encode()]


# --- What can be one ---


def test_without_any_nothing_is_in_between() -> None:
    def handle(delivery: Delivery) -> None: ...

    handler = Handler("orders", handle, 1, None)
    assert wrapped(handler, []) is handler


def takes_one(delivery: Any) -> None: ...


def takes_three(delivery: Any, call_next: Any, more: Any) -> None: ...


def generates(delivery: Any, call_next: Any) -> Iterator[None]:
    yield


async def generates_async(delivery: Any, call_next: Any) -> AsyncIterator[None]:
    yield


def wants_keyword(delivery: Any, call_next: Any, *, more: Any) -> None: ...


@pytest.mark.parametrize(
    "bad", [takes_one, takes_three, generates, generates_async, wants_keyword, None, 3, "x", object, lambda: 1]
)
def test_what_can_be_none_is_refused(bad: Any) -> None:
    worker = Worker(settings=Settings(auth="none"))
    with pytest.raises(InvalidHandler):
        worker.middleware(bad)
    assert worker._middleware == []


def test_a_plain_one_beside_an_async_handler_refuses_to_start(bench: Bench) -> None:
    @bench.worker.middleware
    def in_thread(delivery: Delivery, call_next: Next) -> Any:
        return call_next(delivery)

    @bench.worker.handler("orders")
    async def handle(delivery: Delivery) -> None: ...

    id = bench.client.queue_message("orders", 1)
    with pytest.raises(InvalidHandler, match=r"in_thread is a plain middleware, and the handler .*handle of the queue"):
        bench.worker.run(burst=True)
    assert bench.client.get_message("orders", id).attempts == 0


def test_functions_of_a_factory_are_different_and_one_is_itself() -> None:
    worker = Worker(settings=Settings(auth="none"))
    noting(worker, [], "a")
    noting(worker, [], "b")
    worker.middleware(takes_two)
    worker.middleware(takes_two)
    assert len(worker._middleware) == 3


def takes_two(delivery: Any, call_next: Any) -> Any:
    return call_next(delivery)
