"""A process dies in the middle of a batch: each message of it is there whole or not at all, and ends once."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from redisq import AsyncRedisQ, Delivery, RedisQ, Settings, Status, Worker, embedded
from redisq.store.keys import id_text
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages
from tests.delivery.test_worker_deaths import connections
from tests.support.queues.invariants import broken
from tests.support.servers.proxy import until
from tests.support.servers.slow_proxy import Dam
from tests.support.workers.producer import COUNT, DRAWN, body_of, id_of
from tests.support.workers.spawned import HERE, PATIENCE, Nursery, environment_of, working

Scene = tuple[Raw, Raw, list[str]]

LEASE = 1.0
MESSAGES, SLOTS = 150, 100  # what a worker gets in several claims, and ends in several calls
CHUNK = 250  # messages of one call of a batch


def kill_at(name: str, number: int) -> str:
    """Give the failpoint that kills at the so-manyth pass of `name`."""
    for seed in itertools.count():
        chance = random.Random(seed)
        if next(n for n in itertools.count(1) if chance.random() < 1 / number) == number:
            return f"{name}:kill:{1 / number}:{seed}"
    raise AssertionError


def check_now(raw: Raw) -> None:
    """Nothing is wrong with the queue at this moment, by the audit and by our own look at its keys."""
    with RedisQ(settings=raw.settings) as client:
        assert [finding for finding in client.doctor(QUEUE) if finding.severity == "error"] == []
    assert broken(raw) == []


# --- Workers ----------------------------------------------------------------------------------------------------------


def finish(raw: Raw, ids: Sequence[str], crew: Nursery, by_it: int) -> None:
    """Have another worker finish what a dead one left, of whom Redis accepted `by_it` completions; check all."""
    done, begun = Counter[str](), crew.count("start")
    other = Worker(settings=raw.settings)

    @other.handler(QUEUE, concurrency=SLOTS)
    async def handle(delivery: Delivery) -> str:
        done[delivery.id] += 1
        return "the other"

    with RedisQ(settings=raw.settings) as client:
        with working(other):
            until(lambda: client.stats(QUEUE).completed == len(ids), PATIENCE)
        stats = client.stats(QUEUE)
    ended = messages(raw, ids)
    assert {message.status for message in ended} == {Status.COMPLETE}
    for message in ended:
        assert [step.event for step in message.history] == ["lost", "reclaimed"] * (message.attempts - 1)
        if message.result == "the other":
            assert done[message.id] == 1
            assert message.attempts == 2 or (message.attempts == 1 and not begun[message.id])
        else:  # what the dead one ended, nobody did again
            assert (message.result, message.attempts, begun[message.id], done[message.id]) == (1, 1, 1, 0)
    assert sum(message.result == 1 for message in ended) == by_it
    assert stats.lost == sum(message.attempts - 1 for message in ended)
    assert (stats.completed, stats.failed, stats.dead, stats.released) == (len(ids), 0, 0, 0)


def check_after(raw: Raw) -> None:
    """Nothing is wrong, nor wants any attention."""
    with RedisQ(settings=raw.settings) as client:
        assert client.doctor(QUEUE) == []
    assert broken(raw) == []


@pytest.fixture
def scene(dam: Dam, real_server: embedded.EmbeddedServer, below: Callable[..., Raw]) -> Scene:
    """Messages that wait, and the server from below, through the dam and directly."""
    through, raw = below(dam, lease=LEASE), below(real_server, lease=LEASE)
    with RedisQ(settings=raw.settings) as client:
        return through, raw, client.queue_messages(QUEUE, [{}] * MESSAGES)


def test_a_worker_dies_with_outcomes_that_it_has_not_sent(scene: Scene, nursery: Callable[..., Nursery]) -> None:
    through, raw, ids = scene
    crew = nursery(through, SLOTS, REDISQ_FAILPOINTS=kill_at("worker.finished", 30))
    pid = crew.start()
    until(lambda: crew.codes.get(pid) == -signal.SIGKILL, PATIENCE)
    assert crew.count("end").total() >= 30
    check_now(raw)
    finish(raw, ids, crew, by_it=0)
    check_after(raw)


@pytest.mark.full
def test_a_worker_dies_when_its_outcomes_were_accepted(scene: Scene, dam: Dam, nursery: Callable[..., Nursery]) -> None:
    through, raw, ids = scene
    crew = nursery(through, SLOTS, REDISQ_FAILPOINTS=kill_at("worker.outcome_sent", 1))
    pid = crew.start()
    until(lambda: crew.codes.get(pid) == -signal.SIGKILL, PATIENCE)
    (sent,) = dam.sizes("complete")
    assert sent > 1
    check_now(raw)
    finish(raw, ids, crew, by_it=sent)
    check_after(raw)


@pytest.mark.full
@pytest.mark.parametrize("late", [False, True], ids=["in time", "after others were faster"])
def test_a_worker_dies_while_its_outcomes_are_under_way(
    scene: Scene, dam: Dam, nursery: Callable[..., Nursery], late: bool
) -> None:
    """They arrive when it is dead: in time, and are accepted; or too late, and change nothing."""
    through, raw, ids = scene
    let_go = dam.hold("complete")
    crew = nursery(through, SLOTS)
    pid = crew.start()
    until(lambda: dam.held("complete"), PATIENCE)
    (sent,) = dam.sizes("complete")
    assert sent > 1
    assert crew.end(pid, signal.SIGKILL) == -signal.SIGKILL
    check_now(raw)
    if late:
        finish(raw, ids, crew, by_it=0)
        with RedisQ(settings=raw.settings) as client:
            client.sweep(QUEUE)
        before = raw.digest()
    arrived = commands(raw)
    let_go()
    until(lambda: commands(raw) == arrived + 1, PATIENCE)
    if late:
        assert raw.digest() == before
    else:
        check_now(raw)
        finish(raw, ids, crew, by_it=sent)
    check_after(raw)


def commands(raw: Raw) -> int:
    """How many scripts the server has run."""
    return int(raw.redis.info("commandstats")["cmdstat_evalsha"]["calls"])


# --- Producers --------------------------------------------------------------------------------------------------------


def produce(settings: Settings, how: str, failpoint: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "producer.py"), how, failpoint]
    return subprocess.Popen(command, env=environment_of(settings), stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> list[str]:
    """The ids that a producer was told are queued, until it was killed."""
    heard, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return heard.split()


def found_whole(raw: Raw) -> set[str]:
    """The ids of all that is queued, each whole."""
    with RedisQ(settings=raw.settings) as client:
        found = [message for message in client.get_messages(QUEUE, map(id_of, range(COUNT))) if message]
        assert all(message.request == body_of(message.request["n"]) for message in found)
        assert all(message.id == id_of(message.request["n"]) for message in found)
        assert client.stats(QUEUE).ready == client.stats(QUEUE).queued == len(found)
    return {message.id for message in found}


def queue_all_again(raw: Raw, how: str) -> list[str]:
    """Do what the producer did, to its end."""
    ids = [id_of(number) for number in range(COUNT)]
    if how == "batches":
        with RedisQ(settings=raw.settings) as client:
            return client.queue_messages(QUEUE, map(body_of, range(COUNT)), ids=ids)

    async def main() -> list[str]:
        async with AsyncRedisQ(settings=raw.settings) as client:
            return await asyncio.gather(*(client.queue_message(QUEUE, body_of(n), id=ids[n]) for n in range(COUNT)))

    return asyncio.run(main())


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("how", ["batches", "at-once"])
@pytest.mark.parametrize(("failpoint", "number"), [("before_send", 2), ("after_send", 1), ("after_send", 3)])
def test_a_producer_dies_in_the_middle(tasks: Raw, how: str, failpoint: str, number: int) -> None:
    before = connections(tasks)
    acknowledged = told(produce(tasks.settings, how, kill_at(f"client.{failpoint}", number)))
    assert 0 < len(acknowledged) < COUNT
    until(lambda: connections(tasks) <= before)  # Redis has read all that was sent
    there = found_whole(tasks)
    assert set(acknowledged) <= there
    assert len(there) < COUNT
    check_after(tasks)
    assert queue_all_again(tasks, how) == [id_of(number) for number in range(COUNT)]
    assert len(found_whole(tasks)) == COUNT
    check_after(tasks)


def test_a_producer_dies_while_the_next_messages_are_made(tasks: Raw) -> None:
    """Whole chunks are there, from the first on; of what was drawn at most the last two are not."""
    before = connections(tasks)
    assert told(produce(tasks.settings, "stream", "")) == []
    until(lambda: connections(tasks) <= before)
    ids = [id_text(fields[b"id"]) for _, fields in tasks.redis.xrange(tasks.keys.stream)]
    assert [message.request for message in messages(tasks, ids)] == [body_of(number) for number in range(len(ids))]
    assert len(ids) % CHUNK == 0
    assert DRAWN - 2 * CHUNK < len(ids) <= DRAWN
    check_after(tasks)


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("cut", [False, True], ids=["all arrives", "half arrives"])
def test_a_producer_dies_while_it_sends(dam: Dam, tasks: Raw, below: Callable[..., Raw], cut: bool) -> None:
    let_go = dam.hold("queue")
    process = produce(below(dam).settings, "batches", kill_at("client.after_send", 100))
    until(lambda: dam.held("queue"), PATIENCE)
    process.kill()
    assert told(process) == []
    assert found_whole(tasks) == set()
    let_go(cut)
    until(lambda: not dam.open)
    assert len(found_whole(tasks)) in ((0,) if cut else (0, CHUNK))
    check_now(tasks)
    queue_all_again(tasks, "batches")
    assert len(found_whole(tasks)) == COUNT
    check_after(tasks)
