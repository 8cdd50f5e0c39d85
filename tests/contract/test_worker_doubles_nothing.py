"""No handler starts on a lease that may be gone: late answers, repeated claims, and the end of an outage."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from redisq import Delivery, RedisQ, Settings, Worker
from redisq.claims import policy
from redisq.store.keys import partition_keys
from tests.conftest import settings_for
from tests.contract.conftest import Hand
from tests.support.servers.proxy import Proxy, script, until


class Scene:
    """A queue that a worker reaches through a proxy, and a client and a second worker's hand reach directly."""

    def __init__(self, proxy: Proxy, url: str, namespace: str, hand_on: Callable[[Settings], Hand]) -> None:
        self.proxy = proxy
        values = {"lease": 30, "grace": 5, "backoff_base": 0.01, "max_attempts": 3}
        self.worker_settings = settings_for(proxy.url, namespace, command_timeout=1, **values)
        settings = settings_for(url, namespace, **values)
        self.client = RedisQ(settings=settings)
        self.hand = hand_on(settings)
        self.redis = redis.Redis.from_url(url, protocol=2)
        self.keys = partition_keys(namespace, "orders")
        self.started: list[tuple[Any, int]] = []
        self.hand.claim_up_to(1)  # so that the server knows the script, and the proxy holds its answer

    def lease_ends_in(self, seconds: float) -> None:
        """Set the deadline of every lease."""
        now, microseconds = self.redis.time()
        deadline = now * 1000 + microseconds // 1000 + int(seconds * 1000)
        for id in self.redis.zrange(self.keys.leases, 0, -1):
            self.redis.zadd(self.keys.leases, {id: deadline})

    def seconds_left(self) -> float:
        """How long the only lease lasts yet."""
        ((_, deadline),) = self.redis.zrange(self.keys.leases, 0, -1, withscores=True)
        now, microseconds = self.redis.time()
        return deadline / 1000 - now - microseconds / 1_000_000

    @contextmanager
    def working(self, handle: Callable[[Delivery], Any]) -> Iterator[None]:
        """Run a worker with one slot in a thread of its own loop."""
        worker = Worker(settings=self.worker_settings)
        loops: list[asyncio.AbstractEventLoop] = []

        @worker.handler("orders", concurrency=1)
        async def handler(delivery: Delivery) -> Any:
            self.started.append((delivery.request, delivery.attempt))
            return await handle(delivery)

        async def work() -> None:
            loops.append(asyncio.get_running_loop())
            await worker.run_async()

        thread = threading.Thread(target=asyncio.run, args=(work(),))
        thread.start()
        try:
            yield
        finally:
            until(lambda: loops)
            loops[0].call_soon_threadsafe(worker.stop)
            thread.join(20)
            assert not thread.is_alive()

    def close(self) -> None:
        self.client.close()
        self.redis.close()


@pytest.fixture
def scene(proxy: Proxy, real_server: Any, namespace: str, hand_on: Callable[[Settings], Hand]) -> Iterator[Scene]:
    made = Scene(proxy, real_server.url, namespace, hand_on)
    yield made
    made.close()


async def at_once(delivery: Delivery) -> str:
    return "done"


def test_an_answer_that_comes_after_the_lease_was_taken_over_starts_nothing(scene: Scene) -> None:
    """As when another handler keeps the loop for longer than the lease while the claim's answer lies there."""
    scene.client.define("orders", lease=0.5)
    late = scene.client.queue_message("orders", "late")
    answer = scene.proxy.hold_reply(script("claim"))
    with scene.working(at_once):
        asked = time.monotonic()
        until(lambda: scene.client.stats("orders").in_progress == 1)
        scene.lease_ends_in(-1)
        taken = scene.hand.claim()
        until(lambda: time.monotonic() > asked + policy.beat_after(0.5) + 0.1)
        answer.let_go()
        after = scene.client.queue_message("orders", "after")
        assert scene.client.get_message("orders", after, wait=20).finished
        assert scene.started == [("after", 1)]
        scene.hand.complete(taken)
    assert scene.client.get_message("orders", late).attempts == 2


def test_a_late_answer_whose_lease_still_stands_is_worked_on(scene: Scene) -> None:
    scene.client.define("orders", lease=0.5)
    id = scene.client.queue_message("orders", "late")
    answer = scene.proxy.hold_reply(script("claim"))
    with scene.working(at_once):
        asked = time.monotonic()
        until(lambda: scene.client.stats("orders").in_progress == 1)
        until(lambda: time.monotonic() > asked + policy.beat_after(0.5) + 0.1)
        answer.let_go()
        assert scene.client.get_message("orders", id, wait=20).result == "done"
    assert scene.started == [("late", 1)]


def test_a_repeated_claim_begins_with_a_whole_lease(scene: Scene) -> None:
    """The first answer was lost, and most of the lease has passed when the repeat is answered."""
    left: list[float] = []

    async def look(delivery: Delivery) -> None:
        left.append(scene.seconds_left())

    id = scene.client.queue_message("orders", "again")
    scene.proxy.swallow_reply(script("claim"))
    with scene.working(look):
        until(lambda: scene.client.stats("orders").in_progress == 1)
        scene.lease_ends_in(8)  # less than a third of it: the next beat would come too late
        assert scene.client.get_message("orders", id, wait=20).finished
    assert scene.started == [("again", 1)]
    assert left[0] > 25


def test_a_worker_that_was_busy_through_an_outage_takes_no_lapsed_lease_at_its_end(scene: Scene) -> None:
    """With all slots taken nothing is claimed, so nothing but the heartbeat tells that Redis was away."""
    lease = 2.0
    scene.client.define("orders", lease=lease)
    scene.worker_settings = scene.worker_settings.model_copy(update={"lease": lease})
    free = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def hold(delivery: Delivery) -> None:
        loops.append(asyncio.get_running_loop())
        await free.wait()

    began = time.monotonic()
    mine = scene.client.queue_message("orders", "mine")
    with scene.working(hold):
        until(lambda: scene.started)
        until(lambda: time.monotonic() > began + policy.hold_after_start(lease))
        scene.client.queue_message("orders", "theirs")
        theirs = scene.hand.claim()
        failed = scene.proxy.count(script("renew"))
        scene.proxy.reset(script("renew"), times=1_000)
        until(lambda: scene.proxy.count(script("renew")) >= failed + 2)
        scene.lease_ends_in(-1)
        scene.proxy.heal()
        claims = scene.proxy.count(script("claim"))
        loops[0].call_soon_threadsafe(free.set)
        assert scene.client.get_message("orders", mine, wait=20).finished
        until(lambda: scene.proxy.count(script("claim")) > claims)
        scene.hand.complete(theirs)  # its holder is back, too: the message was left to it
    assert scene.started == [("mine", 1)]
