"""A claim that waits at the server behind the bell: whatever becomes of its answer, its message is worked on once.

The answer to BLPOP and the claim's come in one write, so a proxy that holds one back holds both.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from redisq import Delivery, RedisQ, Status, Worker
from tests.conftest import Raw, settings_for
from tests.support.servers.proxy import Proxy, script, until

BELL = b"BLPOP"


class Crew:
    """Workers, each on a loop of its own in a thread, and what each has handled."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.handled: list[tuple[str, str, int]] = []

    @contextmanager
    def working(self, name: str, url: str, **settings: Any) -> Iterator[Worker]:
        """Have a worker at work, which listens for the bell; at the end it is stopped, and ends well."""
        worker = Worker(settings=settings_for(url, self.raw.settings.namespace, **settings))

        @worker.handler("orders")
        async def handle(delivery: Delivery) -> None:
            self.handled.append((name, delivery.id, delivery.attempt))

        codes: list[int] = []
        before = self.listening()
        thread = threading.Thread(target=lambda: codes.append(asyncio.run(worker.run_async())))
        thread.start()
        until(lambda: self.listening() > before)
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(60)
        assert codes == [0]

    def listening(self) -> int:
        """How many connections wait for a bell."""
        return int(self.raw.redis.info("clients")["blocked_clients"])


@pytest.fixture
def crew(raw_real: Raw) -> Crew:
    return Crew(raw_real)


@pytest.fixture
def far(raw_real: Raw) -> Iterator[Proxy]:
    """A way to the server that can be disturbed."""
    proxy = Proxy(raw_real.server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def mq(raw_real: Raw) -> Iterator[RedisQ]:
    with RedisQ(settings=raw_real.settings) as client:
        client.queue_message("orders", "first")  # so that the queue is known
        client.delete_message("orders", client.queue_message("orders", "second"))
        client.purge("orders")
        yield client


def ended(mq: RedisQ, count: int) -> bool:
    return mq.stats("orders").completed == count


def test_who_vanishes_keeps_one_message_for_a_moment_and_holds_up_no_other(crew: Crew, far: Proxy, mq: RedisQ) -> None:
    far.swallow_reply(BELL)  # served, and heard by nobody
    with crew.working("gone", far.url), crew.working("here", crew.raw.server.url):
        first, *others = (mq.queue_message("orders", n) for n in range(3))
        until(lambda: ended(mq, 2))
        assert {mq.get_message("orders", id).status for id in others} == {Status.COMPLETE}
        assert mq.get_message("orders", first).status == Status.INPROGRESS
        until(lambda: ended(mq, 3))
    message = mq.get_message("orders", first)
    assert [id for _, id, _ in crew.handled].count(first) == 1
    assert message.attempts <= 2
    assert mq.stats("orders").dead == 0
    assert mq.doctor("orders") == []


@pytest.mark.parametrize("disturb", ["cut_reply", "swallow_reply"])
def test_an_answer_that_is_lost_is_asked_for_again(crew: Crew, far: Proxy, mq: RedisQ, disturb: str) -> None:
    getattr(far, disturb)(BELL)
    with crew.working("one", far.url):
        ids = [mq.queue_message("orders", n) for n in range(3)]
        until(lambda: ended(mq, 3), 60)
    assert sorted(id for _, id, _ in crew.handled) == sorted(ids)


def test_a_worker_that_stops_hands_back_what_was_on_its_way(crew: Crew, far: Proxy, mq: RedisQ) -> None:
    held = far.hold_reply(BELL)
    with crew.working("one", far.url):
        id = mq.queue_message("orders", "hello")
        until(lambda: mq.stats("orders").in_progress == 1)
    message = mq.get_message("orders", id)
    assert (message.status, message.attempts) == (Status.PENDING, 1)
    assert [one.event for one in message.history] == ["released"]
    assert mq.stats("orders").lost == 0
    held.let_go()
    with crew.working("two", crew.raw.server.url):
        until(lambda: ended(mq, 1))


def test_a_worker_that_stops_claims_nothing_new(crew: Crew, mq: RedisQ) -> None:
    """Whether its waiting claim was made is not known: it asks for what that gave, and for nothing else."""
    mq.define("orders", paused=True)
    with crew.working("one", crew.raw.server.url):
        ids = mq.queue_messages("orders", range(3))
        crew.raw.redis.hdel(crew.raw.keys.config, "paused")  # and nobody is woken, as by `define`
    assert crew.handled == []
    for id in ids:
        message = mq.get_message("orders", id)
        assert (message.status, message.attempts, message.history) == (Status.PENDING, 0, ())


def test_without_the_script_it_claims_as_before(crew: Crew, mq: RedisQ) -> None:
    with crew.working("one", crew.raw.server.url):
        crew.raw.redis.script_flush()
        id = mq.queue_message("orders", "hello")
        until(lambda: ended(mq, 1))
    assert crew.handled == [("one", id, 1)]


@pytest.mark.parametrize("own", [True, False])
def test_where_one_lapse_is_death_no_claim_waits(crew: Crew, far: Proxy, mq: RedisQ, own: bool) -> None:
    if own:
        mq.define("orders", max_lost=1)
    far.swallow_reply(BELL)
    settings = {} if own else {"max_lost": 1}
    here = crew.raw.server.url
    with crew.working("gone", far.url, **settings), crew.working("here", here, **settings):
        ids = [mq.queue_message("orders", n) for n in range(3)]
        until(lambda: ended(mq, 3), 60)
    assert sorted(id for _, id, _ in crew.handled) == sorted(ids)
    assert {mq.get_message("orders", id).attempts for id in ids} == {1}


def test_a_lease_of_the_queues_own_is_short_at_first_too(crew: Crew, far: Proxy, mq: RedisQ) -> None:
    mq.define("orders", lease=600)
    far.swallow_reply(BELL)
    with crew.working("gone", far.url), crew.working("here", crew.raw.server.url):
        id = mq.queue_message("orders", "hello")
        until(lambda: ended(mq, 1), 60)
    assert [one for _, one, _ in crew.handled] == [id]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_handler_that_takes_long_keeps_its_message(crew: Crew, far: Proxy, mq: RedisQ, lost: int) -> None:
    """The heartbeat makes the first lease the queue's own, also when its first renewal is answered to nobody."""
    worker = Worker(settings=settings_for(far.url, crew.raw.settings.namespace))
    far.swallow_reply(script("renew"), times=lost)
    begun = threading.Event()

    @worker.handler("orders")
    async def handle(delivery: Delivery) -> int:
        begun.set()
        await asyncio.sleep(7)
        return delivery.attempt

    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(asyncio.run(worker.run_async())))
    thread.start()
    until(lambda: crew.listening() == 1)
    with crew.working("other", crew.raw.server.url):
        id = mq.queue_message("orders", "hello")
        assert begun.wait(20)
        message = mq.get_message("orders", id, wait=30)
    worker.stop()
    thread.join(30)
    assert (message.status, message.result, codes) == (Status.COMPLETE, 1, [0])
