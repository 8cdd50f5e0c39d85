"""Redis forgets scripts, connections, single keys and everything, while messages come in and are worked on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from redisq import Delivery, Message, MessageNotFound, RedisQ, Status, Worker
from redisq.store.keys import PartitionKeys
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, look_up, messages
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, working

#: all keys of a queue
NAMES = [name for name in PartitionKeys.__dataclass_fields__ if name not in ("queue", "partition")]


class Load:
    """A client that queues batches, one after another, and two workers that count what they handle."""

    def __init__(self, raw: Raw, size: int = 100) -> None:
        self.raw = raw
        self.size = size
        self.ids: list[str] = []
        self.handled: Counter[str] = Counter()
        self.errors: list[Exception] = []
        self.workers = [Worker(settings=raw.settings) for _ in range(2)]
        for worker in self.workers:
            worker.handler(QUEUE, concurrency=50)(self._handle)

    async def _handle(self, delivery: Delivery) -> int:
        self.handled[delivery.id] += 1
        return delivery.attempt

    def queue(self, ended: threading.Event) -> None:
        """Queue until told to end."""
        with RedisQ(settings=self.raw.settings) as client:
            while not ended.wait(0.005):
                try:
                    self.ids += client.queue_messages(QUEUE, range(self.size))
                except Exception as error:
                    self.errors.append(error)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Queue and work; in the end, work until all is done."""
        ended = threading.Event()
        thread = threading.Thread(target=self.queue, args=(ended,))
        with working(*self.workers), RedisQ(settings=self.raw.settings) as client:
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
            until(lambda: not (stats := client.stats(QUEUE)).ready + stats.in_progress + stats.scheduled, PATIENCE)


@pytest.mark.full
@pytest.mark.parametrize("fault", ["SCRIPT FLUSH", "CLIENT KILL TYPE normal"])
def test_what_redis_forgets_every_moment_is_not_noticed(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
    fault: str,
) -> None:
    """Every 10 ms at full count for 30 s. No caller sees an error, and nothing happens twice."""
    times, server = scaled(3_000, 150), own_server()
    raw = below(server, retry_deadline=PATIENCE)
    load, pause = Load(raw, 10), threading.Event()
    with load.running():
        for _ in range(times):
            server.admin.execute_command(*fault.split())
            pause.wait(0.01)
    assert load.errors == []
    assert load.handled == dict.fromkeys(load.ids, 1)
    assert {message.status for message in messages(raw, load.ids)} == {Status.COMPLETE}
    with RedisQ(settings=raw.settings) as client:
        stats = client.stats(QUEUE)
    assert (stats.queued, stats.completed, stats.lost, stats.failed) == (len(load.ids), len(load.ids), 0, 0)
    figure(f"{times:,} times {fault} under {len(load.ids):,} messages: 0 errors, 0 repeated")


def test_after_everything_was_deleted_the_next_messages_are_worked_on(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], figure: Callable[[str], None]
) -> None:
    """While workers wait for messages, and while they hold some; afterwards they are as quiet as before."""
    server = own_server()
    raw = below(server)
    free, held = threading.Event(), list[str]()
    workers = [Worker(settings=raw.settings) for _ in range(2)]
    for worker in workers:

        @worker.handler(QUEUE, concurrency=10)
        def handle(delivery: Delivery) -> str:
            held.append(delivery.id)
            if delivery.request == "hold":
                free.wait(PATIENCE)
            return "done"

    with working(*workers), RedisQ(settings=raw.settings) as client:
        assert client.get_message(QUEUE, client.queue_message(QUEUE, 1), wait=PATIENCE).finished
        until(lambda: blocked(server) == 2)
        server.admin.flushall()
        assert client.get_message(QUEUE, client.queue_message(QUEUE, 2), wait=PATIENCE).finished

        ids = client.queue_messages(QUEUE, ["hold"] * 10)
        until(lambda: set(ids) <= set(held))
        server.admin.flushall()
        free.set()
        assert client.get_message(QUEUE, client.queue_message(QUEUE, 3), wait=PATIENCE).finished
        assert all(isinstance(message, MessageNotFound) for message in look_up(raw, ids))

        until(lambda: blocked(server) == 2)
        before = server.commands()
        threading.Event().wait(1)
        idle = server.commands() - before
        assert idle < 50  # a loop without a pause would send thousands
    figure(f"after FLUSHALL: {idle} commands in a second of idleness of 2 workers")


def blocked(server: OwnServer) -> int:
    """How many workers wait for the bell."""
    return int(server.admin.info("clients")["blocked_clients"])


@pytest.mark.full(keep=4)
@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_is_deleted_takes_only_its_own_along(
    one_own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
    name: str,
) -> None:
    """The workers go on, and all that is queued later is worked on."""
    times, raw = scaled(20, 2), below(one_own_server(), lease=1)
    load = Load(raw)
    with working(*load.workers), RedisQ(settings=raw.settings) as client:
        for _ in range(times):
            load.ids += client.queue_messages(QUEUE, range(500))
            until(lambda: load.handled, PATIENCE)
            raw.redis.delete(getattr(raw.keys, name))
            later = client.queue_messages(QUEUE, range(100))
            for id in later:
                assert client.get_message(QUEUE, id, wait=PATIENCE).status is Status.COMPLETE
            load.handled.clear()
    outcomes = Counter(map(outcome, look_up(raw, load.ids)))
    assert set(outcomes) <= {"COMPLETE", "PENDING", "INPROGRESS", "unreadable", "MessageNotFound"}
    if name in ("messages", "scheduled", "workers", "bell", "counters", "config", "tombstones", "dead"):
        assert not outcomes.keys() & {"PENDING", "INPROGRESS"}  # nothing waits for ever
    figure(f"DEL {name}, {times:,} times under load: of {len(load.ids):,} messages {dict(outcomes)}")


def outcome(message: Message | Exception) -> str:
    """What became of a message, in a word."""
    if isinstance(message, Message):
        return (message.error or {}).get("reason", str(message.status))
    return type(message).__name__


def test_a_server_that_changes_its_role_wakes_its_workers_again(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], scaled: Callable[[int, int], int]
) -> None:
    """Fifty workers wait for messages when it becomes a replica, and is made a primary again."""
    count, server = scaled(50, 5), own_server()
    raw = below(server)
    load = Load(raw)
    load.workers = [Worker(settings=raw.settings) for _ in range(count)]
    for worker in load.workers:
        worker.handler(QUEUE, concurrency=1)(load._handle)
    with working(*load.workers), RedisQ(settings=raw.settings) as client:
        until(lambda: blocked(server) == count, PATIENCE)
        server.admin.replicaof("127.0.0.1", "1")
        until(lambda: blocked(server) == 0, PATIENCE)
        server.admin.replicaof("NO", "ONE")
        ids = client.queue_messages(QUEUE, range(10 * count))
        until(lambda: client.stats(QUEUE).completed == len(ids), PATIENCE)
        until(lambda: blocked(server) == count, PATIENCE)
    assert load.handled == dict.fromkeys(ids, 1)
