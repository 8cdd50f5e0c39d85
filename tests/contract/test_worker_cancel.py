"""What becomes of a message that is cancelled while a worker is at it, and how the worker learns that. It runs here."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redisq import Delivery, InvalidArgument, LeaseLost, RedisQ, Retry, Settings, Status, Worker, embedded
from redisq.store import scripts
from redisq.store.record import CANCELLED
from tests.conftest import Raw, settings_for
from tests.support.servers.proxy import Proxy, script, until

QUEUE = "orders"
LONG = 600.0  # seconds: without a hint a third of it would be too long for any test
SUBSCRIBE = b"SUBSCRIBE"


@contextlib.contextmanager
def working(worker: Worker) -> Iterator[None]:
    """Run a worker in a thread meanwhile."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(asyncio.run(worker.run_async())))
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(60)
        assert codes == [0]


def queued(client: RedisQ, request: object = None, queue: str = QUEUE) -> str:
    """Queue a message, and wait until a worker is at it."""
    id = client.queue_message(queue, request)
    until(lambda: client.get_message(queue, id).status is Status.INPROGRESS)
    return id


class Bench:
    """A worker and a client in one namespace, whose leases are long: only a hint tells of anything in time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = RedisQ(settings=settings)
        self.worker = Worker(settings=settings)
        self.seen: list[Any] = []

    def cancelled(self, queue: str = QUEUE) -> Any:
        """Queue a message, cancel it when its handler runs, and give what it has become."""
        with working(self.worker):
            id = queued(self.client, queue=queue)
            until(lambda: self.seen)
            assert self.client.cancel_message(queue, id) is None
            return self.client.get_message(queue, id, wait=30)


def assert_cancelled(message: Any, error: dict[str, str] = CANCELLED) -> None:
    told = {name: text for name, text in message.error.items() if name != "traceback"}
    assert (message.status, told) == (Status.ERROR, {**error, "reason": "cancelled"})
    assert ([step.event for step in message.history], message.attempts) == (["cancelled"], 1)


@pytest.fixture
def bench(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Bench]:
    made = Bench(settings_for(server.url, namespace, lease=LONG, max_attempts=5, backoff_base=0.0, grace=5))
    yield made
    made.client.close()


def test_an_async_handler_is_cancelled(bench: Bench) -> None:
    @bench.worker.handler(QUEUE)
    async def hang(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        await asyncio.sleep(3600)

    assert_cancelled(bench.cancelled())
    assert bench.seen[0].cancelled
    stats = bench.client.stats(QUEUE)
    assert (stats.cancelled, stats.failed, stats.died, stats.dead, stats.completed) == (1, 0, 0, 0, 0)
    assert bench.client.doctor(QUEUE) == []


def test_a_plain_handler_may_wait_for_it(bench: Bench) -> None:
    @bench.worker.handler(QUEUE)
    def hang(delivery: Delivery) -> None:
        assert delivery.wait_cancelled(0) is delivery.wait_cancelled(0.001) is delivery.cancelled is False
        bench.seen.append(delivery)
        waits = [threading.Thread(target=delivery.wait_cancelled) for _ in range(5)]
        for wait in waits:
            wait.start()
        assert delivery.wait_cancelled() is delivery.wait_cancelled(3600) is delivery.cancelled is True
        for wait in waits:
            wait.join(60)
        with pytest.raises(LeaseLost):
            delivery.progress(1)
        raise KeyError("half-way")

    assert_cancelled(bench.cancelled(), {"type": "KeyError", "message": "'half-way'"})


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 1e300, "1", True, object()])
def test_a_wait_takes_seconds(bench: Bench, timeout: object) -> None:
    @bench.worker.handler(QUEUE)
    def wait(delivery: Delivery) -> str:
        with pytest.raises(InvalidArgument) as refusal:
            delivery.wait_cancelled(timeout)  # type: ignore[arg-type]
        return str(refusal.value)

    with working(bench.worker):
        message = bench.client.get_message(QUEUE, bench.client.queue_message(QUEUE, 1), wait=30)
    assert message.result.startswith("timeout takes seconds")


def test_what_a_handler_asks_for_then_is_not_done(bench: Bench) -> None:
    @bench.worker.handler(QUEUE)
    async def retry(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        try:
            await asyncio.sleep(3600)
        finally:
            raise Retry("again", after=0)

    assert_cancelled(bench.cancelled(), {"type": "Retry", "message": "again | while handling CancelledError"})


@pytest.mark.parametrize("result", [None, {"done": 7}])
def test_a_result_counts(bench: Bench, result: object) -> None:
    @bench.worker.handler(QUEUE)
    async def finish(delivery: Delivery) -> object:
        bench.seen.append(delivery)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(0.05)  # it is cancelled once
        return result

    message = bench.cancelled()
    assert (message.status, message.result, message.error) == (Status.COMPLETE, result, None)
    assert bench.client.cancel_message(QUEUE, message.id) is False
    assert bench.client.stats(QUEUE).cancelled == 0


def test_a_handler_that_ignores_it_ends_as_it_likes(bench: Bench) -> None:
    go_on = threading.Event()

    @bench.worker.handler(QUEUE)
    def ignore(delivery: Delivery) -> str:
        bench.seen.append(delivery)
        go_on.wait(60)
        return "all of it"

    with working(bench.worker):
        id = queued(bench.client)
        assert bench.client.cancel_message(QUEUE, id) is bench.client.cancel_message(QUEUE, id) is None
        until(lambda: bench.seen and bench.seen[0].cancelled)
        assert bench.client.get_message(QUEUE, id).status is Status.INPROGRESS
        go_on.set()
        assert bench.client.get_message(QUEUE, id, wait=30).result == "all of it"


def test_what_a_plain_handler_left_to_await_is_cancelled(bench: Bench) -> None:
    async def hang(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        await asyncio.sleep(3600)

    bench.worker.handler(QUEUE)(lambda delivery: hang(delivery))
    assert_cancelled(bench.cancelled())


def test_a_worker_that_stops_ends_it(bench: Bench) -> None:
    """It has no time left for a plain handler that goes on."""
    bench.settings = bench.settings.model_copy(update={"grace": 0.1})
    bench.worker, go_on = Worker(settings=bench.settings), threading.Event()

    @bench.worker.handler(QUEUE)
    def hang(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        go_on.wait(60)

    with working(bench.worker):
        id = queued(bench.client)
        bench.client.cancel_message(QUEUE, id)
    go_on.set()
    assert_cancelled(bench.client.get_message(QUEUE, id))


def test_a_deletion_is_felt_at_once(bench: Bench) -> None:
    @bench.worker.handler(QUEUE)
    async def hang(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        await asyncio.sleep(3600)

    with working(bench.worker):
        bench.client.delete_message(QUEUE, queued(bench.client))
        until(lambda: bench.seen and bench.seen[0].cancelled)


def test_each_queue_hears_its_own(bench: Bench) -> None:
    for queue in ("orders", "mails"):

        @bench.worker.handler(queue)
        async def hang(delivery: Delivery) -> None:
            bench.seen.append(delivery)
            await asyncio.sleep(3600)

    with working(bench.worker):
        ids = {queue: queued(bench.client, queue=queue) for queue in ("orders", "mails")}
        assert bench.client.cancel_message("mails", ids["mails"]) is None
        assert_cancelled(bench.client.get_message("mails", ids["mails"], wait=30))
        assert bench.client.get_message("orders", ids["orders"]).status is Status.INPROGRESS
        bench.client.cancel_message("orders", ids["orders"])
        assert_cancelled(bench.client.get_message("orders", ids["orders"], wait=30))


def test_many_at_once(bench: Bench) -> None:
    @bench.worker.handler(QUEUE, concurrency=300)
    async def hang(delivery: Delivery) -> None:
        bench.seen.append(delivery)
        await asyncio.sleep(3600)

    with working(bench.worker):
        ids = bench.client.queue_messages(QUEUE, range(300))
        until(lambda: len(bench.seen) == 300)
        assert {bench.client.cancel_message(QUEUE, id) for id in ids} <= {None}
        for id in ids:
            assert_cancelled(bench.client.get_message(QUEUE, id, wait=30))


# --- Where a hint does not come ---


def away(proxy: Proxy) -> None:
    """Take the server away, until the proxy has its target again."""
    proxy.target = "redis://127.0.0.1:1"
    proxy.hang_up()


def listeners(raw: Raw) -> int:
    return raw.redis.pubsub_numsub(raw.keys.hints)[0][1]


def waiting(worker: Worker, seen: list[Delivery]) -> None:
    @worker.handler(QUEUE)
    def wait(delivery: Delivery) -> None:
        seen.append(delivery)
        delivery.wait_cancelled(60)
        raise ValueError


def test_without_a_hint_the_heartbeat_tells(raw_real: Raw) -> None:
    """All connections that hear hints are closed, and those that would are not let in."""
    settings, seen = raw_real.settings.model_copy(update={"lease": 0.6}), list[Delivery]()
    with Proxy(settings.url) as proxy, RedisQ(settings=settings) as client:
        proxy.reset(SUBSCRIBE, times=1_000)
        worker = Worker(settings=settings.model_copy(update={"url": proxy.url}))
        waiting(worker, seen)
        with working(worker):
            id = queued(client)
            assert client.cancel_message(QUEUE, id) is None
            message = client.get_message(QUEUE, id, wait=30)
    assert_cancelled(message, {"type": "ValueError", "message": ""})


def test_the_hints_are_heard_again_after_an_outage(raw_real: Raw) -> None:
    settings, seen = raw_real.settings.model_copy(update={"lease": LONG}), list[Delivery]()
    with Proxy(settings.url) as proxy, RedisQ(settings=settings) as client:
        worker = Worker(settings=settings.model_copy(update={"url": proxy.url}))
        waiting(worker, seen)
        with working(worker):
            until(lambda: listeners(raw_real) == 1)
            away(proxy)
            proxy.target = settings.url
            until(lambda: proxy.count(SUBSCRIBE) > 1 and listeners(raw_real) == 1)
            id = queued(client)
            assert client.cancel_message(QUEUE, id) is None
            message = client.get_message(QUEUE, id, wait=30)
    assert_cancelled(message, {"type": "ValueError", "message": ""})


def test_a_hint_that_came_too_early_is_made_up_for(raw_real: Raw) -> None:
    """The message is cancelled before the worker hears hints."""
    settings, seen = raw_real.settings.model_copy(update={"lease": LONG}), list[Delivery]()
    with Proxy(settings.url) as proxy, RedisQ(settings=settings) as client:
        proxy.reset(SUBSCRIBE, times=1_000)
        worker = Worker(settings=settings.model_copy(update={"url": proxy.url}))
        waiting(worker, seen)
        with working(worker):
            id = queued(client)
            until(lambda: seen)
            assert client.cancel_message(QUEUE, id) is None
            proxy.heal()
            message = client.get_message(QUEUE, id, wait=30)
    assert_cancelled(message, {"type": "ValueError", "message": ""})


def test_a_hint_may_come_before_what_it_is_about(raw_real: Raw) -> None:
    """The answer to the claim is held back until the hint is there."""
    settings, seen = raw_real.settings.model_copy(update={"lease": LONG}), list[Delivery]()
    with Proxy(settings.url) as proxy, RedisQ(settings=settings) as client:
        id = client.queue_message(QUEUE, 1)
        raw_real.redis.script_load(scripts.load("claim").text)
        answer = proxy.hold_reply(script("claim"))
        worker = Worker(settings=settings.model_copy(update={"url": proxy.url}))
        waiting(worker, seen)
        with working(worker):
            until(lambda: client.get_message(QUEUE, id).status is Status.INPROGRESS)
            until(lambda: listeners(raw_real) == 1)
            assert client.cancel_message(QUEUE, id) is None
            answer.let_go()
            message = client.get_message(QUEUE, id, wait=30)
    assert_cancelled(message, {"type": "ValueError", "message": ""})


def test_an_outcome_that_redis_cannot_take_yet_ends_it_as_cancelled(raw_real: Raw) -> None:
    """It is cancelled while the worker has no Redis, and the handler has failed already."""
    settings = raw_real.settings.model_copy(update={"lease": LONG})
    fail = threading.Event()
    with Proxy(settings.url) as proxy, RedisQ(settings=settings) as client:
        worker = Worker(settings=settings.model_copy(update={"url": proxy.url}))

        @worker.handler(QUEUE)
        def wait(delivery: Delivery) -> None:
            fail.wait(60)
            raise ValueError("no stock")

        with working(worker):
            id = queued(client)
            away(proxy)
            fail.set()
            assert client.cancel_message(QUEUE, id) is None
            proxy.target = settings.url
            message = client.get_message(QUEUE, id, wait=30)
    assert_cancelled(message, {"type": "ValueError", "message": "no stock"})


def test_a_suspect_is_cancelled_like_any(raw_real: Raw, hand_on: Callable[[Settings], Any]) -> None:
    settings, seen = raw_real.settings.model_copy(update={"lease": 3.0}), list[Delivery]()
    with RedisQ(settings=settings) as client:
        id = client.queue_message(QUEUE, 1)
        delivery = hand_on(settings).claim()
        raw_real.redis.zadd(raw_real.keys.leases, {delivery.receipt.id: 1})
        worker = Worker(settings=settings)
        waiting(worker, seen)
        with working(worker):
            until(lambda: seen)
            client.cancel_message(QUEUE, id)
            message = client.get_message(QUEUE, id, wait=30)
    assert (message.error["reason"], message.attempts) == ("cancelled", 2)
    assert [step.event for step in message.history] == ["lost", "reclaimed", "cancelled"]
