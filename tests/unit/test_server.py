"""What INFO tells of a server, what we make of it, and how often it is asked."""

from __future__ import annotations

import logging

import pytest

from redisq import Unavailable
from redisq.link.server import Server, check_version, known, risks

SOUND = "# Server\r\nredis_version:7.2.4\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
EVICTS = SOUND.replace("maxmemory:0", "maxmemory:104857600").replace("noeviction", "allkeys-lru")
FORGETS = SOUND.replace("aof_enabled:1", "aof_enabled:0")
BOTH = EVICTS.replace("aof_enabled:1", "aof_enabled:0")
OLD = SOUND.replace("7.2.4", "5.0.6")


def changed(info: str, **values: str) -> str:
    """Change what INFO tells."""
    for name, value in values.items():
        old = next(line for line in info.splitlines() if line.startswith(f"{name}:"))
        info = info.replace(old, f"{name}:{value}")
    return info


# --- What it means ---


@pytest.mark.parametrize("info", ["redis_version:5.0.6", "redis_version:6.0.16", "valkey_version:5.9.0"])
def test_a_server_that_is_too_old_is_refused(info: str) -> None:
    with pytest.raises(Unavailable, match=rf"host:6379 is of version {info.partition(':')[2]}, and redisq needs"):
        check_version(f"# Server\r\n{info}\r\nredis_mode:standalone\r\n", "host:6379")


@pytest.mark.parametrize("info", ["redis_version:6.2.14", "redis_version:7.2.4\r\nvalkey_version:8.0.1", "", "# x"])
def test_a_server_that_is_new_enough_or_tells_no_version_passes(info: str) -> None:
    check_version(f"# Server\r\n{info}\r\nredis_mode:standalone\r\n", "host:6379")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
@pytest.mark.parametrize("limit", ["0", "1000"])
def test_a_policy_that_evicts_any_key_is_a_risk(policy: str, limit: str) -> None:
    (risk,) = risks(changed(SOUND, maxmemory=limit, maxmemory_policy=policy), "host:6379")
    assert risk == (
        f"Redis at host:6379 may evict messages when its memory is full: its maxmemory-policy is {policy}. "
        "Set maxmemory-policy to noeviction in its configuration."
    )


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_so_is_any_other_policy_but_noeviction(policy: str) -> None:
    (risk,) = risks(changed(SOUND, maxmemory_policy=policy), "host:6379")
    assert f"is set up as a cache: its maxmemory-policy is {policy}" in risk
    assert list(risks(changed(SOUND, maxmemory="1000"), "host:6379")) == []


def test_a_server_without_an_append_only_file_is_a_risk() -> None:
    (risk,) = risks(FORGETS, "host:6379")
    assert risk == (
        "Redis at host:6379 may lose messages when it restarts: it keeps no append-only file. "
        "Set appendonly to yes in its configuration."
    )


@pytest.mark.parametrize("info", ["", "# Memory", "redis_version:7.2.4", "aof_enabled", "maxmemory_policy:eviction"])
def test_what_is_not_told_is_no_risk(info: str) -> None:
    assert list(risks(info, "host:6379")) == []


# --- What becomes of it ---


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "redisq.server")
    return caplog


def warned(log: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno == logging.WARNING for record in log.records)


def test_a_sound_server_is_asked_once_and_nothing_is_logged(log: pytest.LogCaptureFixture) -> None:
    server = Server("host:6379")
    assert server.to_be_asked(True, lambda: 0)
    server.judge(SOUND, strict=True)
    assert not server.to_be_asked(True, lambda: 100)
    assert log.records == []


@pytest.mark.parametrize(("info", "count"), [(EVICTS, 1), (FORGETS, 1), (BOTH, 2)])
def test_each_risk_is_one_warning(log: pytest.LogCaptureFixture, info: str, count: int) -> None:
    server = Server("host:6379")
    assert server.to_be_asked(False, lambda: 0)
    for _ in range(3):
        server.judge(info, strict=False)
    assert warned(log) == len(log.records) == count
    assert not server.to_be_asked(False, lambda: 100)


@pytest.mark.parametrize("info", [EVICTS, FORGETS, BOTH])
def test_strict_refuses_until_the_server_is_mended(log: pytest.LogCaptureFixture, info: str) -> None:
    server = Server("host:6379")
    for now in range(3):
        assert server.to_be_asked(True, lambda: now)  # noqa: B023 - called at once
        with pytest.raises(Unavailable, match=r"Set .* in its configuration\. REDISQ_STRICT refuses such a server\."):
            server.judge(info, strict=True)
    server.judge(SOUND, strict=True)
    assert not server.to_be_asked(True, lambda: 100)
    assert log.records == []


def test_strict_refuses_what_others_were_only_warned_of() -> None:
    server = Server("host:6379")
    server.judge(FORGETS, strict=False)
    assert not server.to_be_asked(False, lambda: 0)
    assert server.to_be_asked(True, lambda: 0)


@pytest.mark.parametrize("strict", [False, True])
def test_a_server_that_does_not_tell_passes(log: pytest.LogCaptureFixture, strict: bool) -> None:
    server = Server("host:6379")
    server.judge(None, strict=strict)
    assert not server.to_be_asked(strict, lambda: 100)
    (record,) = log.records
    assert record.levelno == logging.DEBUG


@pytest.mark.parametrize("strict", [False, True])
def test_an_old_server_is_refused_each_time(strict: bool) -> None:
    server = Server("host:6379")
    for now in (0, 1, 2):
        assert server.to_be_asked(strict, lambda: now)  # noqa: B023 - called at once
        with pytest.raises(Unavailable, match=r"is of version 5\.0\.6"):
            server.judge(OLD, strict=strict)


def test_one_asks_and_the_others_go_on_but_no_strict_one() -> None:
    server = Server("host:6379")
    assert server.to_be_asked(False, lambda: 10.0)
    assert not server.to_be_asked(False, lambda: 10.9)
    assert server.to_be_asked(True, lambda: 10.9)
    assert server.to_be_asked(False, lambda: 12.0)  # who asked had no answer


def test_links_to_one_url_share_one_server() -> None:
    assert known("redis://one:1/0", "one:1") is known("redis://one:1/0", "one:1")
    assert known("redis://one:1/0", "one:1") is not known("redis://one:1/1", "one:1")
