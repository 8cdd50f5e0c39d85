"""Redis is killed, and its append-only file cut short or rewritten: what it had accepted is there, and all agrees."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from redisq import Delivery, Message, RedisQ, Status, Unavailable, Worker, store
from redisq.body import codec
from redisq.model.delivery import Failure
from redisq.operations.caller import limits_of
from redisq.store.call import Call, new_nonce
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, look_up, messages, spread
from tests.support.queues.invariants import broken
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, working

CALLERS = 4


class Load:
    """Threads that queue one message after another, and a worker that ends each at once."""

    def __init__(self, raw: Raw) -> None:
        self.client = RedisQ(settings=raw.settings)
        self.accepted: list[str] = []
        self.took: list[float] = []
        self.handled: Counter[str] = Counter()
        self.worker = Worker(settings=raw.settings)
        self.worker.handler(QUEUE, concurrency=50)(self._handle)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._queue) for _ in range(CALLERS)]

    async def _handle(self, delivery: Delivery) -> int:
        self.handled[delivery.id] += 1
        return delivery.attempt

    def _queue(self) -> None:
        while not self._ended.wait(0.001):
            began = time.monotonic()
            self.accepted.append(self.client.queue_message(QUEUE, len(self.accepted)))
            self.took.append(time.monotonic() - began)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        until(lambda: self.client.stats(QUEUE).completed >= len(self.accepted), PATIENCE)
        self.client.close()


def test_a_redis_that_is_killed_again_and_again_loses_nothing(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    kills, server = scaled(200, 6), own_server(appendonly="yes", appendfsync="always")
    raw = below(server, retry_deadline=PATIENCE)
    load = Load(raw)
    with working(load.worker), load:
        for _ in range(kills):
            seen, done = len(load.accepted), len(load.handled)
            until(lambda: len(load.accepted) > seen + 20 and len(load.handled) > done, PATIENCE)  # noqa: B023
            server.kill()
            server.start()
    assert broken(raw) == []
    ended = messages(raw, load.accepted)
    assert {(message.status, message.attempts) for message in ended} == {(Status.COMPLETE, 1)}
    assert load.handled == dict.fromkeys(load.accepted, 1)
    figure(
        f"Redis killed {kills:,} times, appendfsync always: {len(ended):,} accepted, 0 lost, 0 repeated "
        f"(its file ended in the middle of a script {server.mended} times)"
    )


def test_what_a_killed_redis_had_not_written_yet_is_the_last_it_accepted(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """With `appendfsync everysec` some may be lost; how many is shown. One client queues one after another."""
    kills, lost, accepted = scaled(20, 2), 0, 0
    server = own_server(appendonly="yes", appendfsync="everysec")
    raw = below(server, retry_deadline=0)
    for _ in range(kills):
        ids: list[str] = []
        thread = threading.Thread(target=queue_until_lost, args=(raw, ids))
        thread.start()
        until(lambda: len(ids) > 200, PATIENCE)  # noqa: B023
        server.kill()
        thread.join()
        server.start()
        there = [isinstance(message, Message) for message in look_up(below(server), ids)]
        assert there == sorted(there, reverse=True)
        assert broken(raw) == []
        lost, accepted = lost + there.count(False), accepted + len(ids)
    figure(f"Redis killed {kills:,} times, appendfsync everysec: {accepted:,} accepted, {lost:,} lost, the last ones")


def queue_until_lost(raw: Raw, ids: list[str]) -> None:
    """Queue until Redis is gone."""
    with RedisQ(settings=raw.settings) as client:
        try:
            while True:
                ids.append(client.queue_message(QUEUE, len(ids)))
        except Unavailable:
            pass


TAIL = 4096  # bytes


@pytest.mark.full
def test_a_file_that_was_cut_anywhere_holds_whole_calls(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """As after a power cut. In the last 4 KB there is every kind of call. What is queued then stays, too."""
    server = own_server(appendonly="yes", appendfsync="always")
    raw = below(server)
    for _ in range(5):
        every_kind_of_call(raw)
    assert broken(raw) == []
    total = raw.link.call(store.queues.stats(raw.keys)).queued
    server.kill()
    whole = newest_file(server.folder)
    size, cuts = whole.stat().st_size, scaled(TAIL // 4, 20)
    assert size > TAIL
    seen: list[dict[str, Any]] = []
    kept = {path: path.read_bytes() for path in server.folder.rglob("appendonly*") if path.is_file()}
    with RedisQ(settings=raw.settings) as client:
        for cut in (number * TAIL // cuts for number in range(cuts)):
            lay_out(server.folder, kept | {whole: kept[whole][: size - cut]})
            server.start()  # aof-load-truncated is Redis' default
            assert broken(raw) == [], f"cut by {cut} bytes"
            stats = raw.link.call(store.queues.stats(raw.keys)).to_dict()
            del stats["oldest_age"]
            seen.append(stats)
            client.queue_message(QUEUE, "after the cut")
            before = raw.digest()
            server.kill()
            server.start()
            assert raw.digest() == before, f"cut by {cut} bytes"
            server.kill()
    queued = [stats["queued"] for stats in seen]
    assert queued == sorted(queued, reverse=True)
    assert queued[0] == total
    states = len({tuple(stats.values()) for stats in seen})
    assert states > 5
    figure(f"the append-only file cut at {cuts:,} places of its last {TAIL} bytes: {states} states, all sound")


def lay_out(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Put these append-only files in place of those there are: a rewrite may have given them other names."""
    for path in folder.rglob("appendonly*"):
        if path.is_file():
            path.unlink()
    for path, content in files.items():
        path.write_bytes(content)


