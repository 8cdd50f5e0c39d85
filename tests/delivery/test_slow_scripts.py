"""A large backlog makes no script slow: each looks only at what it works on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

from redisq import store
from redisq.body import codec
from redisq.model.delivery import Failure
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import new_id
from redisq.store.messages import NewMessage
from tests.conftest import Raw
from tests.delivery.conftest import batches
from tests.support.servers.own_server import OwnServer

T = TypeVar("T")

SLOW = 0.005  # seconds


class Watch:
    """Runs calls and notes how long each kept the server's processor, whatever else the machine does."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.took: dict[str, list[float]] = defaultdict(list)

    def run(self, call: Call[T]) -> T:
        """Run a call."""
        before = self._used()
        answer = self.raw.link.call(call)
        self.took[call.script.name].append(self._used() - before)
        return answer

    def _used(self) -> float:
        cpu = self.raw.redis.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def test_a_large_backlog_makes_no_call_slow(
    one_own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """A quarter each completes, fails, is handed back and deleted, in batches of the largest size."""
    count = scaled(200_000, 5_000)
    raw = below(one_own_server(), retention=0, dedup_window=0, dead_retention=0)
    watch = Watch(raw)
    work_through(watch, count)
    stats = watch.run(store.queues.stats(raw.keys))
    assert (stats.queued, stats.ready, stats.scheduled, stats.in_progress) == (count, count // 4, count // 4, 0)
    assert (stats.completed, stats.released, stats.failed, stats.deleted) == (count // 4,) * 4
    took = watch.took
    slow = sum(seconds > SLOW for all_of_one in took.values() for seconds in all_of_one)
    shown = ", ".join(f"{name} {median(some) * 1000:.1f}/{max(some) * 1000:.1f}" for name, some in took.items())
    figure(
        f"{count:,} messages in batches of {BATCH}: {slow:,} of {sum(map(len, took.values())):,} calls took "
        f"Redis over 5 ms (target 0); ms of its processor, median/max: {shown}"
    )


def work_through(watch: Watch, count: int) -> None:
    """Queue and claim all, renew all, then do a quarter's worth of each that ends a delivery; forget what is due."""
    raw, limits = watch.raw, limits_of(watch.raw.settings)
    body, error = codec.encode_request({"hello": "world"}, 1024), codec.encode({"type": "ValueError"})
    new = [NewMessage(new_id(), codec.digest(body), body) for _ in range(count)]
    for batch in batches(new):
        assert watch.run(store.messages.queue(raw.keys, limits, batch)) == [None] * len(batch)
    receipts = []
    while len(receipts) < count:
        claim = watch.run(store.deliveries.claim(raw.keys, limits, "hand", new_nonce(), BATCH))
        assert claim.deliveries
        receipts += [delivery.receipt for delivery in claim.deliveries]
    for some in batches(receipts):
        lease = limits.lease_ms / 1000
        renewed = watch.run(store.deliveries.renew(raw.keys, limits, [(one, b"") for one in some]))
        assert renewed == [(lease, False)] * len(some)
    makes: list[Callable[[Any], Call[list[Any]]]] = [
        lambda some: store.deliveries.complete(raw.keys, limits, [(one, codec.encode(1)) for one in some]),
        lambda some: store.deliveries.fail(raw.keys, limits, [Failure(one, error, delay=1_000.0) for one in some]),
        lambda some: store.deliveries.release(raw.keys, limits, some),
        lambda some: store.messages.delete(raw.keys, limits, [one.id for one in some], new_nonce()),
    ]
    for first, make in enumerate(makes):
        for some in batches(receipts[first::4]):
            assert not [outcome for outcome in watch.run(make(some)) if isinstance(outcome, Exception)]
    while watch.run(store.deliveries.sweep(raw.keys, limits))[1]:
        pass
