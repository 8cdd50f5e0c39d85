"""A Redis whose memory is full drains; and what passed through a queue leaves its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from redisq import BatchError, Delivery, QueueFull, RedisQ, Reject, Status, Worker, store
from redisq.body import codec
from redisq.model.delivery import Failure
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import given_id, new_id
from redisq.store.messages import NewMessage
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, look_up
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, working

ROOM = 16 * 1024 * 1024
MEGABYTE = 1024 * 1024


@contextmanager
def unchanged(raw: Raw) -> Iterator[None]:
    """Check that what happens inside changes no key."""
    before = raw.digest()
    yield
    assert raw.digest() == before


def fill(client: RedisQ) -> list[str]:
    """Queue ever smaller messages until even the smallest is refused."""
    ids: list[str] = []
    for size in (64 * 1024, 1024, 1):
        refusals = 0
        while refusals < 3:
            try:
                ids.append(client.queue_message(QUEUE, b"x" * size))
            except QueueFull:
                refusals += 1
    return ids


def test_a_full_server_refuses_and_drains(
    own_server: Callable[..., OwnServer], below: Callable[..., Raw], figure: Callable[[str], None]
) -> None:
    server = own_server()
    raw = below(server, lease=30, backoff_base=0)
    limits = limits_of(raw.settings)

    def run(call: Call[Any]) -> Any:
        return raw.link.call(call)

    with RedisQ(settings=raw.settings) as client:
        client.queue_message(QUEUE, -1)  # so that the scripts are known and the connections made
        server.admin.config_set("maxmemory", server.admin.info("memory")["used_memory"] + ROOM)
        ids = fill(client)
        server.admin.config_set("maxmemory", ROOM // 2)  # and it stays full for as long as it drains
        assert len(ids) > 200

        refused = 0
        with unchanged(raw):
            for size in (0, 1, 1024, 64 * 1024):
                for how in ({}, {"delay": 5}, {"expires_in": 5}):
                    with pytest.raises(QueueFull):
                        client.queue_message(QUEUE, b"x" * size, **how)
                    refused += 1
            with pytest.raises(BatchError) as caught:
                client.queue_messages(QUEUE, range(1_000))
            assert {type(error) for error in caught.value.errors.values()} == {QueueFull}
            refused += len(caught.value.errors)
            with pytest.raises(QueueFull):
                client.queue_message("another", 1)

        deliveries = run(store.deliveries.claim(raw.keys, limits, "hand", new_nonce(), 20)).deliveries
        receipts = [delivery.receipt for delivery in deliveries]
        renewals = [(receipt, codec.encode("half-way")) for receipt in receipts]
        assert run(store.deliveries.renew(raw.keys, limits, renewals)) == [(30.0, False)] * 20
        results = [(receipt, codec.encode("x" * 1024)) for receipt in receipts[:5]]
        assert run(store.deliveries.complete(raw.keys, limits, results)) == [None] * 5
        failures = [Failure(receipt, codec.encode({}), delay=0.0) for receipt in receipts[5:10]]
        assert {failed.delay for failed in run(store.deliveries.fail(raw.keys, limits, failures))} == {0.0}
        assert run(store.deliveries.release(raw.keys, limits, receipts[10:15])) == [None] * 5
        held = [receipt.id for receipt in receipts[15:]]
        assert run(store.messages.delete(raw.keys, limits, held, new_nonce())) == [None] * 5
        client.sweep(QUEUE)
        with pytest.raises(QueueFull):
            client.queue_message(QUEUE, 1)

        drain(raw, client, len(ids) + 1 - 10)
        stats = client.stats(QUEUE)
        server.admin.config_set("maxmemory", 0)
        assert client.queue_message(QUEUE, "there is room again")
    there = [message for message in look_up(raw, ids) if not isinstance(message, Exception)]
    assert {message.status for message in there} == {Status.COMPLETE, Status.ERROR}
    assert len(there) == len(ids) - len([id for id in ids if given_id(id) in held])
    assert (stats.lost, stats.dead, stats.completed) == (0, 10, len(ids) + 1 - 5 - 10)
    figure(f"{len(ids):,} messages in a full server: {refused:,} more refused, 0 keys changed; all drained")


def drain(raw: Raw, client: RedisQ, count: int) -> None:
    """Have a worker end so many messages, ten of them as dead letters."""
    handled: set[str] = set()
    worker = Worker(settings=raw.settings)

    @worker.handler(QUEUE, concurrency=20)
    async def handle(delivery: Delivery) -> str:
        handled.add(delivery.id)
        if len(handled) <= 10:
            raise Reject("not this one")
        return "done"

    with working(worker):
        until(lambda: client.stats(QUEUE).completed + client.stats(QUEUE).dead == count + 5, PATIENCE)
    assert len(handled) == count


def used(server: OwnServer) -> int:
    """Bytes of the server's memory, without what its clients take."""
    memory = server.admin.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"])


def test_a_million_messages_leave_no_memory_behind(
    one_own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Each is queued and completed; every second one is deleted, the others go when their retention has passed."""
    turns = scaled(1_000_000, 5_000) // BATCH
    server = one_own_server()
    raw = below(server, retention=0.05, dedup_window=0.1)
    cycle(raw, 2)
    forget(raw)
    before, most = used(server), 0
    for _ in range(0, turns, 10):
        cycle(raw, 10)
        most = max(most, used(server))
    forget(raw)
    after = used(server)
    assert {key.decode().rpartition(":")[2] for key in raw.digest()} == {"counters"}
    stats = raw.link.call(store.queues.stats(raw.keys))
    count = stats.queued - 2 * BATCH
    assert count >= turns * BATCH
    assert stats.completed == stats.queued == 2 * stats.deleted
    assert after - before < 5 * MEGABYTE
    figure(
        f"{count:,} messages queued, completed and forgotten: memory {(after - before) / 1024:+.1f} KiB "
        f"(at most {(most - before) / MEGABYTE:.1f} MiB meanwhile), only the totals left"
    )


def cycle(raw: Raw, turns: int) -> None:
    """Queue, complete, and delete half, a batch at each turn; then forget what is due, as a worker does."""
    limits = limits_of(raw.settings)
    body = codec.encode_request({"hello": "world"}, MEGABYTE)
    for _ in range(turns):
        new = [NewMessage(new_id(), codec.digest(body), body) for _ in range(BATCH)]
        assert raw.link.call(store.messages.queue(raw.keys, limits, new)) == [None] * BATCH
        claim = raw.link.call(store.deliveries.claim(raw.keys, limits, "hand", new_nonce(), BATCH))
        results = [(delivery.receipt, b"\x01") for delivery in claim.deliveries]
        assert raw.link.call(store.deliveries.complete(raw.keys, limits, results)) == [None] * BATCH
        ids = [message.id for message in new[::2]]
        assert raw.link.call(store.messages.delete(raw.keys, limits, ids, new_nonce())) == [None] * len(ids)
    while raw.link.call(store.deliveries.sweep(raw.keys, limits))[1]:
        pass


def forget(raw: Raw) -> None:
    """Wait until all can be forgotten, and forget it; a worker's last claim is forgotten when it leaves."""
    raw.link.call(store.deliveries.leave(raw.keys, limits_of(raw.settings), "hand"))
    time.sleep(0.2)  # by the server's clock: longer than the deduplication window
    while raw.link.call(store.deliveries.sweep(raw.keys, limits_of(raw.settings)))[1]:
        pass
