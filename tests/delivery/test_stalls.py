"""Handlers and connections that stand still: nothing is started twice, and nothing waits for ever."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from redisq import Delivery, RedisQ, Status, Worker, embedded
from tests.conftest import Raw, settings_for
from tests.delivery.conftest import QUEUE
from tests.support.servers.proxy import Proxy, until
from tests.support.workers.spawned import PATIENCE, working

LEASE = 1.0


def sleep(seconds: float) -> None:
    """Keep the thread, not the interpreter."""
    time.sleep(seconds)


def compute(seconds: float) -> None:
    """Keep the interpreter as well, as far as Python code can."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1_000))


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("stall", [sleep, compute])
def test_a_handler_that_keeps_the_loop_beyond_its_lease_is_not_started_again(
    real_server: embedded.EmbeddedServer, below: Callable[..., Raw], stall: Callable[[float], None]
) -> None:
    """Meanwhile another worker, kept awake by other messages, looks for lapsed leases all the time."""
    raw = below(real_server, lease=LEASE)
    started: Counter[str] = Counter()
    free = threading.Event()
    stuck, other = Worker(settings=raw.settings), Worker(settings=raw.settings)

    @stuck.handler(QUEUE, concurrency=1)
    async def keep_loop(delivery: Delivery) -> str:
        started[delivery.id] += 1
        if delivery.request == "stall":
            free.set()
            stall(3 * LEASE)
        return "kept the loop"

    @other.handler(QUEUE, concurrency=10)
    async def at_once(delivery: Delivery) -> str:
        started[delivery.id] += 1
        return "at once"

    with RedisQ(settings=raw.settings) as client, working(stuck):
        stalled = client.queue_message(QUEUE, "stall")
        until(free.is_set)
        with working(other):
            ids = [stalled]
            while not client.get_message(QUEUE, stalled).finished:
                ids.append(client.queue_message(QUEUE, "short"))
                time.sleep(0.02)
            message = client.get_message(QUEUE, stalled)
            until(lambda: client.stats(QUEUE).completed == len(ids), PATIENCE)
        stats = client.stats(QUEUE)
    assert (message.status, message.attempts, message.result) == (Status.COMPLETE, 1, "kept the loop")
    assert started == dict.fromkeys(ids, 1)
    assert (stats.lost, stats.failed) == (0, 0)


@pytest.mark.full
def test_a_wait_for_the_bell_that_never_ends_delays_no_message(
    real_server: embedded.EmbeddedServer, below: Callable[..., Raw], namespace: str
) -> None:
    """The worker's own clock ends the wait: once for a message that becomes due, once for one whose ring is lost."""
    with Proxy(real_server.url) as proxy, RedisQ(settings=below(real_server).settings) as client:
        proxy.swallow_reply(b"BLPOP", times=1_000)
        worker = Worker(settings=settings_for(proxy.url, namespace))

        @worker.handler(QUEUE)
        async def handle(delivery: Delivery) -> int:
            return delivery.attempt

        with working(worker):
            until(lambda: proxy.count(b"BLPOP"))
            delayed = client.queue_message(QUEUE, 1, delay=0.5)
            lost_ring = client.queue_message(QUEUE, 2)
            for id in (lost_ring, delayed):
                assert client.get_message(QUEUE, id, wait=PATIENCE).result == 1
