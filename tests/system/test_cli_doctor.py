"""`redisq doctor`: what people see, what programs read, and how it ends."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from redisq import RedisQ
from redisq.store.keys import given_id, partition_keys, queues_key
from tests.support.shell import Shell

pytestmark = pytest.mark.system
SECRET = "4111-1111-1111-1111"


@pytest.fixture
def redis(producer: RedisQ) -> Any:
    """The server from below."""
    import redis

    with redis.Redis.from_url(producer.settings.url) as client:
        yield client


def damage(producer: RedisQ, redis: Any, queue: str = "orders") -> str:
    """Queue a message, lose its entry, and give its id."""
    id = producer.queue_message(queue, SECRET)
    redis.delete(partition_keys(producer.settings.namespace, queue).stream)
    return id


def test_healthy_queues(shell: Shell, producer: RedisQ) -> None:
    producer.queue_messages("orders", [1, 2, 3])
    producer.queue_message("invoices", 1)
    *lines, last = shell.text("doctor").splitlines()
    assert re.fullmatch(r"4 messages in 2 queues audited in [\d.]+ s: healthy( \(.+\))?", last)
    assert lines[:1] in (["server"], [])
    assert not [line for line in lines if line.lstrip().startswith("error")]


def test_no_queue_at_all(shell: Shell) -> None:
    assert "0 messages in 0 queues audited in " in shell.text("doctor")


def test_errors_are_told_then_mended(shell: Shell, producer: RedisQ, redis: Any) -> None:
    id = damage(producer, redis)
    producer.define("orders", paused=True)
    done = shell.run("doctor", "orders")
    assert (done.returncode, done.stderr) == (1, "")
    head, error, note, last = done.stdout.splitlines()
    assert head == "orders"
    assert re.fullmatch(rf"  error    orphan 1: .+\. `--fix` puts .+\. \({id}\)", error)
    assert note.startswith("  note     paused: ")
    assert re.fullmatch(r"0 messages in 1 queue audited in [\d.]+ s: 1 error, 1 note", last)
    assert SECRET not in done.stdout

    done = shell.run("doctor", "orders", "--fix")
    assert (done.returncode, done.stderr) == (0, "")
    meaning = "Bodies of waiting messages that are in no structure: they would never be delivered."
    assert f"  mended   orphan 1: {meaning} ({id})" in done.stdout.splitlines()
    assert "\n1 message in 1 queue audited" in done.stdout
    assert done.stdout.endswith("healthy (1 note, 1 mended)\n")
    assert shell.text("doctor", "orders").endswith("healthy (1 note)")
    assert producer.stats("orders").ready == 1


def test_what_cannot_be_mended_remains_an_error(shell: Shell, producer: RedisQ, redis: Any) -> None:
    id = producer.queue_message("orders", 1)
    redis.hset(partition_keys(producer.settings.namespace, "orders").states, given_id(id), "?")
    for options in ([], ["--fix"]):
        assert shell.run("doctor", *options).returncode == 1


def test_another_programs_key(shell: Shell, producer: RedisQ, redis: Any) -> None:
    producer.queue_message("orders", 1)
    redis.set(partition_keys(producer.settings.namespace, "orders").leases, "7")
    done = shell.run("doctor", "orders")
    assert (done.returncode, done.stderr) == (1, "")
    assert "leases is a string" in done.stdout


def test_as_json(shell: Shell, producer: RedisQ, redis: Any) -> None:
    id = damage(producer, redis)
    producer.queue_message("invoices", 1)
    done = shell.run("doctor", "orders", "invoices", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["healthy"], document["queues"], document["messages"]) == (False, ["orders", "invoices"], 1)
    assert document["seconds"] >= 0
    (finding,) = document["findings"]
    expected = {"severity": "error", "code": "orphan", "queue": "orders", "count": 1, "examples": [id]}
    assert {name: finding[name] for name in expected} == expected
    assert (finding["fixable"], finding["fixed"]) == (True, 0)
    document = shell.json("doctor", "orders", "--fix")
    assert (document["healthy"], document["findings"][0]["fixed"]) == (True, 1)


def test_scan_finds_lost_queues(shell: Shell, producer: RedisQ, redis: Any) -> None:
    id = damage(producer, redis)
    redis.delete(queues_key(producer.settings.namespace))
    assert "queue-unregistered" not in shell.text("doctor")
    assert "queue-unregistered" in shell.text("doctor", "--scan")
    done = shell.run("doctor", "--scan", "--fix")
    assert done.returncode == 0
    assert "mended   queue-unregistered" in done.stdout
    assert id in done.stdout  # now it is a queue among others, audited with them
    assert producer.queues() == ["orders"]


def test_wrong_usage(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("orders", 1)
    assert shell.run("doctor", "orders", "--scan").returncode == 2
    assert shell.error("doctor", "order") == "There is no queue order. Did you mean orders?"
    token = shell.text("token", "create", "--op", "stats")
    assert "does not allow" in shell.error("doctor", "--token", token)


def test_a_queue_that_looks_open_is_named_unless_the_gateways_setting_does(shell: Shell, producer: RedisQ) -> None:
    producer.define("once-open", security="none")
    told = shell.text("doctor")
    assert "once-open" in told
    assert "warning  security-none" in told
    assert "REDISQ_HTTP_OPEN_QUEUES" in told
    assert "security-none" not in shell.text("doctor", REDISQ_HTTP_OPEN_QUEUES="once-*")


def test_entries_of_the_registry_that_another_user_damaged(shell: Shell, producer: RedisQ, redis: Any) -> None:
    """Whoever may use one queue in direct mode may write to the registry of all."""
    producer.queue_message("orders", 1)
    registry = queues_key(shell.environment["REDISQ_NAMESPACE"])
    redis.hset(registry, mapping={"orders": "mine", "no name": "1", b"\xff": "1"})
    told = shell.run("doctor")
    assert told.returncode == 1
    assert "error    entry-broken" in told.stdout
    assert "warning  entry-strange 2" in told.stdout
    assert [row["queue"] for row in shell.json("stats")["queues"]] == ["orders"]
    assert list(shell.json("sweep")["swept"]) == ["orders"]
    assert shell.error("queue", "orders", "1").endswith("`redisq doctor --fix` writes it anew.")
    assert "mended   entry-broken" in shell.text("doctor", "--fix")
    assert shell.text("queue", "orders", "1")
    assert redis.hget(registry, "orders") == b"1"
    shell.text("queue", "orders", "2")
