"""What the doctor makes of a server's INFO, of two clocks, and of each code it knows."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from redisq.model.audit import Survey
from redisq.model.queue import QueueStats
from redisq.operations.findings import KINDS, found, of_clock, of_server, of_stats, of_survey
from redisq.store import scripts

SOUND = "redis_version:8.2.2\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\nused_memory:10\r\naof_enabled:1\r\n"
AUDIT = "".join((files(scripts) / name).read_text("utf-8") for name in ("audit.lua", "lib/judge.lua", "lib/mend.lua"))
WORDS = set(re.findall(r"'([a-z]+(?:-[a-z]+)+)'", AUDIT))
STRAYS = {f"{walk}-stray" for walk in ("stream", "scheduled", "leases", "finished", "dead")}


def codes(info: str) -> list[str]:
    return [finding.code for finding in of_server(info)]


def test_every_word_of_the_audit_is_known() -> None:
    assert len(WORDS) > 10
    assert (WORDS | STRAYS) - {"-stray"} <= KINDS.keys()


@pytest.mark.parametrize("code", KINDS)
def test_each_code_says_what_it_means_and_what_to_do(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    finding = found(code, details="so and so")
    assert finding.severity in ("error", "warning", "note")
    assert re.fullmatch(r"[A-Zs][^{}]+[.?]", finding.meaning)
    assert re.fullmatch(r"[^{}]+\.", finding.remedy)
    assert finding.fixable == ("--fix" in finding.remedy)
    assert finding.to_dict()["code"] == code


def test_a_sound_server() -> None:
    assert codes(SOUND) == []


@pytest.mark.parametrize(
    ("line", "vulnerable"),
    [
        *(("redis_version:6.2.19", True), ("redis_version:6.2.20", False), ("redis_version:6.2.21", False)),
        *(("redis_version:7.0.15", True), ("redis_version:7.2.10", True), ("redis_version:7.2.11", False)),
        *(("redis_version:7.4.5", True), ("redis_version:7.4.6", False), ("redis_version:8.0.3", True)),
        *(("redis_version:8.2.1", True), ("redis_version:8.2.2", False), ("redis_version:8.4.0", False)),
        *(("redis_version:6.0.20", True), ("redis_version:7.0.99", True), ("redis_version:8.0.4", False)),
        *(("redis_version:7.2.100", False), ("redis_version:6.2.20-rc1", False), ("redis_version:8.6.0", False)),
        *(("redis_version:255.255.255", False), ("redis_version:9", False)),
        *(("redis_version:7.2.4\nvalkey_version:8.1.3", True), ("redis_version:7.2.4\nvalkey_version:8.1.4", False)),
        *(("redis_version:7.2.4\nvalkey_version:8.0.5", True), ("redis_version:7.2.4\nvalkey_version:8.0.6", False)),
        *(("redis_version:7.2.4\nvalkey_version:7.2.11", False), ("redis_version:7.2.4\nvalkey_version:9.1.2", False)),
        *(("valkey_version:7.2.10\nredis_version:7.2.4", True), ("valkey_version:9.0.0\nredis_version:7.2.4", False)),
    ],
)
def test_scripts_that_take_a_server_over(line: str, vulnerable: bool) -> None:
    assert codes(line) == ["server-vulnerable"] * vulnerable


def test_a_version_is_no_proof_so_it_is_a_warning_that_says_so() -> None:
    (finding,) = of_server("redis_version:7.0.15\n")
    assert finding.severity == "warning"
    assert "Redis 7.0.15 lets" in finding.meaning
    assert "A distribution may have mended it" in finding.remedy
    assert "a later line where its own is given up" in finding.remedy


def test_the_version_is_named() -> None:
    (finding,) = of_server("redis_version:7.2.4\nvalkey_version:8.1.3-rc1\n")
    assert "Valkey 8.1.3-rc1 lets" in finding.meaning


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("maxmemory:0", ["memory-unlimited"]),
        ("maxmemory:0\nmaxmemory_policy:allkeys-lru", ["memory-unlimited"]),
        ("maxmemory:1000\nmaxmemory_policy:allkeys-lru\nused_memory:5", ["memory-evicts"]),
        ("maxmemory:1000\nmaxmemory_policy:volatile-lru\nused_memory:900", []),
        ("maxmemory:1000\nused_memory:901", ["memory-nearly-full"]),
        ("aof_enabled:0", ["not-written-down"]),
        ("aof_enabled:1\naof_last_write_status:err", ["write-failed"]),
        ("aof_enabled:1\naof_last_write_status:ok", []),
        ("connected_slaves:2", ["replicas-not-awaited"]),
        ("connected_slaves:2\nmin_slaves_good_slaves:2", []),
        ("connected_slaves:0", []),
        ("maxmemory:much", []),
        ("", []),
    ],
)
def test_memory_and_durability(told: str, expected: list[str]) -> None:
    assert codes(told.replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("server", "told"),
    [(1029.0, None), (1032.0, "behind"), (971.0, None), (969.0, "ahead of")],
)
def test_clocks(server: float, told: str | None) -> None:
    texts = [finding.meaning for finding in of_clock(1000.0, server, 1001.0)]
    assert (texts == []) if told is None else (told in texts[0])


def test_a_slow_answer_is_no_wrong_clock() -> None:
    assert list(of_clock(1000.0, 1050.0, 1055.0)) == []


SURVEY = Survey({"counters": "hash"}, True, held=5)


@pytest.mark.parametrize(
    ("stats", "differs"),
    [
        (QueueStats("orders"), False),
        (QueueStats("orders", ready=1, scheduled=1, in_progress=1, queued=3), False),
        (QueueStats("orders", ready=1, queued=9, completed=4, died=6, redriven=2), False),
        (QueueStats("orders", ready=1, queued=2), True),
        (QueueStats("orders", ready=1, queued=2, deleted=1), False),
        (QueueStats("orders", ready=2, queued=2, deleted=1), False),  # the deleted one had finished
        (QueueStats("orders", ready=2, queued=1), True),
    ],
)
def test_totals(stats: QueueStats, differs: bool) -> None:
    assert [one.code for one in of_stats("orders", SURVEY, stats, sound=True)] == ["totals-differ"] * differs
    assert list(of_stats("orders", SURVEY, stats, sound=False)) == []


def test_a_whole_definition_is_valid() -> None:
    config = {"lease": "100", "paused": "0", "max_length": "0", "backoff_base": "0", "max_attempts": "1000000"}
    assert list(of_survey("orders", Survey({"config": "hash"}, True, config=config))) == []
    config["lease"] = "99"
    (finding,) = of_survey("orders", Survey({"config": "hash"}, True, config=config))
    assert (finding.code, finding.examples) == ("definition-invalid", ("lease",))
