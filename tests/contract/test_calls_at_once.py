"""Calls that tasks of one loop make at once: each is answered as if it were alone, in fewer round trips."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisq import (
    AsyncRedisQ,
    BatchError,
    Indeterminate,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    RedisQ,
    Settings,
)
from redisq.embedded import EmbeddedServer
from redisq.store.keys import id_text, new_id
from tests.conftest import settings_for
from tests.contract.conftest import QUEUE
from tests.support.servers.proxy import Proxy, script, until

CALLERS = 64


def run(settings: Settings, work: Any) -> Any:
    async def main() -> Any:
        async with AsyncRedisQ(settings=settings) as mq:
            return await work(mq)

    return asyncio.run(main())


def calls_of(raw: Any) -> int:
    """How many scripts the server has run."""
    stats = raw.redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_many_callers_share_round_trips(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> list[Any]:
        await mq.queue_message(QUEUE, -1)  # the registry, the script
        before = calls_of(raw_real)
        ids = await asyncio.gather(*(mq.queue_message(QUEUE, n) for n in range(CALLERS)))
        found = await asyncio.gather(*(mq.get_message(QUEUE, id) for id in ids))
        await asyncio.gather(*(mq.delete_message(QUEUE, id) for id in ids))
        assert calls_of(raw_real) - before <= 3 * 3
        return found

    found = run(raw_real.settings, work)
    assert [message.request for message in found] == list(range(CALLERS))
    with RedisQ(settings=raw_real.settings) as mq:
        assert mq.stats(QUEUE).ready == 1


def test_all_who_wait_look_together(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> tuple[int, list[Any]]:
        ids = await mq.queue_messages(QUEUE, range(200))
        before = calls_of(raw_real)
        found = await asyncio.gather(*(mq.get_message(QUEUE, id, wait=1.5) for id in ids))
        return calls_of(raw_real) - before, found

    looks, found = run(raw_real.settings, work)
    assert [message.request for message in found] == list(range(200))
    assert looks < 200  # each alone would look 14 times


def test_a_caller_alone_is_one_round_trip(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> None:
        await mq.queue_message(QUEUE, -1)
        before = calls_of(raw_real)
        for n in range(5):
            await mq.queue_message(QUEUE, n)
        assert calls_of(raw_real) - before == 5

    run(raw_real.settings, work)


def test_one_bad_call_spoils_no_other(make_client: Any, raw_real: Any) -> None:
    with RedisQ(settings=raw_real.settings) as mq:
        mq.define(QUEUE, max_bytes=1_000, max_length=40)
        taken = mq.queue_message(QUEUE, "first")

    async def work(mq: AsyncRedisQ) -> list[Any]:
        bodies: list[Any] = [n if n % 8 else "x" * 2_000 for n in range(CALLERS)]
        calls = [mq.queue_message(QUEUE, body) for body in bodies]
        calls.insert(3, mq.queue_message(QUEUE, "second", id=taken))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(raw_real.settings, work)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.pop(3) is MessageConflict
    assert kinds[::8] == [MessageTooLarge] * 8
    rest = [kind for number, kind in enumerate(kinds) if number % 8]
    assert rest.count(str) == 39
    assert rest.count(QueueFull) == len(rest) - 39
    with RedisQ(settings=raw_real.settings) as mq:
        assert mq.stats(QUEUE).ready == 40


def test_of_two_who_delete_a_message_one_does_not_find_it(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> list[Any]:
        ids = [await mq.queue_message(QUEUE, n) for n in range(5)]
        return await asyncio.gather(*(mq.delete_message(QUEUE, id) for id in ids * 2), return_exceptions=True)

    outcomes = run(raw_real.settings, work)
    assert sorted(str(type(outcome).__name__) for outcome in outcomes) == ["MessageNotFound"] * 5 + ["NoneType"] * 5


def test_what_is_not_there_is_not_found_and_hides_nothing(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> list[Any]:
        ids = [await mq.queue_message(QUEUE, n) for n in range(5)]
        ids[2] = id_text(new_id())
        return await asyncio.gather(*(mq.get_message(QUEUE, id) for id in ids), return_exceptions=True)

    outcomes = run(raw_real.settings, work)
    assert isinstance(outcomes.pop(2), MessageNotFound)
    assert [message.request for message in outcomes] == [0, 1, 3, 4]


def test_a_batch_whose_reply_is_lost_is_sent_again_and_doubles_nothing(raw_real: Any, proxy: Proxy) -> None:
    settings = raw_real.settings.model_copy(update={"url": proxy.url})

    async def work(mq: AsyncRedisQ) -> list[str]:
        await mq.queue_message(QUEUE, -1)
        proxy.cut_reply(b"EVALSHA", times=2)
        return await asyncio.gather(*(mq.queue_message(QUEUE, n) for n in range(CALLERS)))

    assert len(set(run(settings, work))) == CALLERS
    with RedisQ(settings=raw_real.settings) as mq:
        assert mq.stats(QUEUE).ready == CALLERS + 1


def test_a_batch_in_doubt_leaves_each_caller_in_doubt_with_its_own_id(raw_real: Any, proxy: Proxy) -> None:
    settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": 0.0})

    async def work(mq: AsyncRedisQ) -> list[Any]:
        await mq.queue_message(QUEUE, -1)
        proxy.cut_reply(b"EVALSHA", times=1000)
        return await asyncio.gather(*(mq.queue_message(QUEUE, n) for n in range(3)), return_exceptions=True)

    errors = run(settings, work)
    sent = [error for error in errors if isinstance(error, Indeterminate)]
    assert sent
    assert all(error.id for error in sent)
    assert len({error.id for error in sent}) == len(sent)


def test_a_call_that_is_cancelled_takes_no_other_along(raw_real: Any) -> None:
    async def work(mq: AsyncRedisQ) -> list[Any]:
        tasks = [asyncio.create_task(mq.queue_message(QUEUE, n)) for n in range(CALLERS)]
        await asyncio.sleep(0)
        for task in tasks[1::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = run(raw_real.settings, work)
    assert [type(outcome) for outcome in outcomes[0::2]] == [str] * (CALLERS // 2)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[1::2])


@pytest.mark.parametrize("callers", [1, 5])
def test_batches_travel_beside_single_calls(raw_real: Any, callers: int) -> None:
    async def work(mq: AsyncRedisQ) -> None:
        await asyncio.gather(
            *(mq.queue_messages(QUEUE, range(700)) for _ in range(callers)),
            *(mq.queue_message(QUEUE, n) for n in range(20)),
        )
        with pytest.raises(BatchError) as caught:
            await mq.queue_messages(QUEUE, [1, {2}, 3])
        assert list(caught.value.errors) == [1]
        assert (await mq.stats(QUEUE)).ready == 700 * callers + 20 + 2

    run(raw_real.settings, work)


def test_a_thousand_who_wait_ask_as_one(real_server: EmbeddedServer, namespace: str) -> None:
    async def work(mq: AsyncRedisQ) -> list[Any]:
        ids = await mq.queue_messages(QUEUE, range(1000))
        waits = [asyncio.create_task(mq.get_message(QUEUE, id, wait=30)) for id in ids]
        ended, looked = 0, -1
        while looked != proxy.count(script("get")):  # until all have looked once, which takes a while on a busy machine
            ended, looked = proxy.count(script("ended")), proxy.count(script("get"))
            await asyncio.to_thread(until, lambda ended=ended: proxy.count(script("ended")) >= ended + 4)
        await asyncio.to_thread(until, lambda: proxy.count(script("ended")) >= ended + 8)
        assert proxy.count(script("get")) == looked
        await mq.delete_messages(QUEUE, ids)
        return await asyncio.gather(*waits, return_exceptions=True)

    with Proxy(real_server.url) as proxy:
        found = run(settings_for(proxy.url, namespace), work)
    assert {type(outcome) for outcome in found} == {MessageNotFound}