def newest_file(folder: Path) -> Path:
    """Find the append-only file; since Redis 7 it is the last of several in a folder of their own."""
    many = sorted(folder.glob("appendonlydir/*.incr.aof"))
    return many[-1] if many else folder / "appendonly.aof"


def every_kind_of_call(raw: Raw) -> None:
    """Bring small messages to every status, each in a call of its own."""
    limits = limits_of(raw.settings)

    def run(call: Call[Any]) -> Any:
        return raw.link.call(call)

    with RedisQ(settings=raw.settings) as client:
        client.queue_messages(QUEUE, range(8))
        client.queue_message(QUEUE, "later", delay=1000)
        claim = run(store.deliveries.claim(raw.keys, limits, "hand", new_nonce(), 7))
        receipts = [delivery.receipt for delivery in claim.deliveries]
        run(store.deliveries.renew(raw.keys, limits, [(receipts[0], codec.encode("half-way"))]))
        run(store.deliveries.complete(raw.keys, limits, [(receipt, codec.encode("done")) for receipt in receipts[1:3]]))
        run(store.deliveries.fail(raw.keys, limits, [Failure(receipts[3], codec.encode({}), delay=1000.0)]))
        run(store.deliveries.fail(raw.keys, limits, [Failure(receipts[4], codec.encode({}), final=True)]))
        run(store.deliveries.release(raw.keys, limits, receipts[5:6]))
        run(store.messages.delete(raw.keys, limits, [receipts[1].id, receipts[6].id], new_nonce()))


def test_rewriting_the_file_under_load_loses_nothing(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    times, server = scaled(100, 5), own_server(appendonly="yes", appendfsync="everysec")
    raw = below(server, retry_deadline=PATIENCE)
    load = Load(raw)
    with working(load.worker), load:
        for _ in range(times):
            server.rewrite()
        until(lambda: len(load.accepted) > 100, PATIENCE)
    assert load.handled == dict.fromkeys(load.accepted, 1)
    before = raw.digest()
    server.admin.shutdown()
    server.kill()
    server.start()
    assert raw.digest() == before
    assert broken(raw) == []
    figure(f"{times:,} rewrites of the append-only file under load: {len(load.took):,} calls, {spread(load.took)}")
