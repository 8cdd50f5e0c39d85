"""`testing.queue`: while it is open all in this process is on a private server, and nothing is left of it after."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redisq import (
    AsyncRedisQ,
    Credentials,
    Delivery,
    InvalidArgument,
    InvalidQueueName,
    InvalidSettings,
    MessageConflict,
    RedisQ,
    RedisQError,
    Settings,
    Status,
    TestingError,
    Worker,
    settings,
    testing,
)
from redisq.testing import counterparts, queues, server
from tests.conftest import REAL

EARLY = RedisQ(settings=Settings(url="redis://127.0.0.1:1/0", namespace="early", retry_deadline=0))
EARLY_ASYNC = AsyncRedisQ(settings=EARLY.settings)
VIEW = EARLY.within(1)


def test_a_message_is_queued_and_found() -> None:
    with testing.queue() as mq:
        id = mq.queue_message("orders", {"price": 3})
        assert mq.get_message("orders", id).status is Status.PENDING
        assert mq.queue_message("orders", {"price": 3}, id=id) == id
        with pytest.raises(MessageConflict):
            mq.queue_message("orders", {"price": 4}, id=id)


def test_clients_made_before_or_inside_use_it_and_those_before_go_on_as_ever() -> None:
    with testing.queue() as mq:
        found = [
            EARLY.queue_message("orders", 1),
            asyncio.run(EARLY_ASYNC.queue_message("orders", 2)),
            RedisQ("redis://127.0.0.1:1/0").queue_message("orders", 3),
            VIEW.queue_message("orders", 4),
            asyncio.run(EARLY_ASYNC.within(1).queue_message("orders", 5)),
            RedisQ(credentials=Credentials.generate("shop")).queue_message("orders", 6),
        ]
        assert [message and message.request for message in mq.get_messages("orders", found)] == [1, 2, 3, 4, 5, 6]
    assert (EARLY.settings.namespace, EARLY.settings.auth) == ("early", "token")
    assert EARLY_ASYNC.settings is EARLY.settings
    with pytest.raises(RedisQError, match="REDISQ_APP_ID"):
        EARLY.queue_message("orders", 5)
    assert settings.instead is None


def test_all_that_clients_consist_of_has_counterparts() -> None:
    assert {kind: (*vars(kind(settings=EARLY.settings)),) for kind in (RedisQ, AsyncRedisQ)} == counterparts._PARTS


def test_it_reads_no_setting_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISQ_URL", "no url")
    monkeypatch.setenv("REDISQ_MAX_ATTEMPTS", "many")
    with testing.queue() as mq:
        assert (mq.settings.max_attempts, mq.settings.auth) == (5, "none")
        with pytest.raises(InvalidSettings):
            RedisQ(settings="no settings")  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings):
        RedisQ()


def test_settings_that_are_given_count_but_for_where_and_who() -> None:
    given = Settings(max_attempts=2, namespace="shop", app_id="shop", app_secret=Credentials.generate("shop").secret())
    with testing.queue() as mq, RedisQ(settings=given) as other:
        assert (other.settings.max_attempts, other.settings.app_id) == (2, None)
        assert other.get_message("orders", mq.queue_message("orders", 1)).request == 1


def test_each_begins_empty_and_in_the_present() -> None:
    with testing.queue() as mq:
        mq.queue_message("orders", 1)
        testing.clock.advance(1_000_000)
        later = testing.clock.now
    with testing.queue() as mq:
        assert mq.queues() == []
        assert testing.clock.now < later


def test_time_stands_still_and_goes_on_when_told_to() -> None:
    with testing.queue() as mq:
        began = testing.clock.now
        assert began.tzinfo is UTC
        assert abs(began - datetime.now(UTC)) < timedelta(minutes=5)
        testing.clock.advance(3600)
        id = mq.queue_message("orders", 1, delay=60)
        assert testing.clock.now == began + timedelta(hours=1)
        message = mq.get_message("orders", id)
        assert message.queued_at == testing.clock.now
        assert message.available_at == testing.clock.now + timedelta(minutes=1)


def test_keys_expire_by_this_clock() -> None:
    with testing.queue():
        link = queues.current().link
        link.command("SET", "key", "value", "PX", 60_000)
        testing.clock.advance(59)
        assert link.command("GET", "key") == b"value"
        testing.clock.advance(2)
        assert link.command("GET", "key") is None


@pytest.mark.parametrize("seconds", [0, -1, "3", True, None, float("nan"), 1e9])
def test_it_advances_by_seconds_alone(seconds: Any) -> None:
    with testing.queue():
        began = testing.clock.now
        with pytest.raises(InvalidArgument, match=r"advance\(\) takes seconds"):
            testing.clock.advance(seconds)
        assert testing.clock.now == began


def test_outside_of_a_queue_there_is_nothing_to_use() -> None:
    for use in (lambda: testing.clock.advance(1), lambda: testing.clock.now, lambda: testing.abandon("orders")):
        with pytest.raises(TestingError, match=r"with testing\.queue\(\)"):
            use()


def test_they_cannot_be_nested() -> None:
    with testing.queue() as mq:
        id = mq.queue_message("orders", 1)
        with pytest.raises(TestingError, match="open already"), testing.queue():
            pass
        assert mq.get_message("orders", id).request == 1
    with testing.queue():
        pass


def test_real_is_true_or_false() -> None:
    with pytest.raises(InvalidArgument, match="real"):
        testing.queue(real="yes")  # type: ignore[arg-type]


def test_it_works_in_any_thread() -> None:
    worker, done = Worker(), list[int]()

    @worker.handler("orders")
    def handle(delivery: Delivery) -> None:
        done.append(delivery.request)

    def inside() -> None:
        with testing.queue() as mq:
            mq.queue_message("orders", 1, delay=5)
            testing.run_until_idle(worker)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert done == [1]


def test_it_is_closed_by_an_error_too() -> None:
    with pytest.raises(ValueError, match="mine"), testing.queue():
        raise ValueError("mine")
    with pytest.raises(TestingError):
        queues.current()


def test_with_asyncio_it_gives_an_async_client() -> None:
    async def inside() -> None:
        async with testing.queue() as mq:
            id = await mq.queue_message("orders", 1)
            assert (await EARLY_ASYNC.get_message("orders", id)).request == 1
            assert EARLY.get_message("orders", id).request == 1

    asyncio.run(inside())


def test_one_whose_closing_is_cancelled_is_closed_all_the_same() -> None:
    async def inside() -> None:
        async with testing.queue() as mq:
            await mq.queue_message("orders", 1)
            asyncio.current_task().cancel()  # type: ignore[union-attr]

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(inside())
    with testing.queue() as mq:
        assert mq.queues() == []


def test_what_is_abandoned_is_in_progress_until_its_lease_lapses() -> None:
    with testing.queue() as mq:
        ids = mq.queue_messages("orders", [1, 2, 3])
        assert testing.abandon("orders", 2) == ids[:2]
        assert mq.get_message("orders", ids[0]).status is Status.INPROGRESS
        assert testing.abandon("orders", 5) == ids[2:]
        with pytest.raises(InvalidArgument):
            testing.abandon("orders", 0)
        with pytest.raises(InvalidQueueName):
            testing.abandon("no queue")


@pytest.mark.skipif(REAL is None, reason="no real Redis here")
def test_on_a_real_server_time_is_its_own() -> None:
    with testing.queue(real=True) as mq:
        assert mq.get_message("orders", mq.queue_message("orders", 1)).request == 1
        for use in (lambda: testing.clock.advance(1), lambda: testing.clock.now):
            with pytest.raises(TestingError, match="real server"):
                use()
    with testing.queue(real=True) as mq:
        assert mq.queues() == []


def test_without_fakeredis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_servers", {})
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(ImportError, match=r"pip install 'fakeredis\[lua\]"), testing.queue():
        pass
    assert settings.instead is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_opens_one_of_its_own() -> None:
    with testing.queue() as mq:
        mq.queue_message("orders", 1)
    child = os.fork()
    if child == 0:
        try:
            with testing.queue() as mq:
                os._exit(0 if mq.get_message("orders", mq.queue_message("orders", 2)).request == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_workers_keep_their_settings() -> None:
    with testing.queue():
        assert Settings.merged(Settings(grace=3), None).grace == 3
        assert Worker().queues == []
