"""Handlers of many messages at once: what they get, what becomes of each, and what a batch may not break."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from redisq import (
    Batch,
    Delivery,
    Handlers,
    InvalidArgument,
    InvalidHandler,
    Reject,
    Retry,
    Settings,
    Status,
    Worker,
    embedded,
    store,
)
from redisq.link.sync import Link
from redisq.operations.caller import limits_of
from redisq.store.call import new_nonce
from redisq.store.keys import partition_keys
from redisq.worker.registry import handlers_of
from tests.conftest import settings_for
from tests.contract.test_worker import Bench, plain

Next = Callable[[Any], Any]


def asynchronous(function: Any) -> Any:
    async def handler(deliveries: list[Delivery]) -> Any:
        return function(deliveries)

    return handler


kinds = pytest.mark.parametrize("kind", [asynchronous, plain])


@pytest.fixture
def bench(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(real_server.url, namespace, backoff_base=0.01, max_attempts=2, grace=5))
    yield made
    made.client.close()


def rows(bench: Bench, kind: Any, function: Any, **options: Any) -> Any:
    return bench.worker.handler("rows", **{"batch": 10, "linger": 0.2, **options})(kind(function))


def burst(bench: Bench, count: int) -> list[Any]:
    """Queue so many messages, work them off, and give what became of them."""
    ids = bench.client.queue_messages("rows", range(count))
    assert bench.worker.run(burst=True) == 0
    return [bench.client.get_message("rows", id) for id in ids]


# --- What it gets ---


@kinds
def test_it_gets_full_batches_while_there_are_enough(bench: Bench, kind: Any) -> None:
    sizes: list[int] = []

    def keep(deliveries: Batch) -> None:
        assert isinstance(deliveries, list)
        assert (deliveries.queue, deliveries.state) == ("rows", None)
        sizes.append(len(deliveries))

    rows(bench, kind, keep)
    found = burst(bench, 45)
    assert {(message.status, message.result) for message in found} == {(Status.COMPLETE, None)}
    assert sorted(sizes) == [5, 10, 10, 10, 10]


@kinds
def test_what_lingers_is_run_with_what_comes_meanwhile(bench: Bench, kind: Any) -> None:
    sizes: list[int] = []
    began: list[float] = []

    def keep(deliveries: list[Delivery]) -> None:
        began.append(time.monotonic())
        sizes.append(len(deliveries))

    rows(bench, kind, keep, linger=1.0)

    async def main() -> None:
        run = asyncio.create_task(bench.worker.run_async())
        queue = functools.partial(asyncio.to_thread, bench.client.queue_message, "rows")
        ids = [await queue(number) for number in range(3)]
        await asyncio.to_thread(bench.client.get_message, "rows", ids[0], wait=30)
        bench.worker.stop()
        assert await run == 0

    asyncio.run(main())
    assert sizes == [3]


@kinds
def test_calls_that_run_are_as_many_as_full_batches_have_room(bench: Bench, kind: Any) -> None:
    running, most, sizes, lock = [0], [0], [], threading.Lock()

    def enter(deliveries: Sequence[Delivery]) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            sizes.append(len(deliveries))

    def leave() -> None:
        with lock:
            running[0] -= 1

    async def on_loop(deliveries: Sequence[Delivery]) -> None:
        enter(deliveries)
        await asyncio.sleep(0.1)
        leave()

    def in_thread(deliveries: Sequence[Delivery]) -> None:
        enter(deliveries)
        time.sleep(0.1)
        leave()

    bench.worker.handler("rows", batch=10, concurrency=30, linger=0)(on_loop if kind is asynchronous else in_thread)
    found = burst(bench, 100)
    assert all(message.status == Status.COMPLETE for message in found)
    assert most[0] <= 3
    assert max(sizes) <= 10


# --- What becomes of each ---


@kinds
def test_each_has_its_own_outcome(bench: Bench, kind: Any) -> None:
    seen: list[list[tuple[int, int]]] = []

    def judge(deliveries: list[Delivery]) -> list[Any]:
        seen.append([(delivery.request, delivery.attempt) for delivery in deliveries])
        outcomes: dict[int, Any] = {1: Retry(after=0), 2: Reject("no"), 3: ValueError("bad"), 4: object()}
        return [
            outcomes.get(delivery.request, delivery.request) if delivery.attempt == 1 else "again"
            for delivery in deliveries
        ]

    rows(bench, kind, judge)
    found = bench.finish(*bench.client.queue_messages("rows", range(6)), queue="rows")
    assert [(message.status, message.result, message.attempts) for message in found] == [
        (Status.COMPLETE, 0, 1),
        (Status.COMPLETE, "again", 2),
        (Status.ERROR, None, 1),
        (Status.COMPLETE, "again", 2),
        (Status.ERROR, None, 1),
        (Status.COMPLETE, 5, 1),
    ]
    assert [found[n].error["reason"] for n in (2, 4)] == ["rejected", "rejected"]
    assert len(seen[0]) == 6
    assert sorted(one for call in seen[1:] for one in call) == [(1, 2), (3, 2)], "those that failed, and no other"


@kinds
@pytest.mark.parametrize("raised", [ValueError("all"), Retry(after=0), SystemExit(3)], ids=["error", "retry", "exit"])
def test_what_it_raises_all_have_failed_with(bench: Bench, kind: Any, raised: BaseException) -> None:
    def fail(deliveries: list[Delivery]) -> None:
        raise raised

    rows(bench, kind, fail)
    found = bench.finish(*bench.client.queue_messages("rows", range(4)), queue="rows")
    assert {(message.status, message.attempts, message.error["type"]) for message in found} == {
        (Status.ERROR, 2, type(raised).__name__)
    }


@kinds
@pytest.mark.parametrize("result", [[], [1], [1, 2, 3, 4], "four", {1: 2}, 3, (n for n in range(3))])
def test_another_number_of_results_is_refused_without_retry(bench: Bench, kind: Any, result: Any) -> None:
    rows(bench, kind, lambda deliveries: result)
    for message in burst(bench, 3):
        assert (message.status, message.attempts, message.error["reason"]) == (Status.ERROR, 1, "rejected")
        assert "for 3 deliveries; with batch= it returns None, or a list of as many" in message.error["message"]


def test_a_plain_function_may_return_something_to_await(bench: Bench) -> None:
    async def later(count: int) -> list[int]:
        await asyncio.sleep(0)
        return [7] * count

    rows(bench, plain, lambda deliveries: later(len(deliveries)))
    assert [message.result for message in burst(bench, 3)] == [7, 7, 7]


# --- What it may not break ---


@kinds
def test_the_timeout_is_the_batchs_and_a_thread_counts_once(bench: Bench, kind: Any) -> None:
    release = threading.Event()

    async def on_loop(deliveries: list[Delivery]) -> None:
        await asyncio.sleep(3600)

    def in_thread(deliveries: list[Delivery]) -> None:
        release.wait(30)

    worker = Worker(settings=bench.settings.model_copy(update={"max_stuck": 2, "grace": 0.1}))
    handle: Any = on_loop if kind is asynchronous else in_thread
    worker.handler("rows", batch=5, linger=0, timeout=0.2, max_attempts=1)(handle)
    ids = bench.client.queue_messages("rows", range(5))

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        for id in ids:
            message = await asyncio.to_thread(bench.client.get_message, "rows", id, wait=30)
            assert message.error["type"] == "TimeoutError"
        release.set()
        worker.stop()
        assert await run == 0, "one thread is not two"

    asyncio.run(main())


@kinds
def test_one_that_is_deleted_does_not_cancel_the_others(bench: Bench, kind: Any) -> None:
    begun, seen = threading.Event(), []

    async def on_loop(deliveries: list[Delivery]) -> list[int]:
        begun.set()
        while not any(delivery.cancelled for delivery in deliveries):
            await asyncio.sleep(0.01)
        seen.extend(delivery.request for delivery in deliveries if delivery.cancelled)
        return [delivery.request for delivery in deliveries]

    def in_thread(deliveries: list[Delivery]) -> list[int]:
        begun.set()
        while not any(delivery.cancelled for delivery in deliveries):
            time.sleep(0.01)
        seen.extend(delivery.request for delivery in deliveries if delivery.cancelled)
        return [delivery.request for delivery in deliveries]

    worker = Worker(settings=bench.settings.model_copy(update={"lease": 0.5}))
    handle: Any = on_loop if kind is asynchronous else in_thread
    worker.handler("rows", batch=3, linger=5)(handle)
    ids = bench.client.queue_messages("rows", range(3))

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        await asyncio.to_thread(begun.wait, 30)
        await asyncio.to_thread(bench.client.delete_message, "rows", ids[1])
        for id in (ids[0], ids[2]):
            message = await asyncio.to_thread(bench.client.get_message, "rows", id, wait=30)
            assert message.status == Status.COMPLETE
        worker.stop()
        assert await run == 0

    asyncio.run(main())
    assert seen == [1]


@kinds
def test_a_stop_cancels_what_runs_and_hands_back_what_gathers(bench: Bench, kind: Any) -> None:
    begun = threading.Event()

    async def on_loop(deliveries: list[Delivery]) -> None:
        begun.set()
        await asyncio.sleep(3600)

    def in_thread(deliveries: list[Delivery]) -> None:
        begun.set()
        while not all(delivery.cancelled for delivery in deliveries):
            time.sleep(0.01)
        raise asyncio.CancelledError

    worker = Worker(settings=bench.settings.model_copy(update={"grace": 0.1}))
    handle: Any = on_loop if kind is asynchronous else in_thread
    worker.handler("rows", batch=3, linger=60)(handle)
    ids = bench.client.queue_messages("rows", range(5))

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        await asyncio.to_thread(begun.wait, 30)
        worker.stop()
        assert await run == 0

    asyncio.run(main())
    stats = bench.client.stats("rows")
    assert (stats.ready, stats.in_progress, stats.failed, stats.lost) == (5, 0, 0, 0)
    assert {bench.client.get_message("rows", id).history[0].event for id in ids} <= {"released"}


@kinds
def test_one_that_is_cancelled_while_it_waits_for_others_is_not_worked_on(bench: Bench, kind: Any) -> None:
    handled: list[int] = []
    rows(bench, kind, lambda deliveries: handled.extend(each.request for each in deliveries), batch=3, linger=60)
    cancelled = bench.client.queue_message("rows", 0)

    async def main() -> None:
        run = asyncio.create_task(bench.worker.run_async())
        while not bench.client.stats("rows").in_progress:
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(bench.client.cancel_message, "rows", cancelled) is None
        message = await asyncio.to_thread(bench.client.get_message, "rows", cancelled, wait=30)
        assert (message.status, message.error["reason"]) == (Status.ERROR, "cancelled")
        others = bench.client.queue_messages("rows", (1, 2, 3))  # they find its place free
        for id in others:
            assert (await asyncio.to_thread(bench.client.get_message, "rows", id, wait=30)).status == Status.COMPLETE
        bench.worker.stop()
        assert await run == 0

    asyncio.run(main())
    assert sorted(handled) == [1, 2, 3]


def make_suspects(bench: Bench, count: int) -> list[str]:
    """Messages whose worker died with them."""
    settings = bench.settings.model_copy(update={"lease": 1})
    ids = bench.client.queue_messages("rows", range(count))
    keys, limits, link = partition_keys(settings.namespace, "rows"), limits_of(settings), Link(settings)
    claim = link.call(store.deliveries.claim(keys, limits, "dead", new_nonce(), count))
    assert len(claim.deliveries) == count
    link.close()
    return ids


@kinds
def test_a_suspect_runs_alone(bench: Bench, kind: Any) -> None:
    suspects = make_suspects(bench, 3)
    calls: list[list[str]] = []
    worker = Worker(settings=bench.settings.model_copy(update={"lease": 1}))
    worker.handler("rows", batch=10, linger=0.2)(
        kind(lambda deliveries: calls.append([delivery.id for delivery in deliveries]))
    )

    async def main() -> None:
        run = asyncio.create_task(worker.run_async())
        others = await asyncio.to_thread(bench.client.queue_messages, "rows", range(10, 15))
        for id in [*suspects, *others]:
            message = await asyncio.to_thread(bench.client.get_message, "rows", id, wait=30)
            assert message.status == Status.COMPLETE
        worker.stop()
        assert await run == 0

    asyncio.run(main())
    assert [len(call) for call in calls if {*call} & {*suspects}] == [1, 1, 1]


@kinds
def test_a_child_that_it_forks_does_not_become_a_second_worker(bench: Bench, kind: Any) -> None:
    def fork(deliveries: list[Delivery]) -> list[int]:
        if child := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return [os.getpid()] * len(deliveries)

    rows(bench, kind, fork)
    assert [message.result for message in burst(bench, 3)] == [os.getpid()] * 3


# --- Middleware ---


@pytest.mark.parametrize(("kind", "form"), [(asynchronous, "async"), (plain, "async"), (plain, "plain")])
def test_middleware_is_called_once_with_a_batch(bench: Bench, kind: Any, form: str) -> None:
    seen: list[Any] = []

    @bench.worker.lifespan
    def opened() -> Iterator[str]:
        yield "open"

    def note(batch: Any) -> None:
        assert isinstance(batch, Batch)
        seen.append((batch.queue, batch.state, sorted(delivery.request for delivery in batch)))

    if form == "async":

        @bench.worker.middleware
        async def around(batch: Batch, call_next: Next) -> Any:
            note(batch)
            results = await call_next(batch)
            seen.append(sorted(results))
            return [result + 1 for result in results]

    else:

        @bench.worker.middleware
        def around_plain(batch: Batch, call_next: Next) -> Any:
            note(batch)
            results = call_next(batch)
            seen.append(sorted(results))
            return [result + 1 for result in results]

    rows(bench, kind, lambda deliveries: [delivery.request * 10 for delivery in deliveries])
    assert [message.result for message in burst(bench, 3)] == [1, 11, 21]
    assert seen == [("rows", "open", [0, 1, 2]), [0, 10, 20]]


@kinds
def test_middleware_may_decide_for_all(bench: Bench, kind: Any) -> None:
    @bench.worker.middleware
    async def refuse(batch: Batch, call_next: Next) -> Any:
        results = await call_next([delivery for delivery in batch if delivery.request])
        assert len(results) == 2
        raise Reject("none of them")

    rows(bench, kind, lambda deliveries: [1] * len(deliveries))
    assert {message.error["message"] for message in burst(bench, 3)} == {"none of them"}


# --- What can be one ---


class Row(BaseModel):
    number: int


def no_argument() -> None: ...


def two_arguments(deliveries: Any, more: Any) -> None: ...


def of_a_model(rows: list[Row]) -> None: ...


def of_one(delivery: Delivery) -> None: ...


def generates(deliveries: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("bad", [no_argument, two_arguments, of_a_model, of_one, generates, None, 3, Row])
def test_what_can_be_none_is_refused(bad: Any) -> None:
    handlers = Handlers()
    with pytest.raises(InvalidHandler):
        handlers.handler("rows", batch=10)(bad)
    assert handlers.queues == []


def of_any(deliveries) -> None:  # type: ignore[no-untyped-def]
    ...


def of_list(deliveries: list[Delivery]) -> None: ...


def of_sequence(deliveries: Sequence[Delivery]) -> None: ...


def of_batch(deliveries: Batch) -> None: ...


def of_all(*deliveries: Any) -> None: ...


class Called:
    async def __call__(self, deliveries: list[Delivery] | None) -> None: ...


@pytest.mark.parametrize("good", [of_any, of_list, of_sequence, of_batch, of_all, Called(), lambda deliveries: None])
def test_these_can(good: Any) -> None:
    handlers = Handlers()
    assert handlers.handler("rows", batch=10)(good) is good
    made = handlers_of([handlers])["rows"]
    assert (made.batch, made.concurrency, made.linger) == (10, 20, 0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch": 0}, "batch takes a whole number from 1 to 10,000"),
        ({"batch": 10_001}, "batch takes"),
        ({"batch": True}, "batch takes"),
        ({"batch": 2.0}, "batch takes"),
        ({"batch": 10, "linger": -1}, "linger takes seconds"),
        ({"batch": 10, "linger": 61}, "linger takes seconds, 0 to 60"),
        ({"batch": 10, "linger": float("nan")}, "linger takes seconds"),
        ({"batch": 10, "linger": "x"}, "linger takes seconds"),
        ({"linger": 0.1}, "linger= is for handlers with batch="),
        ({"batch": 10, "concurrency": 5}, "no room for batch=10"),
        ({"batch": 10, "concurrency": 0}, "concurrency takes"),
    ],
)
def test_numbers_out_of_bounds_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        Worker(settings=Settings(auth="none")).handler("rows", **options)
