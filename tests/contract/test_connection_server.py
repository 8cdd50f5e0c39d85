"""A process looks once at each server it talks to, and warns when it is not fit for messages; `strict` refuses it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from redisq import RedisQ, Settings, Unavailable, Worker
from redisq.link import server as module
from tests.contract.test_connection import run_program
from tests.support.servers.proxy import Proxy, until

QUEUE = "orders"
Start = Callable[..., Any]
EVICTS = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
FORGETS = {"appendonly": "no"}
INFO = b"$4\r\nINFO\r\n"


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged of servers, none of which this process has seen before."""
    monkeypatch.setattr(module, "_known", {})
    caplog.set_level(logging.DEBUG, "redisq.server")
    return caplog


def texts(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if (record.name, record.levelno) == ("redisq.server", level)]


@pytest.mark.full(keep=6)
@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        (EVICTS, ["may evict messages when its memory is full: its maxmemory-policy is allkeys-lru"]),
        (FORGETS, ["may lose messages when it restarts: it keeps no append-only file"]),
        (EVICTS | FORGETS, ["may evict messages", "may lose messages"]),
        ({"maxmemory-policy": "allkeys-lru"}, ["may evict messages"]),
        ({"maxmemory-policy": "volatile-lru"}, ["is set up as a cache: its maxmemory-policy is volatile-lru"]),
        ({"maxmemory": "100mb"}, []),
        ({}, []),
    ],
    ids=str,
)
def test_each_risk_is_warned_of_once_and_refused_by_strict(
    make_client: Any, start_another: Start, log: Any, options: dict[str, str], warnings: list[str]
) -> None:
    settings = Settings(url=start_another(options=options).url, auth="none")
    strict = make_client(settings.model_copy(update={"strict": True}))
    if warnings:
        with pytest.raises(Unavailable, match=f"{'.*'.join(warnings)}.*REDISQ_STRICT refuses") as caught:
            strict.queue_message(QUEUE, 1)
        assert type(caught.value) is Unavailable
    else:
        strict.queue_message(QUEUE, 1)
    assert texts(log, logging.WARNING) == []
    for _ in range(2):
        mq = make_client(settings)
        mq.queue_message(QUEUE, 1)
        mq.sweep(QUEUE)
    assert mq.stats(QUEUE).queued == (2 if warnings else 3)  # nothing reached the server before it was refused
    said = texts(log, logging.WARNING)
    assert len(said) == len(warnings)
    assert all(text in found for text, found in zip(warnings, said, strict=True))


def test_strict_takes_a_server_that_was_mended(make_client: Any, start_another: Start) -> None:
    server = start_another(options=FORGETS)
    mq = make_client(Settings(url=server.url, auth="none", strict=True))
    with pytest.raises(Unavailable, match="Set appendonly to yes"):
        mq.queue_message(QUEUE, 1)
    with redis.Redis.from_url(server.url, protocol=2) as below:
        below.config_set("appendonly", "yes")
    mq.queue_message(QUEUE, 1)


def test_info_is_asked_for_once(make_client: Any, raw_real: Any, proxy: Proxy) -> None:
    settings = raw_real.settings.model_copy(update={"url": proxy.url, "strict": True})
    for _ in range(2):
        mq = make_client(settings)
        for _ in range(3):
            mq.queue_message(QUEUE, 1)
    assert proxy.count(INFO) == 1


def test_the_first_calls_at_once_ask_once(raw_real: Any, proxy: Proxy) -> None:
    proxy.delay = lambda: 0.01
    settings = raw_real.settings.model_copy(update={"url": proxy.url})
    with RedisQ(settings=settings) as mq, ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: mq.queue_message(QUEUE, n), range(40)))
    assert proxy.count(INFO) == 1


def test_a_server_that_is_away_at_first_is_looked_at_when_it_is_there(
    make_client: Any, start_another: Start, log: Any, tmp_path: Any
) -> None:
    server = start_another(options=FORGETS)
    for strict in (False, True):
        with Proxy(f"unix://{tmp_path}/nobody.sock") as proxy:
            mq = make_client(Settings(url=proxy.url, auth="none", retry_deadline=60, strict=strict))

            def come(proxy: Proxy = proxy) -> None:
                until(lambda: proxy.accepted >= 3)
                proxy.target = server.url

            coming = threading.Thread(target=come)
            coming.start()
            if strict:
                with pytest.raises(Unavailable, match="REDISQ_STRICT"):
                    mq.queue_message(QUEUE, 1)
            else:
                mq.queue_message(QUEUE, 1)
                until(lambda mq=mq: mq.stats(QUEUE) and texts(log, logging.WARNING))  # asked before a later call
            coming.join()
    assert len(texts(log, logging.WARNING)) == 1


@pytest.mark.parametrize("strict", [False, True])
def test_who_may_not_ask_passes(make_client: Any, start_another: Start, log: Any, strict: bool) -> None:
    server = start_another(tcp=True, options=FORGETS)
    with redis.Redis.from_url(server.url, protocol=2) as below:
        below.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-info")
    mq = make_client(Settings(url=f"redis://app:pw@{server.url.rpartition('@')[2]}", auth="none", strict=strict))
    mq.queue_message(QUEUE, 1)
    assert texts(log, logging.WARNING) == []
    (text,) = texts(log, logging.DEBUG)
    assert "does not tell its configuration" in text


@pytest.mark.parametrize("protocol", [2, 3])
def test_strict_takes_every_server_of_these_tests(make_client: Any, raw: Any, log: Any, protocol: int) -> None:
    """fakeredis does not know INFO; the others are fit."""
    settings = raw.settings.model_copy(update={"url": f"{raw.server.url}?protocol={protocol}", "strict": True})
    make_client(settings).queue_message(QUEUE, 1)
    assert texts(log, logging.WARNING) == []
    assert len(texts(log, logging.DEBUG)) == (raw.server.kind == "fakeredis")


EMBEDDED = """
import sys
from redisq import RedisQ, Settings
for strict in (False, True):
    with RedisQ(settings=Settings(url=sys.argv[1], auth="none", strict=strict)) as mq:
        mq.queue_message("orders", 1)
"""


@pytest.mark.parametrize("where", ["", "/data"], ids=["transient", "kept"])
def test_an_embedded_server_is_fit(tmp_path: Any, where: str) -> None:
    """Without any logging configured, a warning would be on stderr."""
    run_program(EMBEDDED, f"embedded://{tmp_path}{where}" if where else "embedded://")


# --- Workers ---


def worker(settings: Settings) -> Worker:
    made = Worker(settings=settings)

    @made.handler(QUEUE)
    async def handle(delivery: Any) -> str:
        return "done"

    return made


def test_a_strict_worker_does_not_start_on_a_server_at_risk(start_another: Start) -> None:
    settings = Settings(url=start_another(options=FORGETS).url, auth="none", strict=True)
    with pytest.raises(Unavailable, match=r"Set appendonly to yes in its configuration\. REDISQ_STRICT refuses"):
        asyncio.run(worker(settings).run_async(burst=True))


def test_a_worker_warns_once_and_works(start_another: Start, log: Any) -> None:
    with Proxy(start_another(options=FORGETS).url) as proxy:
        settings = Settings(url=proxy.url, auth="none")
        with RedisQ(settings=settings) as mq:
            id = mq.queue_message(QUEUE, 1)
            assert asyncio.run(worker(settings).run_async(burst=True)) == 0
            assert mq.get_message(QUEUE, id).result == "done"
        assert proxy.count(INFO) == 1
    (text,) = texts(log, logging.WARNING)
    assert "Set appendonly to yes" in text
