"""In which order a worker takes several queues that share its slots, on every server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from redisq import Delivery, RedisQ, Worker
from redisq.store.keys import partition_keys
from tests.conftest import Raw

PATIENCE = 20.0
Function = Callable[[Delivery], Any]


class Log:
    """What handlers began, in order, and how many of them ran at once at most."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def begin(self, delivery: Delivery) -> None:
        with self._lock:
            self.began.append(delivery.queue)
            self._now += 1
            self.most = max(self.most, self._now)

    def end(self) -> None:
        with self._lock:
            self._now -= 1


def plain(log: Log) -> Function:
    def handle(delivery: Delivery) -> None:
        log.begin(delivery)
        time.sleep(0.002)
        log.end()

    return handle


def asynchronous(log: Log) -> Function:
    async def handle(delivery: Delivery) -> None:
        log.begin(delivery)
        await asyncio.sleep(0.002)
        log.end()

    return handle


kinds = pytest.mark.parametrize("kind", [plain, asynchronous])


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Run a worker while the block runs."""
    running = asyncio.create_task(worker.run_async())
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    finally:
        worker.stop()
        assert await running == 0


async def listening(raw: Raw, count: int) -> None:
    """Wait until so many bells are listened to."""
    while raw.redis.info("clients")["blocked_clients"] != count:
        await asyncio.sleep(0.005)


def work_off(raw: Raw, worker: Worker, **backlog: int) -> None:
    """Queue so many messages to each queue, and run the worker until all are done."""
    with RedisQ(settings=raw.settings) as client:
        for queue, count in backlog.items():
            client.queue_messages(queue, [None] * count)
    assert asyncio.run(asyncio.wait_for(worker.run_async(burst=True), PATIENCE)) == 0


@pytest.mark.full(keep=2)
@kinds
def test_strict_order_takes_the_highest_first(raw: Raw, kind: Callable[[Log], Function]) -> None:
    log, worker = Log(), Worker(settings=raw.settings)
    for queue, priority in (("low", 1), ("high", 3), ("middle", 2)):
        worker.handler(queue, concurrency=3, priority=priority)(kind(log))
    work_off(raw, worker, low=20, middle=20, high=20)
    order = ["high"] * 20 + ["middle"] * 20 + ["low"] * 20
    if kind is plain:  # of the three that run at once, the system says which thread writes first
        assert sorted(log.began) == sorted(order)
        assert all(queue in order[max(0, place - 2) : place + 3] for place, queue in enumerate(log.began))
    else:
        assert log.began == order
    assert log.most == 3


@pytest.mark.full(keep=1)
@kinds
def test_weighted_order_shares_by_priority(raw: Raw, kind: Callable[[Log], Function]) -> None:
    log, worker = Log(), Worker(settings=raw.settings, concurrency=4, order="weighted")
    for queue, priority in (("low", 1), ("high", 4)):
        worker.handler(queue, concurrency=4, priority=priority)(kind(log))
    work_off(raw, worker, low=120, high=120)
    assert len(log.began) == 240
    both = log.began[:100]  # while both have messages: 80 and 20, give or take the first claims
    assert 70 <= both.count("high") <= 90
    assert log.most == 4


@pytest.mark.full(keep=1)
@kinds
def test_a_worker_s_concurrency_is_for_all_its_queues(raw: Raw, kind: Callable[[Log], Function]) -> None:
    log, worker = Log(), Worker(settings=raw.settings, concurrency=2)
    for queue in ("a", "b"):
        worker.handler(queue, concurrency=5)(kind(log))
    work_off(raw, worker, a=30, b=30)
    assert (log.began.count("a"), log.began.count("b")) == (30, 30)
    assert log.most == 2
    assert 10 <= log.began[:30].count("a") <= 20  # among equals they take turns


@pytest.mark.full(keep=1)
def test_a_worker_s_concurrency_is_for_one_queue_as_well(raw: Raw) -> None:
    log, worker = Log(), Worker(settings=raw.settings, concurrency=2)
    worker.handler("a", concurrency=5)(asynchronous(log))
    work_off(raw, worker, a=30)
    assert log.most == 2


def test_without_priorities_each_queue_has_its_own_slots(raw: Raw) -> None:
    worker = Worker(settings=raw.settings)
    together = threading.Barrier(4, timeout=PATIENCE)
    for queue in ("a", "b"):
        worker.handler(queue, concurrency=2)(lambda delivery: bool(together.wait()))
    work_off(raw, worker, a=2, b=2)  # none of them ends before all four have begun


def test_what_comes_later_to_a_higher_queue_is_next(raw_real: Raw) -> None:
    worker, began, gate = Worker(settings=raw_real.settings), [], asyncio.Semaphore(0)

    async def handle(delivery: Delivery) -> None:
        began.append(delivery.queue)
        await gate.acquire()

    worker.handler("high", concurrency=1, priority=2)(handle)
    worker.handler("low", concurrency=1, priority=1)(handle)

    async def check() -> None:
        with RedisQ(settings=raw_real.settings) as client:
            client.queue_messages("low", [1, 2, 3])
            async with working(worker):
                for number, expected in enumerate(["low", "high", "low", "low"], 1):
                    while len(began) < number:
                        await asyncio.sleep(0.005)
                    assert began[-1] == expected
                    if number == 1:
                        await listening(raw_real, 1)
                        await listening(raw_real, 0)  # now it waits for its turn
                        client.queue_message("high", 4)
                    gate.release()

    asyncio.run(check())


def paused(raw: Raw, client: RedisQ) -> None:
    client.define("high", paused=True)


def broken(raw: Raw, client: RedisQ) -> None:
    raw.redis.set(partition_keys(raw.settings.namespace, "high").leases, "mine")


@pytest.mark.parametrize("spoil", [paused, broken])
def test_a_higher_queue_that_gives_nothing_keeps_nobody_waiting(raw: Raw, spoil: Callable[[Raw, RedisQ], None]) -> None:
    log, worker = Log(), Worker(settings=raw.settings)
    worker.handler("high", concurrency=2, priority=2)(asynchronous(log))
    worker.handler("low", concurrency=2, priority=1)(asynchronous(log))

    async def check() -> None:
        with RedisQ(settings=raw.settings) as client:
            client.queue_messages("high", [None] * 5)
            client.queue_messages("low", [None] * 10)
            spoil(raw, client)
            async with working(worker):
                while len(log.began) < 10:
                    await asyncio.sleep(0.005)

    asyncio.run(check())
    assert log.began == ["low"] * 10


def test_a_queue_that_is_crowded_out_leaves_rings_to_other_workers(raw_real: Raw) -> None:
    """Only its other queue's handlers run, and hold all slots: then it does not listen to this queue's bell either."""
    worker, gate = Worker(settings=raw_real.settings, concurrency=1), asyncio.Event()

    async def hold(delivery: Delivery) -> None:
        await gate.wait()

    async def at_once(delivery: Delivery) -> None:
        pass

    worker.handler("slow", concurrency=1)(hold)
    worker.handler("idle", concurrency=1)(at_once)
    bell = partition_keys(raw_real.settings.namespace, "idle").bell

    async def check() -> None:
        with RedisQ(settings=raw_real.settings) as client:
            async with working(worker):
                await listening(raw_real, 2)
                client.queue_message("slow", None)
                await listening(raw_real, 0)
                id = client.queue_message("idle", None)
                assert raw_real.redis.llen(bell) == 1  # nobody of this worker has heard it
                gate.set()
                assert (await asyncio.to_thread(client.get_message, "idle", id, wait=PATIENCE)).status == "COMPLETE"

    asyncio.run(check())


@pytest.mark.parametrize("number", [0, 1_001, True, 2.0, "3", None])
def test_a_priority_is_a_number_from_1_to_1000(raw: Raw, number: Any) -> None:
    worker = Worker(settings=raw.settings)
    with pytest.raises(ValueError, match="priority takes a whole number from 1 to 1,000"):
        worker.handler("a", priority=number)
    assert worker.queues == []


@pytest.mark.parametrize("number", [0, 100_001, True, 2.0, "3"])
def test_a_worker_s_concurrency_is_a_number(number: Any) -> None:
    with pytest.raises(ValueError, match="concurrency takes a whole number from 1 to 100,000"):
        Worker(concurrency=number)


@pytest.mark.parametrize("order", ["fair", "", None, 1])
def test_there_are_two_orders(order: Any) -> None:
    with pytest.raises(ValueError, match="order takes 'strict' or 'weighted'"):
        Worker(order=order)
