"""Delayed messages come once, on time and never early, and those that wait for long cost nobody anything."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from redisq import Delivery, RedisQ, Worker, store
from redisq.body import codec
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH
from redisq.store.keys import id_text, new_id
from redisq.store.messages import NewMessage
from tests.conftest import Raw
from tests.contract.test_worker_schedules import Ticks, play
from tests.contract.test_worker_schedules import until as until_at_ease
from tests.delivery.conftest import QUEUE, messages, spread
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, working

MONTH = 30 * 86_400.0


def delayed(raw: Raw, delays: list[float]) -> list[str]:
    """Queue a message for each delay, up to BATCH in a call."""
    body, limits, ids = codec.encode_request({"hello": "world"}, 1024), limits_of(raw.settings), list[str]()
    for first in range(0, len(delays), BATCH):
        batch = delays[first : first + BATCH]
        new = [NewMessage(new_id(), codec.digest(body), body, delay) for delay in batch]
        assert raw.link.call(store.messages.queue(raw.keys, limits, new)) == [None] * len(new)
        ids += [id_text(message.id) for message in new]
    return ids


@pytest.mark.full
def test_delayed_messages_are_on_time(
    tasks: Raw, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count, done = scaled(1_000, 200), Counter[str]()
    worker = Worker(settings=tasks.settings)

    @worker.handler(QUEUE, concurrency=100)
    async def handle(delivery: Delivery) -> None:
        done[delivery.id] += 1

    chance = random.Random(9)
    delays = [chance.randrange(500, 3_000) / 1000 for _ in range(count)]
    with working(worker):
        ids = delayed(tasks, delays)
        until(lambda: len(done) == count, PATIENCE)
    assert done == dict.fromkeys(ids, 1)
    late = [
        (message.started_at - message.queued_at).total_seconds() - delay  # type: ignore[operator]
        for message, delay in zip(messages(tasks, ids), delays, strict=True)
    ]
    assert min(late) > -0.0005  # never early; times are whole milliseconds of the server's clock
    figure(f"{count:,} delayed messages: late by {spread(late)} (target p99 < 100 ms), none early")


def test_ten_workers_queue_each_tick_of_a_minute_once(
    tasks: Raw, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    ticks, seconds = Ticks(tasks.settings), scaled(60, 3)
    play(
        lambda: until_at_ease(lambda: len(ticks.handled) >= seconds, PATIENCE),
        ticks.handler(),
        *(ticks.scheduler() for _ in range(10)),
    )
    ticks.check()
    figure(f"10 workers with a schedule of each second: one message for each of {len(ticks.handled)} ticks in a row")


@pytest.mark.full
def test_a_million_far_away_cost_idle_workers_nothing(
    one_own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    count, window = scaled(1_000_000, 5_000), scaled(10, 4)
    server = one_own_server()
    raw = below(server)
    worker = Worker(settings=raw.settings)

    @worker.handler(QUEUE)
    async def handle(delivery: Delivery) -> None:
        """Never called."""

    def idle() -> int:
        before = server.commands()
        time.sleep(window)
        return server.commands() - before

    with working(worker), RedisQ(settings=raw.settings) as client:
        until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
        without = idle()
        chance = random.Random(9)
        delayed(raw, [chance.uniform(MONTH, 2 * MONTH) for _ in range(count)])
        until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
        with_them = idle()
        assert client.stats(QUEUE).scheduled == count
    assert with_them < without + 5 * window  # a poll would show
    figure(
        f"{count:,} messages delayed by a month: an idle worker sends {with_them / window:.1f} commands/s, "
        f"without them {without / window:.1f}"
    )
