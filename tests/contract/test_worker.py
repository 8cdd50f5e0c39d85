"""What a worker promises about handlers' outcomes, on every server. The worker runs in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from redisq import (
    Delivery,
    InvalidMessage,
    InvalidQueueName,
    LeaseLost,
    MissingCredentials,
    RedisQ,
    Settings,
    Status,
    Worker,
    WorkerError,
    embedded,
)
from redisq.store.keys import partition_keys
from tests.conftest import settings_for


class Bench:
    """A worker and a client in one namespace; `finish` runs the worker until every given message has ended."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = RedisQ(settings=settings)
        self.worker = Worker(settings=settings)

    def finish(self, *ids: str, queue: str = "orders") -> list[Any]:
        async def work() -> int:
            running = asyncio.create_task(self.worker.run_async())
            waiting = [asyncio.to_thread(self.client.get_message, queue, id, wait=20) for id in ids]
            try:
                await asyncio.wait_for(asyncio.gather(*waiting), 30)
            finally:
                self.worker.stop()
            return await running

        assert asyncio.run(work()) == 0
        return [self.client.get_message(queue, id) for id in ids]


@pytest.fixture
def bench(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(server.url, namespace, backoff_base=0.01, max_attempts=3, grace=5))
    yield made
    made.client.close()


def untraced(message: Any) -> dict[str, str]:
    """A message's error without where it came from."""
    return {name: text for name, text in message.error.items() if name != "traceback"}


Kind = Callable[[Callable[[Delivery], Any]], Callable[[Delivery], Any]]


def plain(function: Callable[[Delivery], Any]) -> Callable[[Delivery], Any]:
    return function


def asynchronous(function: Callable[[Delivery], Any]) -> Callable[[Delivery], Any]:
    async def handler(delivery: Delivery) -> Any:
        return function(delivery)

    return handler


kinds = pytest.mark.parametrize("kind", [plain, asynchronous])


@kinds
def test_what_a_handler_returns_is_the_result(bench: Bench, kind: Kind) -> None:
    bench.worker.handler("orders")(kind(lambda delivery: {"twice": delivery.request["n"] * 2}))
    (message,) = bench.finish(bench.client.queue_message("orders", {"n": 21}))
    assert (message.status, message.result, message.error, message.attempts) == (
        Status.COMPLETE,
        {"twice": 42},
        None,
        1,
    )
    assert message.queued_at <= message.started_at <= message.finished_at


@kinds
def test_what_a_handler_raises_is_the_error_after_its_attempts(bench: Bench, kind: Kind) -> None:
    seen = []

    def fail(delivery: Delivery) -> None:
        seen.append(delivery.attempt)
        raise KeyError(f"no such thing {delivery.attempt}")

    bench.worker.handler("orders")(kind(fail))
    (message,) = bench.finish(bench.client.queue_message("orders", None))
    assert (message.status, message.result, message.attempts) == (Status.ERROR, None, 3)
    assert untraced(message) == {"type": "KeyError", "message": "'no such thing 3'", "reason": "failed"}
    assert seen == [1, 2, 3]
    stats = bench.client.stats("orders")
    assert (stats.failed, stats.dead, stats.died, stats.completed, stats.in_progress) == (3, 1, 1, 0, 0)


@kinds
def test_a_later_attempt_may_succeed(bench: Bench, kind: Kind) -> None:
    def second_time(delivery: Delivery) -> str:
        if delivery.attempt == 1:
            raise ConnectionError("flaky")
        return "done"

    bench.worker.handler("orders")(kind(second_time))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.result, message.error, message.attempts) == (Status.COMPLETE, "done", None, 2)


@kinds
def test_a_handler_may_not_end_the_worker(bench: Bench, kind: Kind) -> None:
    def leave(delivery: Delivery) -> None:
        raise SystemExit(3)

    bench.worker.handler("orders")(kind(leave))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert untraced(message) == {"type": "SystemExit", "message": "3", "reason": "failed"}


@kinds
@pytest.mark.parametrize("result", [object(), {1: 2}, float("nan"), {"a": {"b"}}], ids=["object", "map", "nan", "set"])
def test_a_result_that_cannot_be_encoded_is_rejected_without_retry(bench: Bench, kind: Kind, result: Any) -> None:
    bench.worker.handler("orders")(kind(lambda delivery: result))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.attempts, message.error["reason"]) == (Status.ERROR, 1, "rejected")
    assert message.error["type"] == "InvalidMessage"
    assert "$" in message.error["message"]


