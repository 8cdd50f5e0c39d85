"""Redis is slow: its clients and workers take no more than they can send, and then everything gets through once.

What is counted is what was taken while nothing is answered. No time is.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redisq import AsyncRedisQ, Delivery, RedisQ, Settings, Status, Worker
from redisq.store.call import BATCH
from redisq.store.keys import id_text, new_id
from redisq.store.messages import LOOKED_UP
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages
from tests.support.queues.invariants import broken
from tests.support.servers.proxy import until
from tests.support.servers.slow_proxy import Dam
from tests.support.workers.spawned import PATIENCE, working

CHUNK, MEGABYTE = 250, 1024 * 1024  # the most of a batch that goes in one call: messages, and bytes of bodies
A_WHILE = 0.2  # seconds in which whoever takes too much would take it


@pytest.fixture
def slow(dam: Dam, below: Callable[..., Raw]) -> Settings:
    """Settings of who reaches Redis through the dam, and waits for it."""
    return below(dam, command_timeout=PATIENCE, retry_deadline=PATIENCE).settings


def settled(count: Callable[[], int], expected: int) -> None:
    """Wait until so much was counted, and see that it stays at that."""
    until(lambda: count() >= expected)
    time.sleep(A_WHILE)
    assert count() == expected


# --- Callers at once --------------------------------------------------------------------------------------------------


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("size", [10, 9_000], ids=["many", "large"])
def test_thousands_of_callers_have_two_calls_under_way(
    dam: Dam, slow: Settings, tasks: Raw, scaled: Callable[[int, int], int], size: int
) -> None:
    """One at first, to register the queue. Each call takes as many messages and bytes as one may, not more."""
    count = scaled(50_000, 2_000)
    register, go_on = dam.hold("register"), dam.hold("queue")

    async def work() -> list[str]:
        async with AsyncRedisQ(settings=slow) as mq:
            return await asyncio.gather(*(mq.queue_message(QUEUE, {"n": n, "text": "x" * size}) for n in range(count)))

    ids: list[str] = []
    callers = threading.Thread(target=lambda: ids.extend(asyncio.run(work())))
    callers.start()
    settled(lambda: dam.held("register"), 1)
    register()
    settled(lambda: dam.held("queue"), 2)
    assert len(dam.sizes("register")) == 1
    assert dam.open == dam.peak == 2
    under_way = dam.sizes("queue")
    go_on()
    callers.join(PATIENCE)
    assert len(set(ids)) == len(ids) == count
    sizes = dam.sizes("queue")
    assert sizes[:2] == under_way
    assert under_way[0] == 1
    most = min(BATCH, MEGABYTE // size)
    assert 0.9 * most <= max(sizes) <= most
    assert sum(sizes) == count
    assert dam.peak == 2
    with RedisQ(settings=tasks.settings) as client:
        assert client.stats(QUEUE).queued == client.stats(QUEUE).ready == count
        assert client.doctor(QUEUE) == []
    assert [message.request["n"] for message in messages(tasks, ids)] == list(range(count))


# --- Batches ----------------------------------------------------------------------------------------------------------


class Endless:
    """Items without end, until it is told that there were enough; counts how many were drawn."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.drawn = 0
        self.enough = threading.Event()
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        for number in itertools.count():
            if self.enough.is_set():
                return
            self.drawn += 1
            yield self._make(number)


def drain(dam: Dam, script: str, call: Callable[[Endless], Any], items: Endless, at_once: int) -> Any:
    """Call with endless items; see that `at_once` are drawn while nothing is answered, and more when something is."""
    let_go, answers = dam.hold(script), []
    caller = threading.Thread(target=lambda: answers.append(call(items)))
    caller.start()
    try:
        until(lambda: dam.held(script))
        settled(lambda: items.drawn, at_once)
        assert dam.held(script) == 1
        let_go()
        until(lambda: items.drawn > 4 * at_once)
    finally:
        items.enough.set()
        caller.join(PATIENCE)
    return answers[0]


