"""Worker processes under signals, kills and load."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis

from redisq import RedisQ, Settings, Status
from redisq.store.keys import partition_keys
from tests.system.conftest import Crew, eventually


def _produce(values: dict[str, Any], first: int, count: int) -> None:
    with RedisQ(settings=Settings(**values)) as client:
        for start in range(first, first + count, 1000):
            client.queue_messages("tasks", [{"n": n} for n in range(start, start + 1000)])


def test_two_workers_and_two_producers_complete_each_message_once(crew: Crew, producer: RedisQ) -> None:
    settings = crew.settings
    values = {
        "url": settings.url,
        "namespace": settings.namespace,
        "app_id": settings.app_id,
        "app_secret": settings.app_secret.get_secret_value() if settings.app_secret else "",
    }
    workers = [crew.start(), crew.start()]
    spawn = multiprocessing.get_context("spawn")
    producers = [spawn.Process(target=_produce, args=(values, first, 10_000)) for first in (0, 10_000)]
    for process in producers:
        process.start()
    for process in producers:
        process.join()
        assert process.exitcode == 0
    eventually(lambda: producer.stats("tasks").completed >= 20_000, "20,000 completions", 120)

    stats = producer.stats("tasks")
    assert (stats.ready, stats.scheduled, stats.in_progress, stats.completed) == (0, 0, 0, 20_000)
    assert (stats.failed, stats.lost, stats.released, stats.died) == (0, 0, 0, 0)
    ends = crew.count("end")
    assert len(ends) == 20_000
    assert set(ends.values()) == {1}
    assert {attempt for _, _, attempt, _ in crew.events()} == {1}
    assert len({pid for _, _, _, pid in crew.events()}) == 2
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]

    for id in ends:
        producer.delete_message("tasks", id)
    producer.define("tasks", dedup_window=1.0)
    _age_tombstones(settings)
    producer.sweep("tasks")

    producer.define("unused", dedup_window=1.0)
    producer.delete_message("unused", producer.queue_message("unused", {}))
    server = redis.Redis.from_url(settings.url, protocol=2)
    try:
        left = {key.decode().rsplit(":", 1)[1] for key in server.scan_iter(f"{settings.namespace}:1:{{tasks}}:*")}
        assert left == {"config", "counters"}
    finally:
        server.close()


def _age_tombstones(settings: Settings) -> None:
    """Let the deduplication window of all tombstones pass by moving them into the past."""
    keys = partition_keys(settings.namespace, "tasks")
    server = redis.Redis.from_url(settings.url, protocol=2)
    try:
        states = server.hgetall(keys.states)
        assert len(states) == 20_000
        aged = {}
        for id, text in states.items():
            mark, nonce, at, digest = text.split(b" ", 3)
            assert mark == b"T"
            aged[id] = b" ".join((mark, nonce, str(int(at) - 2000).encode(), digest))
        server.hset(keys.states, mapping=aged)
        entries = server.xrange(keys.tombstones)
        server.delete(keys.tombstones)
        pipeline = server.pipeline(transaction=False)
        for entry, fields in entries:
            at, sequence = entry.decode().split("-")
            pipeline.xadd(keys.tombstones, fields, id=f"{int(at) - 2000}-{sequence}")
        pipeline.execute()
    finally:
        server.close()


def test_a_killed_workers_messages_complete_elsewhere(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=1)
    victim = crew.start()
    ids = producer.queue_messages("tasks", [{"sleep": 0.3, "n": n} for n in range(20)])
    eventually(lambda: crew.count("start"), "the first start")
    victim.kill()
    victim.wait()
    done = crew.count("end")
    begun = set(crew.count("start"))
    crew.start()
    messages = [producer.get_message("tasks", id, wait=30) for id in ids]
    assert all(message.status is Status.COMPLETE for message in messages)
    again = {message.id for message in messages if message.attempts == 2}
    assert {message.attempts for message in messages} <= {1, 2}
    assert begun - set(done) <= again
    assert producer.stats("tasks").lost == len(again)


def test_a_stopped_workers_late_completion_is_refused(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=1)
    sleeper = crew.start()
    id = producer.queue_message("tasks", {"sleep": 0.5})
    eventually(lambda: crew.count("start"), "the start")
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = crew.start()
    message = producer.get_message("tasks", id, wait=30)
    assert (message.status, message.attempts) == (Status.COMPLETE, 2)
    other.send_signal(signal.SIGTERM)
    assert other.wait() == 0
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait() == 0
    assert producer.get_message("tasks", id) == message
    assert producer.stats("tasks").completed == 1


def test_sigterm_under_load_repeats_nothing_and_leaves_nothing_waiting(crew: Crew, producer: RedisQ) -> None:
    ids = producer.queue_messages("tasks", [{"sleep": 0.02, "n": n} for n in range(3_000)])
    first = crew.start()
    eventually(lambda: len(crew.count("end")) > 200, "some work")
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    stats = producer.stats("tasks")
    assert stats.in_progress == 0  # with a lease of 30 s, anything left behind would wait that long
    assert stats.completed == len(crew.count("end"))
    second = crew.start("--burst")
    assert second.wait() == 0
    assert producer.stats("tasks").completed == 3_000
    ends = crew.count("end")
    assert set(ends) == set(ids)
    assert set(ends.values()) == {1}
    assert set(crew.count("start").values()) == {1}


def test_after_its_grace_a_worker_hands_running_messages_back_uncharged(
    make_crew: Callable[..., Crew], producer: RedisQ
) -> None:
    crew = make_crew(grace=0.2)
    worker = crew.start()
    ids = [producer.queue_message("tasks", {"sleep": 600}), producer.queue_message("plain", {"sleep": 600})]
    eventually(lambda: len(crew.count("start")) == 2, "both starts")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    for queue, id in zip(("tasks", "plain"), ids, strict=True):
        message = producer.get_message(queue, id)
        assert (message.status, message.attempts, message.error) == (Status.PENDING, 1, None)
        stats = producer.stats(queue)
        assert (stats.ready, stats.in_progress, stats.released, stats.failed, stats.lost) == (1, 0, 1, 0, 0)
    assert crew.count("cancelled")[ids[0]] == 1


def test_a_second_signal_cuts_the_grace_short(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(grace=3600)
    worker = crew.start()
    id = producer.queue_message("tasks", {"sleep": 3600})
    eventually(lambda: crew.count("start"), "the start")
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)
    assert worker.wait() == 0
    assert producer.get_message("tasks", id).status is Status.PENDING
    assert producer.stats("tasks").ready == 1


def test_stuck_plain_handlers_end_the_process_for_its_supervisor(crew: Crew, producer: RedisQ) -> None:
    crew.settings = crew.settings.model_copy(update={"grace": 0.0})
    worker = crew.start(CREW_TIMEOUT="0.2", REDISQ_MAX_STUCK="2")
    ids = producer.queue_messages("plain", [{"sleep": 3600}, {"sleep": 3600}])
    assert worker.wait() == 1
    for id in ids:
        message = producer.get_message("plain", id)
        assert message.error is not None
        assert message.error["type"] == "TimeoutError"
        assert message.attempts >= 1


def _bell_waits(server: redis.Redis) -> int:
    return int(server.info("commandstats").get("cmdstat_blpop", {"calls": 0})["calls"])


def _blocked(server: redis.Redis) -> int:
    return sum(client["cmd"] == "blpop" and client["name"] == "redisq" for client in server.client_list())


@pytest.mark.full
def test_one_worker_is_woken_per_message(crew: Crew, producer: RedisQ) -> None:
    for _ in range(20):
        crew.start(CREW_CONCURRENCY="1", CREW_ONE_QUEUE="1")
    server = redis.Redis.from_url(crew.settings.url, protocol=2)
    try:
        eventually(lambda: _blocked(server) == 20, "20 workers to block")
        before = _bell_waits(server)
        ids = []
        for n in range(200):
            ids.append(producer.queue_message("tasks", {"n": n}))
            assert producer.get_message("tasks", ids[-1], wait=30).status is Status.COMPLETE
        # Each woken worker waits for the bell once more; beside those there are only the looks every 5 s.
        assert _bell_waits(server) - before < 200 * 3
        assert crew.count("end") == dict.fromkeys(ids, 1)
        assert server.llen(partition_keys(crew.settings.namespace, "tasks").bell) <= 1
    finally:
        server.close()


@pytest.mark.full
def test_twenty_idle_workers_share_a_burst_and_lose_nothing(crew: Crew, producer: RedisQ) -> None:
    for _ in range(20):
        crew.start(CREW_CONCURRENCY="1", CREW_ONE_QUEUE="1")
    server = redis.Redis.from_url(crew.settings.url, protocol=2)
    try:
        eventually(lambda: _blocked(server) == 20, "20 workers to block")
        ids = producer.queue_messages("tasks", [{"sleep": 0.05, "n": n} for n in range(100)])
        eventually(lambda: producer.stats("tasks").completed == 100, "100 completions")
        assert crew.count("start") == dict.fromkeys(ids, 1)
        assert len({pid for _, _, _, pid in crew.events()}) > 5
    finally:
        server.close()


@pytest.mark.full
def test_an_idle_worker_sends_less_than_three_commands_a_second(crew: Crew, producer: RedisQ) -> None:
    worker = crew.start(CREW_CONCURRENCY="100", CREW_ONE_QUEUE="1")
    server = redis.Redis.from_url(crew.settings.url, protocol=2)

    def commands() -> int:
        # Commands inside scripts are counted, too, so only what clients send is looked at.
        stats = server.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval", "blpop"))

    def now() -> float:
        seconds, microseconds = server.time()
        return seconds + microseconds / 1e6

    try:
        eventually(lambda: _blocked(server) == 1, "the worker to block")
        before, began = commands(), now()
        eventually(lambda: now() - began > 6, "six seconds of idleness")
        assert (commands() - before) / (now() - began) < 3
    finally:
        server.close()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_deleting_a_message_in_progress_cancels_its_handler(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=1)
    worker = crew.start()
    cancelled = producer.queue_message("tasks", {"sleep": 3600})
    polite = producer.queue_message("plain", {"sleep": 3600, "polite": True})
    finishing = producer.queue_message("plain", {"sleep": 0.01, "n": 7})
    eventually(lambda: len(crew.count("start")) == 3, "all starts")
    producer.delete_message("tasks", cancelled)
    producer.delete_message("plain", polite)
    eventually(lambda: set(crew.count("cancelled")) == {cancelled, polite}, "both handlers to see it")
    assert producer.get_message("plain", finishing, wait=10).result == {"n": 7}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    for queue in ("tasks", "plain"):
        stats = producer.stats(queue)
        assert (stats.ready, stats.scheduled, stats.in_progress, stats.failed, stats.lost) == (0, 0, 0, 0, 0)


@pytest.mark.full
def test_a_heartbeat_keeps_a_lease_far_beyond_its_length(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=0.5)
    crew.start()
    crew.start()
    ids = [producer.queue_message("tasks", {"sleep": 3}), producer.queue_message("plain", {"sleep": 3})]
    messages = [producer.get_message(queue, id, wait=30) for queue, id in zip(("tasks", "plain"), ids, strict=True)]
    assert [(message.status, message.attempts) for message in messages] == [(Status.COMPLETE, 1)] * 2
