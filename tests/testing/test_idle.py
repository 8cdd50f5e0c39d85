"""`testing.run_until_idle`: a worker works off all there is, and time passes as fast as it can."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from redisq import (
    Batch,
    Defer,
    Delivery,
    Handlers,
    InvalidArgument,
    NeverIdle,
    RedisQ,
    Reject,
    Retry,
    Settings,
    Status,
    TestingError,
    Worker,
    WorkerError,
    testing,
)
from tests.conftest import REAL

EARLY = RedisQ(settings=Settings(url="redis://127.0.0.1:1/0", auth="none", retry_deadline=0))


class Seen:
    """A worker on the queues `orders` (plain) and `mail` (async); what its handlers have seen."""

    def __init__(self, does: Callable[[Delivery], Any] = lambda delivery: delivery.request, **options: Any) -> None:
        self.worker, self.attempts = Worker(**options), list[int]()

        @self.worker.handler("orders", backoff_base=100, timeout=30)
        def orders(delivery: Delivery) -> Any:
            self.attempts.append(delivery.attempt)
            return does(delivery)

        @self.worker.handler("mail", backoff_base=100)
        async def mail(delivery: Delivery) -> Any:
            await asyncio.sleep(0)
            return orders(delivery)


QUEUES = pytest.mark.parametrize("queue", ["orders", "mail"])


@QUEUES
def test_what_is_ready_and_what_is_delayed_is_worked_off(queue: str) -> None:
    seen = Seen(lambda delivery: delivery.request * 2)
    with testing.queue() as mq:
        began = testing.clock.now
        soon, late = mq.queue_message(queue, 4), mq.queue_message(queue, 5, delay=86_400)
        testing.run_until_idle(seen.worker)
        assert [mq.get_message(queue, id).result for id in (soon, late)] == [8, 10]
        assert testing.clock.now == began + timedelta(days=1)


@QUEUES
def test_retries_come_at_once_and_end(queue: str) -> None:
    def fails(delivery: Delivery) -> str:
        if delivery.request == "retry" and delivery.attempt < 3:
            raise Retry("later", after=600)
        if delivery.request == "reject":
            raise Reject("never")
        if delivery.request == "fail":
            raise ValueError("again and again")
        return "done"

    seen = Seen(fails)
    with testing.queue() as mq:
        began = testing.clock.now
        ids = mq.queue_messages(queue, ["retry", "reject", "fail"])
        testing.run_until_idle(seen.worker)
        retried, rejected, failed = (mq.get_message(queue, id) for id in ids)
        assert (retried.result, retried.attempts) == ("done", 3)
        assert (rejected.status, rejected.attempts) == (Status.ERROR, 1)
        assert (failed.status, failed.attempts) == (Status.ERROR, 5)
        assert sorted(message.request for message in mq.dead_letters(queue)) == ["fail", "reject"]
        assert testing.clock.now >= began + timedelta(seconds=1200)


def test_what_handlers_queue_is_worked_off_by_whichever_client() -> None:
    def chains(delivery: Delivery) -> int:
        left: int = delivery.request
        if left:
            EARLY.queue_message("mail" if left % 2 else "orders", left - 1, delay=left * 10)
        return left

    seen = Seen(chains)
    with testing.queue() as mq:
        mq.queue_message("orders", 5)
        testing.run_until_idle(seen.worker)
        assert (mq.stats("orders").completed, mq.stats("mail").completed) == (3, 3)


@QUEUES
def test_a_lapsed_lease_is_taken_over(queue: str) -> None:
    seen = Seen()
    with testing.queue() as mq:
        id = mq.queue_message(queue, 1)
        testing.abandon(queue)
        began = testing.clock.now
        testing.run_until_idle(seen.worker)
        message = mq.get_message(queue, id)
        assert [change.event for change in message.history] == ["lost", "reclaimed"]
        assert (message.result, seen.attempts) == (1, [2])
        assert testing.clock.now == began + timedelta(seconds=30)


def test_many_lapsed_leases_are() -> None:
    seen = Seen()
    with testing.queue() as mq:
        for queue in ("orders", "mail"):
            mq.queue_messages(queue, range(20))
            testing.abandon(queue, 20)
        testing.clock.advance(60)
        testing.run_until_idle(seen.worker)
        assert seen.attempts == [2] * 40
        assert mq.stats("orders").completed == mq.stats("mail").completed == 20


def test_who_moves_the_clock_in_a_handler_does_not_lose_its_own_message() -> None:
    seen = Seen(lambda _: testing.clock.advance(3600))
    with testing.queue() as mq:
        id = mq.queue_message("orders", 1)
        testing.run_until_idle(seen.worker)
        assert (mq.get_message("orders", id).status, seen.attempts) == (Status.COMPLETE, [1])


def test_a_paused_queue_is_left_alone() -> None:
    seen = Seen()
    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        mq.queue_message("orders", 2, delay=60)
        testing.abandon("orders")
        mq.define("orders", paused=True)
        testing.run_until_idle(seen.worker)
        assert seen.attempts == []


def test_the_settings_of_a_worker_count() -> None:
    def fails(_: Delivery) -> None:
        raise ValueError

    seen = Seen(fails, settings=Settings(url="redis://127.0.0.1:1/0", namespace="shop", max_attempts=2))
    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        testing.run_until_idle(seen.worker)
        assert seen.attempts == [1, 2]


def test_a_lifespan_is_entered_once_however_often_the_clock_is_pulled() -> None:
    worker, events = Worker(), list[Any]()

    @worker.lifespan
    async def opened() -> AsyncIterator[str]:
        events.append("opened")
        yield "state"
        events.append("closed")

    @worker.handler("orders")
    async def fails_twice(delivery: Delivery) -> None:
        events.append((delivery.state, delivery.attempt))
        if delivery.attempt < 3:
            raise Retry(after=60)

    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        testing.run_until_idle(worker)
    assert events == ["opened", ("state", 1), ("state", 2), ("state", 3), "closed"]


def test_batches_and_what_is_put_off_and_included_handlers_are_worked_off() -> None:
    worker, rows, sizes = Worker(), Handlers(), list[int]()
    worker.include(rows)

    @rows.handler("rows", batch=3, linger=60)
    def keep(deliveries: Batch) -> list[Any]:
        sizes.append(len(deliveries))
        return [Defer(after=60) if delivery.attempt == 1 else delivery.request for delivery in deliveries]

    @rows.every("0 * * * *", queue="rows")
    def tick() -> str:
        return "tick"

    with testing.queue() as mq:
        ids = mq.queue_messages("rows", [1, 2])
        testing.clock.advance(3600)
        testing.run_until_idle(worker)
        assert [message and message.result for message in mq.get_messages("rows", ids)] == [1, 2]
        assert (sizes, mq.stats("rows").completed) == ([3, 3], 3)


# --- Schedules ---


def scheduled() -> tuple[Worker, list[Any]]:
    worker, seen = Worker(), list[Any]()

    @worker.every("0 * * * *", queue="reports", name="report")
    def report(tick: datetime) -> str:
        return f"{tick:%H:%M}"

    @worker.handler("reports")
    def handle(delivery: Delivery) -> None:
        seen.append(delivery.request)

    return worker, seen


def test_ticks_come_of_the_advanced_clock_each_with_its_time() -> None:
    worker, seen = scheduled()
    with testing.queue():
        hour = testing.clock.now.replace(minute=0)
        testing.run_until_idle(worker)
        assert seen == []
        testing.clock.advance(3600)
        testing.run_until_idle(worker)
        testing.run_until_idle(worker)
        testing.clock.advance(7200)
        testing.run_until_idle(worker)
        assert seen == [f"{hour + timedelta(hours=number):%H:%M}" for number in (1, 2, 3)]


def test_two_workers_have_one_message_of_a_tick() -> None:
    (one, seen), (other, also_seen) = scheduled(), scheduled()
    with testing.queue():
        testing.clock.advance(3600)
        testing.run_until_idle(one)
        testing.run_until_idle(other)
        assert (len(seen), also_seen) == (1, [])


def test_what_is_pulled_forward_has_no_ticks() -> None:
    worker, seen = scheduled()
    with testing.queue() as mq:
        mq.queue_message("reports", "mine", delay=86_400)
        testing.run_until_idle(worker)
        assert seen == ["mine"]


def test_ticks_of_a_clock_that_a_handler_advanced_come_too() -> None:
    worker, seen = scheduled()

    @worker.handler("slow")
    async def slow(_: Delivery) -> None:
        testing.clock.advance(3600)

    with testing.queue() as mq:
        mq.queue_message("slow", 1)
        testing.run_until_idle(worker)
        assert len(seen) == 1


def test_a_schedule_whose_function_fails_fails_the_test() -> None:
    worker = Worker()

    @worker.every("0 * * * *", queue="reports")
    async def report() -> None:
        raise ValueError("no report")

    with testing.queue():
        testing.clock.advance(3600)
        with pytest.raises(ValueError, match="no report"):
            testing.run_until_idle(worker)


def test_more_ticks_than_anybody_wants_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redisq.testing.idle._MOST_TICKS", 5)
    worker, _ = scheduled()
    with testing.queue():
        testing.clock.advance(86_400)
        with pytest.raises(NeverIdle, match=r"report has more than 5 ticks"):
            testing.run_until_idle(worker)


# --- What cannot be ---


def test_outside_of_a_queue_it_is_refused() -> None:
    with pytest.raises(TestingError, match=r"with testing\.queue\(\)"):
        testing.run_until_idle(Seen().worker)


def test_a_worker_without_handlers_or_what_is_none_is_refused() -> None:
    with testing.queue():
        with pytest.raises(WorkerError, match="has no handler"):
            testing.run_until_idle(Worker())
        with pytest.raises(InvalidArgument, match=r"redisq\.Worker, not str"):
            testing.run_until_idle("worker")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="within"):
            testing.run_until_idle(Seen().worker, within="long")  # type: ignore[arg-type]


def test_a_handler_that_queues_without_end_is_told_of() -> None:
    def again(delivery: Delivery) -> None:
        EARLY.queue_message("orders", delivery.request)

    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        with pytest.raises(NeverIdle, match=r"within 0\.5 s.* orders: "):
            testing.run_until_idle(Seen(again).worker, within=0.5)


def test_a_delay_without_end_is_told_of() -> None:
    def later(delivery: Delivery) -> None:
        EARLY.queue_message("orders", delivery.request, delay=3600)

    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        with pytest.raises(NeverIdle):
            testing.run_until_idle(Seen(later).worker, within=0.5)


def test_a_handler_that_hangs_is_told_of() -> None:
    released = threading.Event()
    seen = Seen(lambda _: released.wait(20))
    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        with pytest.raises(NeverIdle, match=r"orders: 1 ready|1 running"):
            testing.run_until_idle(seen.worker, within=0.5)
    released.set()


def test_a_worker_that_has_to_be_replaced_fails_the_test() -> None:
    released = threading.Event()
    worker = Worker(settings=Settings(max_stuck=1, grace=0))

    @worker.handler("orders", timeout=0.1)
    def hangs(_: Delivery) -> None:
        released.wait(20)

    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        with pytest.raises(TestingError, match="exit code 1"):
            testing.run_until_idle(worker)
    released.set()


def test_where_a_loop_runs_the_async_variant_does_it() -> None:
    async def inside() -> None:
        seen = Seen()
        async with testing.queue() as mq:
            id = await mq.queue_message("mail", 4, delay=60)
            with pytest.raises(TestingError, match=r"await testing\.run_until_idle_async"):
                testing.run_until_idle(seen.worker)
            await testing.run_until_idle_async(seen.worker)
            assert (await mq.get_message("mail", id)).result == 4

    asyncio.run(inside())


def test_a_cancelled_test_is_cancelled() -> None:
    async def inside() -> None:
        async with testing.queue() as mq, asyncio.timeout(0.5):
            await mq.queue_message("orders", 1)
            await testing.run_until_idle_async(Seen(lambda _: time.sleep(1)).worker)

    with pytest.raises(TimeoutError):
        asyncio.run(inside())


@pytest.mark.skipif(REAL is None, reason="no real Redis here")
def test_on_a_real_server_what_is_due_later_is_refused() -> None:
    seen = Seen(lambda delivery: delivery.request * 2)
    with testing.queue(real=True) as mq:
        soon = mq.queue_message("orders", 4)
        testing.run_until_idle(seen.worker)
        assert mq.get_message("orders", soon).result == 8
        late = mq.queue_message("orders", 4, delay=60)
        with pytest.raises(TestingError, match="due later"):
            testing.run_until_idle(seen.worker)
        assert mq.get_message("orders", late).status is Status.PENDING
