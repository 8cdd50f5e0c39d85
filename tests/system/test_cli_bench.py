"""`redisq bench`: what it prints, and that its queue is gone in the end, however that comes."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from redisq import RedisQ, embedded
from tests.conftest import REAL, settings_for
from tests.support.shell import TIMEOUT, Shell
from tests.system.conftest import eventually

pytestmark = [pytest.mark.system, pytest.mark.skipif(REAL is None, reason="fakeredis is too slow to be measured")]

RATES = ("queue_one", "queue_64", "queue_bulk", "drain")
TIMES = ("round_trip", "latency_p50", "latency_p99")


def left(producer: RedisQ) -> list[bytes]:
    """What is left in the namespace."""
    with redis.Redis.from_url(producer.settings.url) as client:
        return list(client.scan_iter(f"{producer.settings.namespace}:*", count=1000))


@pytest.mark.full
def test_a_line_for_each_figure(shell: Shell, producer: RedisQ) -> None:
    done = shell.run_outside("bench", "--messages", "200", PYTHONUTF8="1")  # other encodings get boxes
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert len(lines) == len(RATES + TIMES)
    assert all(re.fullmatch(r"\S.*\S {2,}[\d,.]+ (ms|messages/s)", line) for line in lines)
    assert left(producer) == []


def test_as_json(shell: Shell, producer: RedisQ) -> None:
    done = shell.run_outside("bench", "--messages", "100", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert set(document) == {"messages", *RATES, *TIMES}
    assert document["messages"] == 100
    assert all(document[name] > 0 for name in RATES + TIMES)
    assert document["latency_p50"] <= document["latency_p99"]
    assert left(producer) == []


@pytest.mark.full
def test_other_queues_stay(shell: Shell, producer: RedisQ) -> None:
    id = producer.queue_message("orders", 1)
    assert shell.run_outside("bench", "--messages", "100").returncode == 0
    assert producer.queues() == ["orders"]
    assert producer.get_message("orders", id).status == "PENDING"


@pytest.fixture
def forgetful() -> Iterator[embedded.EmbeddedServer]:
    """A server of our own that keeps nothing on disk."""
    with embedded.start(kind=REAL, options={"appendonly": "no"}) as server:
        yield server


@pytest.mark.full
def test_it_warns_of_a_server_that_may_lose_messages(shell: Shell, forgetful: embedded.EmbeddedServer) -> None:
    done = shell.run_outside("bench", "--messages", "100", "--url", forgetful.url)
    assert done.returncode == 0
    assert re.fullmatch(r"[^\n]+ keeps no append-only file\.[^\n]+\n", done.stderr)


@pytest.mark.full
def test_errors_are_one_line(shell: Shell, producer: RedisQ) -> None:
    cases: list[tuple[tuple[str, ...], str]] = [
        (("--url", "redis://127.0.0.1:1"), "127.0.0.1"),
        (("--token", "x"), "token"),
        (("--token", shell.text("token", "create", "--op", "queue")), "does not allow admin"),
    ]
    for arguments, text in cases:
        done = shell.run_outside("bench", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"redisq: [^\n]+\n", done.stderr)
        assert text in done.stderr
    assert left(producer) == []


def test_wrong_usage(shell: Shell) -> None:
    assert shell.run("bench", "--messages", "99").returncode == 2
    assert shell.run("bench", "orders").returncode == 2


def begun(producer: RedisQ, *, working: bool) -> str:
    """Give the name of the queue once it is there, or once its worker has finished something."""

    def name() -> str | None:
        queues = producer.queues()
        return queues[0] if queues and (not working or producer.stats(queues[0]).finished) else None

    found: str = eventually(name, "a queue to be measured")
    return found


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("working", [False, True], ids=["queueing", "working"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(
    shell: Shell, producer: RedisQ, number: signal.Signals, working: bool
) -> None:
    process = shell.start("bench", "--messages", "40000")
    assert begun(producer, working=working).startswith("redisq-bench-")
    process.send_signal(number)
    assert process.wait(TIMEOUT) == 128 + number
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert Path(shell.log).read_text() == ""
    assert left(producer) == []


def test_what_could_not_be_removed_is_named(shell: Shell, forgetful: embedded.EmbeddedServer) -> None:
    with RedisQ(settings=settings_for(forgetful.url, shell.environment["REDISQ_NAMESPACE"])) as producer:
        process = shell.start("bench", "--messages", "1000000", "--url", forgetful.url)
        queue = begun(producer, working=False)
    os.kill(forgetful.pid, signal.SIGKILL)
    assert process.wait(TIMEOUT) == 1
    *warnings, error = Path(shell.log).read_text().splitlines()
    assert len(warnings) == 1
    assert error.startswith("redisq: ")
    assert error.endswith(f"Its queue may be left: `redisq queues drop {queue}` removes it.")
