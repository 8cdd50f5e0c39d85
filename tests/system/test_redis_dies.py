"""Redis is killed, stopped and filled while workers work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from redisq import QueueFull, RedisQ, embedded
from tests.conftest import REAL_SERVERS, settings_for
from tests.support.servers import append_only
from tests.system.conftest import Crew, eventually


class OwnRedis:
    """A Redis at a fixed address to be killed and started again on its data; each write is on disk at its reply."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.binary = binary
        self.folder = folder
        self.socket = folder / "s"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        with (self.folder / "log").open("ab") as log:
            said = log.tell()
            self.process = subprocess.Popen([self.binary, *arguments, *durable, *self.options], stdout=log, stderr=log)
        eventually(self.answers, "Redis to answer")
        append_only.mend(self.url, self.folder / "log", said)

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url, protocol=2) as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


def _binary(name: str) -> str:
    if os.sep in name:
        return name
    return next(str(candidate.binary) for candidate in embedded.candidates() if candidate.kind == name)


@pytest.fixture(
    params=REAL_SERVERS[:1] or [pytest.param("", marks=pytest.mark.skip("no real Redis here"))], ids=["own"]
)
def own_redis(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnRedis]]:
    with tempfile.TemporaryDirectory(prefix="rq") as folder:  # not tmp_path: a socket's path must be short
        made: list[OwnRedis] = []

        def make(*options: str) -> OwnRedis:
            made.append(OwnRedis(_binary(request.param), Path(folder), *options))
            made[-1].start()
            return made[-1]

        yield make
        for server in made:
            server.kill()


@pytest.fixture
def crew_on(namespace: str, tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def make(server: OwnRedis, **values: Any) -> Crew:
        values = {"grace": 10, "backoff_base": 0.05, **values}
        made.append(Crew(settings_for(server.url, namespace, **values), tmp_path / "crew.log"))
        return made[-1]

    yield make
    for crew in made:
        crew.end()


def test_redis_killed_under_load_loses_no_message(
    own_redis: Callable[..., OwnRedis], crew_on: Callable[..., Crew]
) -> None:
    server = own_redis()
    crew = crew_on(server, lease=3, retry_deadline=30)
    workers = [crew.start(), crew.start()]
    with RedisQ(settings=crew.settings) as producer:
        ids: list[str] = []
        for round in range(3):
            ids += producer.queue_messages("tasks", [{"sleep": 0.02, "n": n} for n in range(500)])
            done = 400 * (round + 1)
            eventually(lambda done=done: len(crew.count("end")) >= done, f"{done} handler ends")
            server.kill()
            server.start()
        eventually(lambda: producer.stats("tasks").completed == 1_500, "1,500 completions")
        stats = producer.stats("tasks")
        assert (stats.ready, stats.in_progress, stats.scheduled, stats.dead) == (0, 0, 0, 0)
        assert set(crew.count("end")) == set(ids)
        # An outage shorter than the lease doubles nothing: the worker still holds what it claimed.
        assert set(crew.count("start").values()) == {1}
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]


@pytest.mark.full
def test_an_outage_longer_than_the_lease_doubles_nothing(
    own_redis: Callable[..., OwnRedis], crew_on: Callable[..., Crew]
) -> None:
    server = own_redis()
    crew = crew_on(server, lease=2)
    workers = [crew.start(), crew.start()]
    with RedisQ(settings=crew.settings) as producer:
        ids = producer.queue_messages("tasks", [{"sleep": 6, "n": n} for n in range(50)])
        eventually(lambda: len(crew.count("start")) == 50, "50 starts")
        server.kill()
        eventually(lambda: len(crew.count("end")) == 50, "50 ends without Redis")
        server.start()
        eventually(lambda: producer.stats("tasks").completed == 50, "50 completions")
        assert crew.count("start") == dict.fromkeys(ids, 1)
        assert producer.stats("tasks").lost == 0
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0]


def test_a_full_redis_refuses_to_queue_and_drains(
    own_redis: Callable[..., OwnRedis], crew_on: Callable[..., Crew]
) -> None:
    server = own_redis()
    crew = crew_on(server, lease=2)
    with RedisQ(settings=crew.settings) as producer, redis.Redis.from_url(server.url, protocol=2) as raw:
        ids = producer.queue_messages("tasks", [{"sleep": 1, "n": n, "fail": n < 3} for n in range(100)])
        raw.config_set("maxmemory", 1)
        with pytest.raises(QueueFull):
            producer.queue_message("tasks", {})
        worker = crew.start()
        eventually(lambda: producer.stats("tasks").completed == 97, "97 completions on a full Redis")
        eventually(lambda: producer.stats("tasks").dead == 3, "3 dead letters on a full Redis")
        assert set(crew.count("end")) == set(ids[3:])
        assert producer.stats("tasks").lost == 0
        for id in ids:
            producer.delete_message("tasks", id)
        with pytest.raises(QueueFull):
            producer.queue_message("tasks", {})
        raw.config_set("maxmemory", 0)
        assert producer.get_message("tasks", producer.queue_message("tasks", {}), wait=30).finished
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.full
def test_redis_standing_still_for_longer_than_the_lease_doubles_nothing(
    own_redis: Callable[..., OwnRedis], crew_on: Callable[..., Crew]
) -> None:
    """Claims under way meanwhile are answered first when it goes on, before the holders can renew their leases."""
    server = own_redis()
    crew = crew_on(server, lease=1)
    workers = [crew.start(CREW_ONE_QUEUE="1") for _ in range(3)]
    with RedisQ(settings=crew.settings) as producer:
        ids = producer.queue_messages("tasks", [{"sleep": 2, "n": n} for n in range(30)])
        eventually(lambda: len(crew.count("start")) == 30, "30 starts")
        for _ in range(3):
            time.sleep(0.3)
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            server.process.send_signal(signal.SIGCONT)
        eventually(lambda: producer.stats("tasks").completed == 30, "30 completions")
        assert crew.count("start") == dict.fromkeys(ids, 1)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
