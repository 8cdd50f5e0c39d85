"""A burst ends when none of its queues has anything ready and nothing runs: what one brings to another is not left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from redisq import AsyncRedisQ, Delivery, RedisQ, Status, Worker, embedded
from tests.conftest import settings_for


@pytest.fixture
def client(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[RedisQ]:
    with RedisQ(settings=settings_for(real_server.url, namespace)) as client:
        yield client


def chain(worker: Worker, client: RedisQ, *queues: str, seconds: float, **options: Any) -> None:
    """Have the handler of each queue pass its messages on to the next one, at its end."""
    for number, queue in enumerate(queues):
        after = queues[number + 1 :][:1]

        def handle(delivery: Delivery, after: tuple[str, ...] = after) -> str:
            time.sleep(seconds)
            for name in after:
                client.queue_message(name, delivery.request)
            return "done"

        worker.handler(queue, priority=1 + number, **options)(handle)


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("seconds", [0, 0.3], ids=["fast", "slow"])
@pytest.mark.parametrize(
    "options", [{}, {"concurrency": 1}, {"concurrency": 2, "order": "weighted"}], ids=["aside", "turns", "weighted"]
)
def test_a_chain_of_queues_is_worked_off(client: RedisQ, options: dict[str, Any], seconds: float) -> None:
    for queues in (("a", "b", "c"), ("f", "e", "d")):
        worker = Worker(settings=client.settings, **options)
        chain(worker, client, *queues, seconds=seconds)
        client.queue_messages(queues[0], range(3))
        assert worker.run(burst=True) == 0
        assert [client.stats(queue).completed for queue in queues] == [3, 3, 3]


def test_a_handler_may_wait_for_what_it_has_queued_to_another_queue_or_its_own(client: RedisQ) -> None:
    worker = Worker(settings=client.settings)

    async def ask(queue: str) -> str:
        async with AsyncRedisQ(settings=client.settings) as mq:
            id = await mq.queue_message(queue, "leaf")
            return (await mq.get_message(queue, id, wait=15)).status.value

    @worker.handler("orders", concurrency=2)
    async def handle(delivery: Delivery) -> Any:
        return "leaf" if delivery.request == "leaf" else [await ask("letters"), await ask("orders")]

    @worker.handler("letters")
    async def letter(delivery: Delivery) -> str:
        return "sent"

    id = client.queue_message("orders", "root")
    assert worker.run(burst=True) == 0
    found = client.get_message("orders", id)
    assert (found.status, found.result) == (Status.COMPLETE, ["COMPLETE", "COMPLETE"])


def test_a_burst_does_not_wait_for_what_is_due_later(client: RedisQ) -> None:
    worker = Worker(settings=client.settings)
    worker.handler("orders")(lambda delivery: None)

    @worker.handler("letters", backoff_base=600, backoff_cap=600)
    def fail(delivery: Delivery) -> None:
        client.queue_message("orders", 1, delay=600)
        raise ValueError("no")

    client.queue_message("letters", 1)
    assert worker.run(burst=True) == 0
    assert (client.stats("letters").scheduled, client.stats("orders").scheduled) == (1, 1)


def test_a_burst_of_empty_queues_ends_at_once(client: RedisQ) -> None:
    worker = Worker(settings=client.settings)
    for queue in ("a", "b", "c"):
        worker.handler(queue)(lambda delivery: None)
    client.define("b", paused=True)
    client.queue_message("b", 1)

    async def main() -> int:
        return await asyncio.wait_for(worker.run_async(burst=True), 30)

    assert asyncio.run(main()) == 0
    assert client.stats("b").ready == 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_outcome_that_is_confirmed_while_a_claim_finds_nothing_ends_a_burst(
    client: RedisQ, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the next look then: without a limit it would never come."""
    monkeypatch.setattr("redisq.worker.fetcher.block_for", lambda wait: 3600.0)
    client.queue_messages("orders", range(20 * workers))

    async def main() -> list[int]:
        running = []
        for _ in range(workers):
            worker = Worker(settings=client.settings)

            @worker.handler("orders", concurrency=1)
            async def handle(delivery: Delivery) -> None: ...

            running.append(worker.run_async(burst=True))
        return await asyncio.wait_for(asyncio.gather(*running), 60)

    assert asyncio.run(main()) == [0] * workers
    assert client.stats("orders").completed == 20 * workers