@kinds
def test_a_result_that_is_too_large_is_rejected_without_retry(bench: Bench, kind: Kind) -> None:
    bench.client.define("orders", max_bytes=100)
    bench.worker.handler("orders")(kind(lambda delivery: "x" * 101))
    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert (message.status, message.attempts, message.error["reason"]) == (Status.ERROR, 1, "rejected")
    assert message.error["type"] == "MessageTooLarge"


def test_a_body_that_cannot_be_read_is_dead_and_hurts_no_other(bench: Bench) -> None:
    bench.worker.handler("orders")(plain(lambda delivery: "fine"))
    bad, good = bench.client.queue_messages("orders", [1, 2])
    keys = partition_keys(bench.settings.namespace, "orders")
    with redis.Redis.from_url(bench.settings.url, protocol=2) as raw:
        field = bytes.fromhex(bad.replace("-", ""))
        stored = raw.hget(keys.messages, field)
        raw.hset(keys.messages, field, stored[:-1] + b"\xc1")
    (message,) = bench.finish(good)
    assert message.result == "fine"
    assert bench.client.stats("orders").dead == 1
    with pytest.raises(InvalidMessage):
        bench.client.get_message("orders", bad)


def test_an_async_handler_is_cancelled_at_its_timeout(bench: Bench) -> None:
    cancelled = []

    @bench.worker.handler("orders", timeout=0.05)
    async def hang(delivery: Delivery) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(delivery.attempt)
            raise

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert message.error == {
        "type": "TimeoutError",
        "message": "The handler did not return within its timeout of 0.05 s.",
        "reason": "failed",
    }
    assert cancelled == [1, 2, 3]


def test_a_handlers_own_timeout_error_is_its_own(bench: Bench) -> None:
    @bench.worker.handler("orders", timeout=60)
    async def slow_upstream(delivery: Delivery) -> None:
        raise TimeoutError("upstream")

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert untraced(message) == {"type": "TimeoutError", "message": "upstream", "reason": "failed"}


def test_a_plain_handler_that_overruns_fails_its_attempt_and_keeps_its_slot(bench: Bench) -> None:
    go_on = threading.Event()
    told = []

    @bench.worker.handler("orders", concurrency=2, timeout=0.5)
    def stuck(delivery: Delivery) -> str:
        if delivery.request == "stuck" and delivery.attempt == 1:
            go_on.wait(60)
            told.append(delivery.cancelled)
            return "too late"
        return "in time"

    first = bench.client.queue_message("orders", "stuck")
    others = bench.client.queue_messages("orders", ["fast"] * 5)
    messages = bench.finish(first, *others)
    go_on.set()
    while not told:
        time.sleep(0.01)
    assert [message.result for message in messages] == ["in time"] * 6
    assert [message.attempts for message in messages] == [2, 1, 1, 1, 1, 1]
    assert told == [True]


def test_progress_shows_while_a_handler_runs(bench: Bench) -> None:
    seen = []

    @bench.worker.handler("orders")
    def steps(delivery: Delivery) -> str:
        delivery.progress({"step": 1, "of": 2})
        delivery.renew()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            message = bench.client.get_message("orders", delivery.id)
            if message.progress is not None:
                seen.append((message.status, message.progress))
                break
        with pytest.raises(InvalidMessage):
            delivery.progress(object())
        return "done"

    (message,) = bench.finish(bench.client.queue_message("orders", 1))
    assert seen == [(Status.INPROGRESS, {"step": 1, "of": 2})]
    assert (message.result, message.progress) == ("done", None)


def test_a_delivery_tells_who_it_is(bench: Bench) -> None:
    seen: list[Delivery] = []
    bench.worker.handler("orders")(plain(lambda delivery: seen.append(delivery)))
    before = datetime.now(UTC)
    id = bench.client.queue_message("orders", {"secret": "body"})
    bench.finish(id)
    (delivery,) = seen
    assert (delivery.id, delivery.queue, delivery.attempt) == (id, "orders", 1)
    assert delivery.deadline > before
    assert "body" not in repr(delivery)


