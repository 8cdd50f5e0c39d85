"""The reply to each request of a kind is lost, and nothing happens twice: the repeat finds what was done."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable

import pytest

from redisq import AsyncRedisQ, Delivery, RedisQ, Settings, Status, Worker, embedded
from redisq.store.record import Record
from tests.conftest import Raw, settings_for
from tests.delivery.conftest import QUEUE, messages, spread
from tests.support.servers.proxy import Proxy, script, until
from tests.support.workers.spawned import PATIENCE, working

_NONCE = re.compile(rb"\$12\r\n([\w-]{12})\r\n")  # of a claim, among its arguments; a repeat has the same
SIDE_BY_SIDE = 20


class Forgetful(Proxy):
    """Hangs up in place of the reply to each request of a script, but not to a repeat of it."""

    lost: dict[bytes, float]

    def forget(self, name: str, identity: Callable[[bytes], bytes]) -> None:
        """Begin; requests of one `identity` are one. `lost` tells when each lost its reply, by the monotonic clock."""
        self.lost = {}
        mark, rule_for = script(name), self._rule_for

        def act(pipe: object, request: bytes) -> bytes:
            self.lost[identity(request)] = time.monotonic()
            pipe.cut = True  # type: ignore[attr-defined]
            return request

        def first_time(request: bytes) -> object:
            rule = rule_for(request)
            return act if mark in request and identity(request) not in self.lost else rule

        self._rule_for = first_time  # type: ignore[method-assign,assignment]

    def settings(self, namespace: str, number: int) -> Settings:
        """Settings of a process of its own: whoever shares a URL in one process, shares what is known of the server."""
        return settings_for(f"{self.url}?client_name=redisq-{number}", namespace, retry_deadline=PATIENCE)


@pytest.fixture
def proxy(real_server: embedded.EmbeddedServer) -> Forgetful:
    with Forgetful(real_server.url) as proxy:
        yield proxy


def known_scripts(tasks: Raw, run: Callable[[Worker], object]) -> None:
    """Work on one message, so that the server knows the scripts, and each request is an EVALSHA."""
    worker = Worker(settings=tasks.settings)
    run(worker)
    with RedisQ(settings=tasks.settings) as client, working(worker):
        assert client.get_message(QUEUE, client.queue_message(QUEUE, -1), wait=PATIENCE).finished


def run_at_once(done: Counter[str]) -> Callable[[Worker], object]:
    """Give what registers a handler that ends at once, and is counted."""

    def register(worker: Worker) -> None:
        @worker.handler(QUEUE, concurrency=100)
        async def handle(delivery: Delivery) -> int:
            done[delivery.id] += 1
            return delivery.attempt

    return register


def test_queueing(
    proxy: Forgetful,
    tasks: Raw,
    namespace: str,
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """The consumer is so fast that the message has ended when its repeat comes."""
    count, done = scaled(1_000, 100), Counter[str]()
    known_scripts(tasks, run_at_once(Counter()))
    proxy.forget("queue", lambda request: request)

    async def queue_share(number: int) -> list[str]:
        async with AsyncRedisQ(settings=proxy.settings(namespace, number)) as client:
            return [await client.queue_message(QUEUE, n) for n in range(number, count, SIDE_BY_SIDE)]

    async def queue_all() -> list[str]:
        shares = await asyncio.gather(*map(queue_share, range(SIDE_BY_SIDE)))
        return [id for share in shares for id in share]

    worker = Worker(settings=tasks.settings)
    run_at_once(done)(worker)
    with working(worker):
        ids = asyncio.run(queue_all())
        until(lambda: len(done) == count, PATIENCE)
    assert len(proxy.lost) == count
    assert done == dict.fromkeys(ids, 1)
    with RedisQ(settings=tasks.settings) as client:
        stats = client.stats(QUEUE)
    assert (stats.queued, stats.completed, stats.lost, stats.failed) == (count + 1, count + 1, 0, 0)
    figure(f"{count:,} lost replies to queueing: {sum(done.values()):,} executions of {len(done):,} messages")


def one_by_one(proxy: Forgetful, namespace: str, started: list[tuple[Delivery, float]]) -> list[Worker]:
    """Make workers of one slot each, so that each message has a claim and a completion of its own."""
    workers = [Worker(settings=proxy.settings(namespace, number)) for number in range(SIDE_BY_SIDE)]
    for worker in workers:

        @worker.handler(QUEUE, concurrency=1)
        async def handle(delivery: Delivery) -> int:
            started.append((delivery, time.monotonic()))
            return delivery.attempt

    return workers


def test_completing(
    proxy: Forgetful,
    tasks: Raw,
    namespace: str,
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    count = scaled(1_000, 100)
    started: list[tuple[Delivery, float]] = []
    known_scripts(tasks, run_at_once(Counter()))
    proxy.forget("complete", lambda request: request)
    with RedisQ(settings=tasks.settings) as client, working(*one_by_one(proxy, namespace, started)):
        ids = client.queue_messages(QUEUE, range(count))
        until(lambda: client.stats(QUEUE).completed >= count + 1, PATIENCE)
    assert len(proxy.lost) == count
    assert Counter(delivery.id for delivery, _ in started) == dict.fromkeys(ids, 1)
    assert [(message.status, message.result) for message in messages(tasks, ids)] == [(Status.COMPLETE, 1)] * count
    stats = client.stats(QUEUE)
    assert (stats.completed, stats.lost, stats.failed, stats.in_progress) == (count + 1, 0, 0, 0)
    figure(f"{count:,} lost replies to completing: {len(started):,} executions, {stats.completed - 1:,} completions")


def test_claiming(
    proxy: Forgetful,
    tasks: Raw,
    namespace: str,
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    count = scaled(1_000, 100)
    started: list[tuple[Delivery, float]] = []
    known_scripts(tasks, run_at_once(Counter()))
    with RedisQ(settings=tasks.settings) as client:
        ids = client.queue_messages(QUEUE, range(count))
        proxy.forget("claim", lambda request: _NONCE.findall(request)[0])
        with working(*one_by_one(proxy, namespace, started)):
            until(lambda: client.stats(QUEUE).completed == count + 1, PATIENCE)
        stats = client.stats(QUEUE)
    assert Counter(delivery.id for delivery, _ in started) == dict.fromkeys(ids, 1)
    waits = [at - proxy.lost[delivery._held.receipt.nonce.encode()] for delivery, at in started]
    assert len(waits) == count  # each message's claim had lost its reply
    ended = messages(tasks, ids)
    assert {(message.status, message.attempts, message.history) for message in ended} == {(Status.COMPLETE, 1, ())}
    records = map(Record.of, tasks.redis.hvals(tasks.keys.states))
    assert {record.numbers for record in records} == {(0, 0, 0, 0)}
    assert (stats.lost, stats.failed, stats.released) == (0, 0, 0)
    figure(f"{count:,} lost replies to claims: until the message was started {spread(waits)}")
