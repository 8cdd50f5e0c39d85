"""Redis goes away and comes back: few knock at its door meanwhile, everybody is served afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from redisq import AsyncRedisQ, RedisQ, Settings, Unavailable
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener
from redisq.store.keys import partition_keys
from tests.contract.test_connection import run_program
from tests.support.servers.proxy import Proxy, until

QUEUE = "orders"
OUTAGE = 1.0  # seconds
CALLERS = 100
KNOCKS = 30  # in an outage; about 8 are expected, and hundreds without a gate


@pytest.fixture
def nobody(tmp_path: Any) -> str:
    """A URL at which there is no server."""
    return f"unix://{tmp_path}/nobody.sock"


@pytest.fixture
def settings(raw_real: Any, proxy: Proxy) -> Settings:
    """Settings of patient callers behind the proxy."""
    changed: Settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": 60})
    return changed


def in_threads(settings: Settings, call: Callable[[Any, int], Any]) -> list[Any]:
    """Make a call from each of many threads, some to each of three clients."""
    clients = [RedisQ(settings=settings) for _ in range(3)]
    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            return list(pool.map(lambda n: call(clients[n % 3], n), range(CALLERS)))
    finally:
        for client in clients:
            client.close()


def in_tasks(settings: Settings, call: Callable[[Any, int], Awaitable[Any]]) -> list[Any]:
    """Make a call from each of many tasks, some to each of three clients."""

    async def main() -> list[Any]:
        clients = [AsyncRedisQ(settings=settings) for _ in range(3)]
        try:
            return await asyncio.gather(*[call(clients[n % 3], n) for n in range(CALLERS)])
        finally:
            for client in clients:
                await client.close()

    return asyncio.run(main())


both = pytest.mark.parametrize("many", [in_threads, in_tasks])


@contextmanager
def outage(proxy: Proxy, nobody: str) -> Iterator[list[int]]:
    """Let Redis be gone for a while from now on. Gives how often somebody knocked, once that is over."""
    there, before, knocks = proxy.target, proxy.accepted, []

    def end() -> None:
        knocks.append(proxy.accepted - before)
        proxy.target = there

    proxy.target = nobody
    proxy.hang_up()
    back = threading.Timer(OUTAGE, end)
    back.start()
    yield knocks
    back.join()


@both
def test_while_redis_is_gone_few_knock_and_then_all_are_served(
    raw_real: Any, settings: Settings, proxy: Proxy, nobody: str, many: Any
) -> None:
    settings = settings.model_copy(update={"max_connections": 10})
    with outage(proxy, nobody) as knocks:
        ids = many(settings, lambda mq, n: mq.queue_message(QUEUE, n))
    assert knocks[0] <= 3 * settings.max_connections + KNOCKS  # who began before the first failure knocked, too
    assert len(set(ids)) == CALLERS
    with RedisQ(settings=raw_real.settings) as direct:
        assert direct.stats(QUEUE).queued == CALLERS


def test_threads_and_tasks_whose_connections_break_share_one_gate(
    raw_real: Any, settings: Settings, proxy: Proxy, nobody: str
) -> None:
    settings = settings.model_copy(update={"max_connections": 20})
    warm, gone = threading.Barrier(3, timeout=60), threading.Barrier(3, timeout=60)
    proxy.delay = lambda: 0.01  # so that each link opens all the connections that it may

    def threads() -> list[str]:
        with RedisQ(settings=settings) as mq, ThreadPoolExecutor(50) as pool:
            list(pool.map(lambda n: mq.queue_message(QUEUE, n), range(50)))
            warm.wait()
            gone.wait()
            return list(pool.map(lambda n: mq.queue_message(QUEUE, n), range(50)))

    queues = [f"{QUEUE}-{n}" for n in range(50)]  # calls of tasks on one queue would share connections

    async def tasks() -> list[str]:
        async with AsyncRedisQ(settings=settings) as mq:
            await asyncio.gather(*[mq.queue_message(queue, "") for queue in queues])
            await asyncio.to_thread(warm.wait)
            await asyncio.to_thread(gone.wait)
            return await asyncio.gather(*[mq.queue_message(queue, "") for queue in queues])

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(threads), pool.submit(lambda: asyncio.run(tasks()))]
        warm.wait()
        assert proxy.open == 40
        with outage(proxy, nobody) as knocks:
            gone.wait()
            ids = [id for caller in callers for id in caller.result()]
    # A connection that was closed while it was idle is noticed, so all that call at that moment connect anew.
    assert knocks[0] <= 2 * settings.max_connections + KNOCKS
    assert len(set(ids)) == 100
    with RedisQ(settings=raw_real.settings) as direct:
        assert sum(direct.stats(queue).queued for queue in [QUEUE, *queues]) == 200


def test_a_call_that_may_not_wait_is_refused_without_a_knock_and_served_at_an_opening(
    settings: Settings, proxy: Proxy, nobody: str
) -> None:
    there, proxy.target = proxy.target, nobody
    with RedisQ(settings=settings.model_copy(update={"retry_deadline": 0})) as mq:

        def said() -> str:
            try:
                mq.stats(QUEUE)
            except Unavailable as error:
                return str(error)
            return "nothing"

        def refused_without_a_knock() -> bool:
            before = proxy.accepted
            return "This call was not sent" in said() and proxy.accepted == before

        until(refused_without_a_knock)
        proxy.target = there
        until(lambda: said() == "nothing")


def test_what_one_client_found_out_no_other_finds_out_anew(make_client: Any, settings: Settings, proxy: Proxy) -> None:
    """After an outage the idle connections of all links are suspect: a call that may not be repeated takes none."""
    first, second = make_client(settings), make_client(settings.model_copy(update={"retry_deadline": 0}))
    for _ in range(3):
        for mq in (first, second):
            mq.stats(QUEUE)
        proxy.hang_up()
        first.stats(QUEUE)
        second.stats(QUEUE)


# --- The doorbell ---


def test_a_doorbell_waits_for_the_gate_and_does_not_probe(settings: Settings, proxy: Proxy) -> None:
    """Its own wait would be a slow probe, and all calls would wait for it."""
    keys = partition_keys(settings.namespace, QUEUE)

    async def main() -> None:
        link = AsyncLink(settings)
        server = (await link.endpoint()).known()
        bell = Listener(link, keys.bell)
        leave = server.circuit.enter(time.monotonic())
        assert leave
        server.circuit.lost(leave, time.monotonic(), "gone", connected=True)
        with pytest.raises(Unavailable, match="gone"):
            await bell.wait(0.2)
        assert proxy.accepted == 0
        rings = asyncio.create_task(bell.wait(60))
        async with AsyncRedisQ(settings=settings) as mq:
            await mq.queue_message(QUEUE, 1)  # a call opens the gate
        assert await rings
        await bell.close()
        await link.close()

    asyncio.run(main())


def test_a_doorbell_whose_connection_breaks_shuts_the_gate_and_then_starts_afresh(
    settings: Settings, proxy: Proxy
) -> None:
    keys = partition_keys(settings.namespace, QUEUE)

    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            link = AsyncLink(settings)
            gate = (await link.endpoint()).known().circuit
            bell = Listener(link, keys.bell)
            proxy.reset(b"BLPOP")
            with pytest.raises(Unavailable, match="cannot be reached"):
                await bell.wait(60)
            assert gate.enter(time.monotonic(), probe=False) is None
            rings = asyncio.create_task(bell.wait(60))
            await mq.queue_message(QUEUE, 1)
            assert await rings
            await bell.close()
            await link.close()

    asyncio.run(main())


# --- Forks ---

FORK = """
import os, sys, threading
from redisq import RedisQ, Settings, Unavailable
from redisq.link.endpoint import Endpoint
settings = Settings(url=sys.argv[1], namespace=sys.argv[2], auth="none", retry_deadline=0)
mq = RedisQ(settings=settings)
server = Endpoint.of(settings).known()
gate = server.circuit
gate.lost(gate.enter(0), 1e9, "gone", connected=False)  # for the next thousand million seconds
try:
    mq.stats("orders")
except Unavailable as error:
    assert "gone" in str(error)
else:
    raise AssertionError("the gate is not shut")
gate._lock.acquire()  # as another thread may at the moment of the fork
if not (child := os.fork()):
    assert mq.stats("orders").ready == 0
    mq.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert Endpoint.of(settings).known() is server
"""


def test_a_forked_child_starts_with_an_open_gate(raw_real: Any) -> None:
    run_program(FORK, raw_real.server.url, raw_real.settings.namespace)