def test_a_lost_delivery_cannot_be_renewed(bench: Bench) -> None:
    bench.client.define("orders", lease=0.3)
    refused = []

    @bench.worker.handler("orders")
    def deleted(delivery: Delivery) -> None:
        bench.client.delete_message("orders", delivery.id)
        end = time.monotonic() + 10
        while not delivery.cancelled and time.monotonic() < end:
            time.sleep(0.01)
        for call in (delivery.renew, lambda: delivery.progress(1)):
            with pytest.raises(LeaseLost):
                call()
        refused.append(delivery.id)

    gone = bench.client.queue_message("orders", 1)
    other = bench.client.queue_message("other", 1)
    bench.worker.handler("other")(plain(lambda delivery: [time.sleep(0.01) for _ in range(500) if not refused]))
    bench.finish(other, queue="other")
    assert refused == [gone]
    assert bench.client.stats("orders").completed == 0


def test_a_delayed_message_waits_and_a_paused_queue_too(bench: Bench) -> None:
    bench.worker.handler("orders")(plain(lambda delivery: datetime.now(UTC)))
    bench.client.define("orders", paused=True)
    ids = [bench.client.queue_message("orders", 1, delay=0.3), bench.client.queue_message("orders", 2)]
    resume = threading.Timer(0.5, lambda: bench.client.define("orders", paused=False))
    resume.start()
    messages = bench.finish(*ids)
    resume.join()
    assert [message.status for message in messages] == [Status.COMPLETE] * 2
    assert all(message.started_at >= message.queued_at for message in messages)


@pytest.mark.full(keep=1)
def test_a_burst_ends_when_nothing_is_ready(bench: Bench) -> None:
    bench.worker.handler("orders", concurrency=7)(asynchronous(lambda delivery: delivery.request))
    bench.worker.handler("plain", concurrency=3)(plain(lambda delivery: delivery.request))
    ids = bench.client.queue_messages("orders", list(range(100)))
    bench.client.queue_messages("plain", list(range(20)))
    later = bench.client.queue_message("orders", "later", delay=3600)
    assert asyncio.run(bench.worker.run_async(burst=True)) == 0
    assert [bench.client.get_message("orders", id).result for id in ids] == list(range(100))
    assert bench.client.stats("plain").completed == 20
    assert bench.client.get_message("orders", later).status is Status.PENDING


def test_a_cancelled_worker_hands_back_what_runs(bench: Bench) -> None:
    started = asyncio.Event()

    @bench.worker.handler("orders")
    async def hang(delivery: Delivery) -> None:
        started.set()
        await asyncio.sleep(3600)

    async def work() -> None:
        running = asyncio.create_task(bench.worker.run_async())
        await asyncio.wait_for(started.wait(), 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    id = bench.client.queue_message("orders", 1)
    asyncio.run(work())
    message = bench.client.get_message("orders", id)
    assert (message.status, message.attempts) == (Status.PENDING, 1)
    assert bench.client.stats("orders").ready == 1


@pytest.mark.parametrize(
    ("queue", "options", "error"),
    [
        ("a b", {}, InvalidQueueName),
        ("", {}, InvalidQueueName),
        ("orders", {"concurrency": 0}, ValueError),
        ("orders", {"concurrency": True}, ValueError),
        ("orders", {"concurrency": 1.5}, ValueError),
        ("orders", {"timeout": 0}, ValueError),
        ("orders", {"timeout": -1}, ValueError),
        ("orders", {"timeout": float("nan")}, ValueError),
        ("taken", {}, ValueError),
    ],
)
def test_a_handler_with_bad_options_is_refused(queue: str, options: dict[str, Any], error: type[Exception]) -> None:
    worker = Worker()
    worker.handler("taken")(plain(lambda delivery: None))
    with pytest.raises(error):
        worker.handler(queue, **options)(plain(lambda delivery: None))
    assert worker.queues == ["taken"]


def test_a_worker_without_handlers_or_credentials_does_not_start(real_server: embedded.EmbeddedServer) -> None:
    with pytest.raises(WorkerError, match="no handler"):
        Worker(settings=Settings(url=real_server.url)).run()
    worker = Worker(settings=Settings(url=real_server.url))
    worker.handler("orders")(plain(lambda delivery: None))
    with pytest.raises(MissingCredentials):
        worker.run()
