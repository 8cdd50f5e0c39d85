"""Idle connections that the server closes are noticed before they are used: no failed call, no word in the log.

And an asyncio client serves several loops, in threads at once and one after another.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from redisq import AsyncRedisQ, RedisQ, Settings
from redisq.link.aio import AsyncLink
from redisq.link.listener import Listener
from tests.support.servers.proxy import Proxy, until

QUEUE = "orders"
AT_ONCE = 8


@pytest.fixture
def settings(raw_real: Any, proxy: Proxy) -> Settings:
    """Settings of impatient callers behind the proxy: one lost connection fails a call."""
    changed: Settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": 0.0})
    return changed


@pytest.fixture
def kill(raw_real: Any, proxy: Proxy) -> Callable[[], None]:
    """Close all connections on the server's side, as `timeout` in redis.conf and a restart do."""

    def kill() -> None:
        proxy.hang_up()
        until(lambda: proxy.open == 0)

    return kill


def test_a_thread_notices(settings: Settings, kill: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    with RedisQ(settings=settings) as mq, caplog.at_level(logging.INFO):
        id = mq.queue_message(QUEUE, 1)
        caplog.clear()
        for _ in range(3):
            kill()
            assert mq.queue_message(QUEUE, 1, id=id) == id
            kill()
            assert mq.get_messages(QUEUE, [id])[0] is not None
        assert not caplog.records


@pytest.mark.parametrize("blocked", [False, True], ids=["the loop runs", "the loop stands"])
def test_a_task_notices(
    settings: Settings, kill: Callable[[], None], caplog: pytest.LogCaptureFixture, blocked: bool
) -> None:
    async def main() -> None:
        async with AsyncRedisQ(settings=settings) as mq:
            ids = await asyncio.gather(*(mq.queue_message(QUEUE, n) for n in range(AT_ONCE)))
            caplog.clear()
            for _ in range(3):
                if blocked:
                    kill()
                else:
                    await asyncio.to_thread(kill)
                assert (await mq.get_message(QUEUE, ids[0])).id == ids[0]
            assert not caplog.records

    with caplog.at_level(logging.INFO):
        asyncio.run(main())


def test_a_doorbell_notices(raw_real: Any, settings: Settings, kill: Callable[[], None]) -> None:
    async def main() -> None:
        link = AsyncLink(settings)
        bell = Listener(link, raw_real.keys.bell)
        for _ in range(3):
            raw_real.redis.rpush(raw_real.keys.bell, 1)
            assert await bell.wait(5) is True
            await asyncio.to_thread(kill)
        await bell.close()
        await link.close()

    asyncio.run(main())


@pytest.mark.full(keep=1)
def test_what_the_server_closes_by_its_own_timeout_is_noticed(
    make_client: Any, start_another: Any, namespace: str
) -> None:
    from tests.conftest import settings_for

    with start_another(options={"timeout": "1"}) as server:
        mq = make_client(settings_for(server.url, namespace, retry_deadline=0))
        id = mq.queue_message(QUEUE, 1)
        time.sleep(2.5)  # the server looks for idle clients once a second: nothing else tells that it has
        assert mq.get_message(QUEUE, id).id == id


# --- Several loops ---


def test_loops_in_threads_share_one_client(settings: Settings) -> None:
    mq = AsyncRedisQ(settings=settings.model_copy(update={"retry_deadline": 10.0}))
    failed: list[BaseException] = []
    done: list[str] = []
    start = threading.Barrier(AT_ONCE)

    async def work(thread: int) -> None:
        for _ in range(5):
            ids = await asyncio.gather(*(mq.queue_message(QUEUE, [thread, n]) for n in range(20)))
            done.extend(ids)
            for message in await mq.get_messages(QUEUE, ids):
                assert message is not None
                assert message.request[0] == thread

    def run(thread: int) -> None:
        try:
            start.wait(60)
            asyncio.run(work(thread))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    assert len(set(done)) == AT_ONCE * 100


def test_loops_one_after_another_share_one_client(settings: Settings, proxy: Proxy) -> None:
    mq = AsyncRedisQ(settings=settings)

    async def ask() -> list[Any]:
        return list(await asyncio.gather(*(mq.stats(QUEUE) for _ in range(AT_ONCE))))

    for _ in range(3):
        assert len(asyncio.run(ask())) == AT_ONCE
        until(lambda: proxy.open == 0)  # closed with its loop
    assert len(mq._link._pools._made) <= 2


def test_a_client_outlives_a_loop_that_was_closed_in_the_midst_of_calls(settings: Settings) -> None:
    mq = AsyncRedisQ(settings=settings)

    async def leave_behind() -> None:
        tasks = [asyncio.ensure_future(mq.stats(QUEUE)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        assert tasks

    for _ in range(3):
        asyncio.run(leave_behind())
        assert asyncio.run(mq.stats(QUEUE)).ready == 0
