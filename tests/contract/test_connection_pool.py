"""A link's connections: no more than allowed, none lost to whatever befell the calls, none left when a loop ends."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from redisq import AsyncRedisQ, RedisQ, RedisQError, Settings, Unavailable, store
from redisq.link.aio import AsyncLink
from redisq.link.sync import Link
from redisq.store.keys import partition_keys
from tests.contract.test_connection import OPERATIONS, QUEUE, operation, run_program
from tests.support.servers.proxy import Proxy, script, until

SLOTS = 4


@pytest.fixture
def settings(raw_real: Any, proxy: Proxy) -> Settings:
    """Settings of hasty callers behind the proxy."""
    with RedisQ(settings=raw_real.settings) as direct:
        direct.queue_message(QUEUE, 1)  # so that the server knows the script
    changes = {"url": proxy.url, "max_connections": SLOTS, "command_timeout": 0.05, "retry_deadline": 0.1}
    changed: Settings = raw_real.settings.model_copy(update=changes)
    return changed


# --- Begun, and finished later ---


def test_a_call_that_is_begun_at_a_server_that_nobody_knows_is_sent_after_what_is_asked_before(
    settings: Settings, proxy: Proxy
) -> None:
    settings = settings.model_copy(update={"command_timeout": 60, "retry_deadline": 60})
    link, keys = Link(settings), partition_keys(settings.namespace, QUEUE)
    begun = link.begin(store.queues.stats(keys))
    until(lambda: proxy.count(script("stats")))
    assert free_slots(link) == SLOTS - 1
    assert begun.finish().queued == 1
    forgotten = link.begin(store.queues.stats(keys))
    forgotten.close()
    assert free_slots(link) == SLOTS
    link.close()


# --- All are busy ---


@pytest.fixture
def never_greeted(settings: Settings, proxy: Proxy, patient: None) -> Settings:
    """Settings of callers of whom one takes the only connection, and gets no answer on it."""
    proxy.swallow_request(b"CLIENT")
    changes = {
        "url": proxy.url,
        "max_connections": 1,
        "connect_timeout": 60,
        "retry_deadline": 0,
    }
    return settings.model_copy(update=changes)


BUSY = r"^All 1 connections are busy\. Make fewer calls at once, or raise REDISQ_MAX_CONNECTIONS\.$"


def test_a_thread_that_finds_no_free_connection_is_told_so(never_greeted: Settings, proxy: Proxy) -> None:
    with RedisQ(settings=never_greeted) as mq, ThreadPoolExecutor(1) as pool:
        first = pool.submit(mq.stats, QUEUE)
        until(lambda: proxy.count(b"CLIENT"))
        with pytest.raises(Unavailable, match=BUSY) as caught:
            mq.stats(QUEUE)
        assert type(caught.value) is Unavailable
        proxy.hang_up()
        with pytest.raises(Unavailable, match="cannot be reached"):
            first.result()
        assert free_slots(mq._link) == 1


def test_a_task_that_finds_no_free_connection_is_told_so(never_greeted: Settings, proxy: Proxy) -> None:
    async def main() -> None:
        async with AsyncRedisQ(settings=never_greeted) as mq:
            first = asyncio.create_task(mq.stats(QUEUE))
            await asyncio.to_thread(until, lambda: proxy.count(b"CLIENT"))
            with pytest.raises(Unavailable, match=BUSY) as caught:
                await mq.stats(QUEUE)
            assert type(caught.value) is Unavailable
            proxy.hang_up()
            with pytest.raises(Unavailable, match="cannot be reached"):
                await first
            assert await free_async_slots(mq._link) == 1

    asyncio.run(main())


# --- None is lost ---


def free_slots(link: Link) -> int:
    """How many connections more the link would make."""
    return link._slots.qsize()


async def free_async_slots(link: AsyncLink) -> int:
    """Take all slots that are free, to count them."""
    count = 0
    while not link._pools.get().slots.locked():
        await link._pools.get().slots.acquire()
        count += 1
    for _ in range(count):
        link._pools.get().slots.release()
    return count


def mishap(proxy: Proxy, chance: random.Random) -> None:
    """Let one of the next requests come to harm."""
    name, skip = script("stats"), chance.randrange(3)
    match chance.randrange(6):
        case 0:
            proxy.cut_reply(name, skip=skip)
        case 1:
            proxy.swallow_reply(name, skip=skip)
        case 2:
            proxy.swallow_request(name, skip=skip)
        case 3:
            proxy.reset(name, skip=skip)
        case 4:
            proxy.answer(name, b"-WRONGTYPE Operation against a key\r\n", skip=skip)
        case _:
            proxy.hang_up()


def test_threads_lose_no_slot_in_a_storm(settings: Settings, proxy: Proxy) -> None:
    chance, outcomes = random.Random(3), []

    def call(n: int) -> None:
        if n % 4 == 0:
            mishap(proxy, chance)
        try:
            outcomes.append(mq.stats(QUEUE).ready)
        except Unavailable as error:
            outcomes.append(type(error).__name__)

    with RedisQ(settings=settings) as mq, ThreadPoolExecutor(10) as pool:
        list(pool.map(call, range(150)))
        assert {1, "Unavailable", "Indeterminate"} >= set(outcomes) > {1}
        assert free_slots(mq._link) == SLOTS
        assert len(mq._link._idle) <= SLOTS
        proxy.heal()
        until(lambda: proxy.open <= len(mq._link._idle))  # those that were hung up on may be there yet
    until(lambda: proxy.open == 0)


def test_tasks_lose_no_slot_in_a_storm_and_are_cancelled_in_it(settings: Settings, proxy: Proxy) -> None:
    chance, outcomes = random.Random(5), []
    proxy.delay = lambda: chance.random() * 0.004

    async def call(mq: AsyncRedisQ, n: int, patience: float) -> None:
        await asyncio.sleep(chance.random() * 0.5)
        if n % 4 == 0:
            mishap(proxy, chance)
        try:
            async with asyncio.timeout(chance.random() * patience):
                outcomes.append((await mq.stats(QUEUE)).ready)
        except (TimeoutError, Unavailable) as error:
            outcomes.append(type(error).__name__)

    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            await mq.stats(QUEUE)
            for patience in (0.1, 0.4, 1.6, 6.4):  # in which on a busy machine none may get through
                await asyncio.gather(*[call(mq, n, patience) for n in range(300)])
                if 1 in outcomes:
                    break
            assert {1, "TimeoutError", "Unavailable", "Indeterminate"} >= set(outcomes) >= {1, "TimeoutError"}
            assert await free_async_slots(mq._link) == SLOTS
            assert len(mq._link._idle) <= SLOTS
            proxy.heal()
            await asyncio.to_thread(until, lambda: proxy.open <= len(mq._link._idle))
        await asyncio.to_thread(until, lambda: proxy.open == 0)

    asyncio.run(main())


def test_waiting_for_a_slot_in_vain_loses_none(settings: Settings, proxy: Proxy) -> None:
    """Some give up waiting, some are cancelled while they wait, some at the moment they get one."""
    proxy.delay = lambda: 0.02

    async def main() -> None:
        async with AsyncRedisQ(settings=settings.model_copy(update={"command_timeout": 0.03})) as mq:
            calls = [asyncio.create_task(mq.stats(QUEUE)) for _ in range(60)]
            await asyncio.sleep(0)  # all have begun
            for n, call in enumerate(calls):
                asyncio.get_running_loop().call_later(n * 0.003, call.cancel)
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in done} > {asyncio.CancelledError}
            assert await free_async_slots(mq._link) == SLOTS

    asyncio.run(main())


@pytest.mark.full(keep=4)
@operation
def test_errors_give_their_connections_back(make_client: Any, settings: Settings, proxy: Proxy, operation: str) -> None:
    operate, name = OPERATIONS[operation]
    mq = make_client(settings.model_copy(update={"max_connections": 1, "command_timeout": 1}))
    for wrong in (
        lambda: proxy.cut_reply(script(name)),
        lambda: proxy.reset(script(name)),
        lambda: proxy.answer(script(name), b"-WRONGTYPE Operation against a key\r\n"),
    ):
        for _ in range(3):
            wrong()
            try_to(operate, mq)
    until(lambda: answers(mq))
    until(lambda: proxy.open == 1)


def try_to(operate: Callable[[Any], Any], mq: Any) -> None:
    try:
        operate(mq)
    except RedisQError:
        pass


def answers(mq: Any) -> bool:
    try:
        return bool(mq.stats(QUEUE).queue == QUEUE)
    except Unavailable:
        return False


# --- Loops that end ---

LOOPS = """
import asyncio, gc, sys
from redisq import AsyncRedisQ, Settings
kind, url, namespace = sys.argv[1:]
mq = AsyncRedisQ(settings=Settings(url=url, namespace=namespace, auth="none"))

async def main():
    await asyncio.gather(*[mq.queue_message(f"orders-{n}", n) for n in range(10)])  # of one queue they would share

factory = None
if kind == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
for _ in range(3):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    gc.collect()
"""


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_client_that_nobody_closes_leaves_no_connection_behind_when_its_loop_ends(
    raw_real: Any, proxy: Proxy, kind: str
) -> None:
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    run_program(LOOPS, kind, proxy.url, raw_real.settings.namespace)
    assert proxy.peak == 10  # of each loop, before those of the next


@pytest.fixture(autouse=True)
def nothing_unclosed() -> Iterator[None]:
    """Let a connection that a test of this module left open be warned of here."""
    yield
    gc.collect()