@pytest.mark.parametrize("size", [10, 100_000], ids=["many", "large"])
def test_of_endless_messages_two_calls_worth_are_drawn(
    dam: Dam, make_client: Any, slow: Settings, tasks: Raw, size: int
) -> None:
    """One call is under way, the next is made, and the first message that does not fit is drawn, too."""
    mq, items = make_client(slow), Endless(lambda n: {"n": n, "text": "x" * size})
    each = min(CHUNK, MEGABYTE // size)
    ids = drain(dam, "queue", lambda items: mq.queue_messages(QUEUE, items), items, 2 * each + 1)
    assert len(set(ids)) == len(ids) == items.drawn
    assert set(dam.sizes("queue")[:-1]) == {each}
    assert [message.request["n"] for message in messages(tasks, ids)] == list(range(len(ids)))
    with RedisQ(settings=tasks.settings) as client:
        assert client.stats(QUEUE).queued == client.stats(QUEUE).ready == len(ids)


def test_of_endless_ids_one_calls_worth_is_drawn(dam: Dam, make_client: Any, slow: Settings, tasks: Raw) -> None:
    with RedisQ(settings=tasks.settings) as client:
        ids = client.queue_messages(QUEUE, range(4 * BATCH))
    mq, nobody = make_client(slow), id_text(new_id())

    def id_of(number: int) -> str:
        return ids[number] if number < len(ids) else nobody

    items = Endless(id_of)
    found = drain(dam, "get", lambda items: mq.get_messages(QUEUE, items), items, LOOKED_UP)
    assert len(found) == items.drawn
    requests = [message and message.request for message in found]
    assert requests == [n if n < len(ids) else None for n in range(items.drawn)]
    items = Endless(id_of)
    deleted = drain(dam, "delete", lambda items: mq.delete_messages(QUEUE, items), items, BATCH)
    assert deleted == [n < len(ids) for n in range(items.drawn)]
    with RedisQ(settings=tasks.settings) as client:
        assert (client.stats(QUEUE).deleted, client.stats(QUEUE).ready) == (len(ids), 0)
    assert broken(tasks) == []


# --- Workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plain", "slots"), [(False, 50), (True, 8)], ids=["async", "plain"])
def test_a_worker_whose_outcomes_cannot_be_sent_holds_twice_its_slots(
    dam: Dam, slow: Settings, tasks: Raw, plain: bool, slots: int
) -> None:
    """Every third fails, and is tried again: the first call of each kind is held back, and nothing else is sent."""
    count, begun = 20 * slots, Counter[str]()
    worker = Worker(settings=slow.model_copy(update={"backoff_base": 0.0}))

    def handle(delivery: Delivery) -> int:
        begun[delivery.id] += 1
        if delivery.request % 3 == 0 and delivery.attempt == 1:
            raise ValueError
        return delivery.attempt

    async def handle_async(delivery: Delivery) -> int:
        return handle(delivery)

    worker.handler(QUEUE, concurrency=slots)(handle if plain else handle_async)
    with RedisQ(settings=tasks.settings) as client:
        ids = client.queue_messages(QUEUE, range(count))
        completions, failures = dam.hold("complete"), dam.hold("fail")
        with working(worker):
            settled(begun.total, 2 * slots)
            stats = client.stats(QUEUE)
            assert (stats.in_progress, stats.ready, stats.completed) == (2 * slots, count - 2 * slots, 0)
            assert dam.held("complete") + dam.held("fail") == 1
            completions()
            until(lambda: dam.held("fail"))
            settled(lambda: client.stats(QUEUE).in_progress, 2 * slots)
            failures()
            until(lambda: client.stats(QUEUE).completed == count, PATIENCE)
        stats = client.stats(QUEUE)
        assert client.doctor(QUEUE) == []
    ended = messages(tasks, ids)
    assert {(message.status, message.result) for message in ended[::3]} == {(Status.COMPLETE, 2)}
    assert {message.attempts for message in ended} == {1, 2}
    assert begun == {message.id: message.attempts for message in ended}
    assert (stats.failed, stats.lost, stats.released) == (len(ended[::3]), 0, 0)
    assert max(dam.sizes("complete") + dam.sizes("fail")) <= 2 * slots
