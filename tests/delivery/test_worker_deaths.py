"""Workers that die take nothing along, and workers that end leave nothing behind."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from redisq import Delivery, RedisQ, Status, Worker, embedded
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages, spread
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, Event, Nursery

LEASE = 1.0


@pytest.mark.full
def test_what_a_killed_worker_held_runs_again(
    real_server: embedded.EmbeddedServer,
    below: Callable[..., Raw],
    nursery: Callable[..., Nursery],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Round after round, half of the crew is killed by what it handles, with all that it handles; others replace it."""
    kills = scaled(200, 8)
    raw = below(real_server, lease=LEASE)
    crew, ids = nursery(raw, 4), list[str]()
    half = min(kills, 10)
    alive = {crew.start() for _ in range(2 * half)}
    with RedisQ(settings=raw.settings) as client:
        while crew.count("kill").total() < kills:
            alive |= {crew.start() for _ in range(2 * half - len(alive))}
            requests = [{"sleep": 0.2, "kill": n % 8 == 0} for n in range(8 * half)]
            ids += client.queue_messages(QUEUE, requests)
            until(lambda: client.stats(QUEUE).completed == len(ids), PATIENCE)  # noqa: B023 - used at once
            alive -= crew.codes.keys()
        stats = client.stats(QUEUE)
    for pid in alive:
        assert crew.end(pid, signal.SIGTERM) == 0
    died = {event.pid: event.at for event in crew.events() if event.kind == "kill"}
    assert {crew.codes[pid] for pid in died} == {-signal.SIGKILL}
    starts = crew.starts()
    pauses = [pause for id in ids for pause in until_again(starts[id], died)]
    ended = messages(raw, ids)
    assert {message.status for message in ended} == {Status.COMPLETE}
    for message in ended:  # nothing is repeated without a cause
        causes = [step.event for step in message.history]
        assert causes == ["lost", "reclaimed"] * (message.attempts - 1)
    assert crew.count("end") == dict.fromkeys(ids, 1)
    assert stats.lost == sum(message.attempts - 1 for message in ended)
    assert (stats.failed, stats.dead, stats.released) == (0, 0, 0)
    figure(
        f"{len(died):,} kills: {len(pauses):,} messages ran again, {spread(pauses)} after the kill (lease {LEASE:g} s, "
        f"target lease + 6 s)"
    )


def until_again(starts: list[Event], died: dict[int, float]) -> list[float]:
    """How long after the death of its worker a message started again, each time; there is no other cause for it."""
    assert [event.attempt for event in starts] == sorted({event.attempt for event in starts})
    return [later.at - died[earlier.pid] for earlier, later in pairwise(starts)]


def test_ten_thousand_workers_leave_nothing_behind(
    tasks: Raw, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """In turns of twenty side by side, all in one process, so that its threads and connections can be counted."""
    count, beside = scaled(10_000, 200), 20
    handled: list[str] = []

    async def one() -> int:
        worker = Worker(settings=tasks.settings)

        @worker.handler(QUEUE, concurrency=2)
        async def handle(delivery: Delivery) -> None:
            handled.append(delivery.id)

        return await worker.run_async(burst=True)

    async def turn(client: RedisQ) -> None:
        client.queue_message(QUEUE, 1)
        assert await asyncio.gather(*(one() for _ in range(beside))) == [0] * beside
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def many(turns: int) -> Any:
        with RedisQ(settings=tasks.settings) as client:
            for _ in range(turns):
                await turn(client)
            client.sweep(QUEUE)
        return tasks.digest().keys(), threads(), connections(tasks)

    before = asyncio.run(many(1))
    assert asyncio.run(many(count // beside)) == before
    assert len(set(handled)) == len(handled) == count // beside + 1
    assert tasks.redis.hlen(tasks.keys.workers) == 0
    figure(f"{count:,} workers that came and went: 0 keys, threads, tasks or connections left")


def threads() -> list[str]:
    """The names of the threads that run."""
    return sorted(thread.name for thread in threading.enumerate() if "asyncio" not in thread.name)


def connections(raw: Raw) -> int:
    """How many connections of ours the server has."""
    return sum(client["name"] == "redisq" for client in raw.redis.client_list())
