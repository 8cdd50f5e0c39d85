"""A server that bounds its replies, as hosted ones do, and closes the connection of a larger one: less is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from redisq import AsyncRedisQ, Delivery, RedisQ, Reject, Settings, Status, Worker, embedded
from redisq.claims.claimer import Claimer, Request, Taken
from redisq.link.aio import AsyncLink
from redisq.operations.caller import limits_of
from redisq.store.call import new_nonce
from redisq.store.keys import id_text, partition_keys
from tests.conftest import settings_for

LIMIT = 65_536  # bytes of a reply


@pytest.fixture
def settings(start_another: Callable[..., embedded.EmbeddedServer], namespace: str) -> Settings:
    """Settings of a server that sends no more at once than LIMIT."""
    server = start_another()
    with redis.Redis.from_url(server.url, protocol=2) as raw:
        raw.config_set("client-output-buffer-limit", f"normal {LIMIT} 0 0")
    return settings_for(server.url, namespace, retry_deadline=5, lease=10)


@pytest.fixture
def client(settings: Settings) -> Iterator[RedisQ]:
    with RedisQ(settings=settings) as client:
        yield client


async def work_off(worker: Worker, client: RedisQ, ids: list[str]) -> list[Any]:
    running = asyncio.create_task(worker.run_async())
    try:
        async with asyncio.timeout(60):
            while client.stats("orders").completed < len(ids):
                await asyncio.sleep(0.05)
    finally:
        worker.stop()
        assert await running == 0
    return client.get_messages("orders", ids)


def body(kilobytes: int, number: int) -> str:
    return f"{number:05}" + "x" * (1024 * kilobytes)


def test_a_worker_works_off_what_no_reply_can_hold_at_once(client: RedisQ, caplog: pytest.LogCaptureFixture) -> None:
    worker, begun = Worker(settings=client.settings), list[str]()

    @worker.handler("orders", concurrency=64)
    async def handle(delivery: Delivery) -> str:
        begun.append(delivery.id)
        return delivery.request[:5]

    ids = [*client.queue_messages("orders", [body(10, number) for number in range(40)])]
    with caplog.at_level(logging.WARNING, "redisq.worker"):
        found = asyncio.run(work_off(worker, client, ids))
    assert [message.result for message in found] == [f"{number:05}" for number in range(40)]
    assert sorted(begun) == sorted(ids)
    assert {message.attempts for message in found} == {1}
    assert [record for record in caplog.records if "at most" in record.getMessage()]


@pytest.mark.full
def test_a_message_that_no_reply_can_hold_holds_up_no_other(client: RedisQ) -> None:
    client.define("orders", lease=1, max_lost=1)
    worker = Worker(settings=client.settings)
    worker.handler("orders", concurrency=8)(lambda delivery: "done")
    small, fat = [*client.queue_messages("orders", range(3))], client.queue_message("orders", body(100, 0))
    small += client.queue_messages("orders", range(3))

    async def main() -> None:
        running = asyncio.create_task(worker.run_async())
        try:
            async with asyncio.timeout(60):
                while (stats := client.stats("orders")).completed < 6 or stats.dead < 1:
                    await asyncio.sleep(0.05)
        finally:
            worker.stop()
            assert await running == 0

    asyncio.run(main())
    assert {message.status for message in client.get_messages("orders", small) if message} == {Status.COMPLETE}
    with redis.Redis.from_url(client.settings.url, protocol=2) as raw:
        raw.config_set("client-output-buffer-limit", "normal 0 0 0")
    letter = client.get_message("orders", fat)
    assert (letter.status, letter.error and letter.error["reason"]) == (Status.ERROR, "lost")


class Claims:
    """A claimer that is asked as a consumer asks: again with the same request until it is answered."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._link = AsyncLink(settings.model_copy(update={"retry_deadline": 0.0}))
        self.claimer = Claimer(partition_keys(settings.namespace, "orders"), limits_of(settings), self._link)

    async def take(self, count: int) -> tuple[Taken, int]:
        request, failures = Request("w-1", new_nonce(), count, count, alone=True), 0
        async with asyncio.timeout(30):
            while True:
                try:
                    return await self.claimer.take(request, 0.0, repeated=failures > 0), failures
                except Exception:
                    failures += 1
                    await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self._link.close()


def test_what_a_lost_claim_took_comes_in_parts_and_later_claims_ask_for_less(client: RedisQ) -> None:
    ids = client.queue_messages("orders", [body(10, number) for number in range(24)])

    async def main() -> None:
        claims = Claims(client.settings)
        first, failures = await claims.take(20)
        assert failures > 1
        assert [id_text(claimed.receipt.id) for claimed in first.held] == ids[:20]
        assert {claimed.receipt.attempt for claimed in first.held} == {1}
        second, failures = await claims.take(20)
        assert failures == 0
        assert 1 <= len(second.held) <= 5
        await claims.close()

    asyncio.run(main())


def test_many_messages_are_looked_up_in_parts(client: RedisQ) -> None:
    bodies = [body(10, number) for number in range(30)]
    ids = client.queue_messages("orders", bodies)
    assert [message.request for message in client.get_messages("orders", ids) if message] == bodies

    async def main() -> None:
        async with AsyncRedisQ(settings=client.settings) as mq:
            found = await mq.get_messages("orders", ids)
            assert [message.request for message in found if message] == bodies
            at_once = await asyncio.gather(*(mq.get_message("orders", id) for id in ids))
            assert [message.request for message in at_once] == bodies

    asyncio.run(main())


def test_dead_letters_and_lists_come_in_parts(client: RedisQ) -> None:
    bodies = [body(10, number) for number in range(30)]
    ids = client.queue_messages("orders", bodies)
    worker = Worker(settings=client.settings)

    @worker.handler("orders", concurrency=4)
    async def fail(delivery: Delivery) -> None:
        raise Reject(delivery.request[:5])

    assert worker.run(burst=True) == 0
    assert sorted(letter.request for letter in client.dead_letters("orders")) == bodies
    assert len(client.list_messages("orders", "dead", limit=50).messages) == 30
    client.queue_messages("lists", ["y" * 4000 for _ in range(100)])
    page = client.list_messages("lists", "ready", limit=90)
    assert (len(page.messages), page.next is None) == (90, False)
    assert client.redrive("orders") == 30
    assert client.stats("orders").ready == len(ids)
