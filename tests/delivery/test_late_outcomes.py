"""Outcomes that come after their lease was taken over: each is refused, and nothing changes."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from redisq import Delivery, LeaseLost, RedisQ, Status, Worker, embedded, store
from redisq.body import codec
from redisq.model.delivery import Failure, Receipt
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, Call, Limits, new_nonce
from redisq.store.keys import PartitionKeys
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, batches, messages
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, Nursery, working

_REFUSED = re.compile(r" message (\S+) attempt 1: (outcome refused|lease lost)")


def test_a_thawed_workers_outcomes_change_nothing(
    real_server: embedded.EmbeddedServer,
    below: Callable[..., Raw],
    nursery: Callable[..., Nursery],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """It holds all messages when it is stopped; another takes them over, completes them and leaves; it goes on."""
    count = scaled(1_000, 50)
    raw = below(real_server, lease=1, grace=5)
    crew, workers = nursery(raw, count), raw.keys.workers.encode()
    with RedisQ(settings=raw.settings) as client:
        sleeper = crew.start()
        ids = client.queue_messages(QUEUE, [{"sleep": 3}] * count)
        until(lambda: len(crew.count("start")) == count, PATIENCE)
        os.kill(sleeper, signal.SIGSTOP)
        other = Worker(settings=raw.settings)

        @other.handler(QUEUE, concurrency=count)
        async def handle(delivery: Delivery) -> int:
            return delivery.attempt

        with working(other):
            until(lambda: client.stats(QUEUE).completed == count, PATIENCE)
        client.sweep(QUEUE)  # the thawed worker does, too: an empty stream goes
        before = raw.digest()
        assert not crew.count("end")  # they are all late
        os.kill(sleeper, signal.SIGCONT)
        until(lambda: len(refusals(crew)) == count, PATIENCE)
        assert raw.digest() == before
    assert crew.end(sleeper, signal.SIGTERM) == 0
    assert len(before.pop(workers)) == 1  # its own last claim, which goes with it
    assert raw.digest() == before
    refused = refusals(crew)
    assert set(refused) == set(ids)
    assert {(message.status, message.result) for message in messages(raw, ids)} == {(Status.COMPLETE, 2)}
    kinds = Counter(refused.values())
    figure(
        f"{count:,} deliveries outlived by their worker's SIGSTOP: {kinds['outcome refused']:,} late completions "
        f"refused, {kinds['lease lost']:,} cancelled by the heartbeat first; 0 keys changed"
    )


def refusals(crew: Nursery) -> dict[str, str]:
    """How each message's first delivery was refused, as the worker's log tells."""
    return dict(_REFUSED.findall(crew.warnings()))


LATE: dict[str, Callable[[PartitionKeys, Limits, Sequence[Receipt]], Call[list[Any]]]] = {
    "complete": lambda keys, limits, late: store.deliveries.complete(
        keys, limits, [(one, codec.encode("late")) for one in late]
    ),
    "fail": lambda keys, limits, late: store.deliveries.fail(
        keys, limits, [Failure(one, codec.encode({})) for one in late]
    ),
    "renew": lambda keys, limits, late: store.deliveries.renew(
        keys, limits, [(one, codec.encode("late")) for one in late]
    ),
    "release": lambda keys, limits, late: store.deliveries.release(keys, limits, late),
}


def test_stale_receipts_change_nothing(
    tasks: Raw, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """A third of the messages is with another worker, a third was completed by it, and a third deleted."""
    count = scaled(1_000, 300)
    limits = limits_of(tasks.settings)
    with RedisQ(settings=tasks.settings) as client:
        client.queue_messages(QUEUE, range(count))
        stale = claim_all(tasks, limits, "first", count)
        tasks.redis.zadd(tasks.keys.leases, {receipt.id: 1 for receipt in stale})
        taken = claim_all(tasks, limits, "second", count)
        assert {receipt.id for receipt in taken} == {receipt.id for receipt in stale}
        for batch in batches(taken[::3]):
            assert tasks.link.call(LATE["complete"](tasks.keys, limits, batch)) == [None] * len(batch)
        for batch in batches([receipt.id for receipt in taken[1::3]]):
            assert tasks.link.call(store.messages.delete(tasks.keys, limits, batch, new_nonce())) == [None] * len(batch)
    before = tasks.digest()
    for operation, make in LATE.items():
        refused = 0
        for batch in batches(stale):
            outcomes = tasks.link.call(make(tasks.keys, limits, batch))
            refused += sum(isinstance(outcome, LeaseLost) for outcome in outcomes)
        assert refused == count, operation
        assert tasks.digest() == before, operation
    figure(f"{count:,} stale receipts, each for {len(LATE)} operations: {count * len(LATE):,} refused, 0 keys changed")


def claim_all(raw: Raw, limits: Limits, worker: str, count: int) -> list[Receipt]:
    """Claim so many messages for a worker."""
    receipts: list[Receipt] = []
    while len(receipts) < count:
        call = store.deliveries.claim(raw.keys, limits, worker, new_nonce(), BATCH)
        deliveries = raw.link.call(call).deliveries
        assert deliveries
        receipts += [delivery.receipt for delivery in deliveries]
    return receipts
