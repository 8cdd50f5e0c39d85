"""What a message costs when many are waiting: server time of each script, and memory, by the size of the backlog.

Redis doubles a hash by and by: each command on it, read or write, moves one bucket. That is let finish before anything
is measured, as it comes with powers of two and not with size. Meanwhile queueing takes about 1.5 times as long (497 us
for 50 at 1.25 million, just after a doubling, beside 344 us at a million), and a message 10 bytes more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from statistics import median
from typing import Any

from redisq import Credentials, Settings, store
from redisq.body import codec
from redisq.link.sync import Link
from redisq.model.delivery import Claimed
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import PartitionKeys, new_id, partition_keys
from redisq.store.messages import NewMessage
from tests.benchmarks.adapters import MESSAGE
from tests.benchmarks.figures import Samples
from tests.benchmarks.peers import OURS
from tests.benchmarks.server import Server

#: Measures by size: seconds of server time of each script, and bytes per message.
SERVER_TIME, BYTES = "backlog:", "backlog bytes"
_CYCLES = 60
_AT_ONCE = 50  # messages that one script takes
_LOOKUPS = 50_000


def sizes(largest: int) -> list[int]:
    """Give the backlogs to look at: 1,000 first, then ten times as many each, up to the largest."""
    return [size for size in (10**power for power in range(3, 9)) if size < largest] + [largest]


class Backlog:
    """A queue with many messages waiting, and calls that leave it as large as it was."""

    def __init__(self, link: Link, settings: Settings, size: int) -> None:
        self.size = size
        self._link = link
        self._limits = limits_of(settings)
        self._keys: PartitionKeys = partition_keys(settings.namespace, f"backlog-{size}")

    def fill(self) -> None:
        """Queue as many messages as it shall hold."""
        for first in range(0, self.size, BATCH):
            self._link.call(self._queue(min(BATCH, self.size - first)))

    def settle(self, server: Server) -> None:
        """Have Redis finish doubling the hash of bodies, the only one that grows here: there are no more buckets."""
        look_up = "for i = 1, ARGV[1] do redis.call('HEXISTS', KEYS[1], '') end"
        for _ in range(0, self.size, _LOOKUPS):
            server.redis.eval(look_up, 1, self._keys.messages, _LOOKUPS)

    def cycle(self, timed: Callable[[str, Call[Any]], Any]) -> None:
        """Run each script once."""
        keys, limits = self._keys, self._limits
        timed("queue one", self._queue(1))
        timed(f"queue {_AT_ONCE}", self._queue(_AT_ONCE))
        claim = store.deliveries.claim(keys, limits, "worker", new_nonce(), _AT_ONCE)
        deliveries: Sequence[Claimed] = timed(f"claim {_AT_ONCE}", claim).deliveries
        receipts = [delivery.receipt for delivery in deliveries]
        timed("get one", store.messages.get(keys, [receipts[0].id]))
        timed(f"renew {_AT_ONCE}", store.deliveries.renew(keys, limits, [(receipt, b"") for receipt in receipts]))
        result = codec.encode({"ok": True})
        timed(
            f"complete {_AT_ONCE}", store.deliveries.complete(keys, limits, [(receipt, result) for receipt in receipts])
        )
        (last,) = timed("claim one", store.deliveries.claim(keys, limits, "worker", new_nonce(), 1)).deliveries
        timed("release one", store.deliveries.release(keys, limits, [last.receipt]))
        timed("delete one", store.messages.delete(keys, limits, [last.receipt.id], new_nonce()))
        timed("stats", store.queues.stats(keys))
        timed("sweep", store.deliveries.sweep(keys, limits))

    def _queue(self, count: int) -> Call[Any]:
        body = codec.encode_request(MESSAGE)
        return store.messages.queue(
            self._keys, self._limits, [NewMessage(new_id(), codec.digest(body), body) for _ in range(count)]
        )


def measure(server: Server, samples: Samples, largest: int) -> None:
    """Fill backlogs of several sizes, which exist side by side, and run each script on one after the other in turn."""
    credentials = Credentials.generate("bench")
    settings = Settings(url=server.url, app_id=credentials.app, app_secret=credentials.secret())
    server.empty()
    with closing(Link(settings)) as link:
        backlogs = [Backlog(link, settings, size) for size in sizes(largest)]
        Backlog(link, settings, 1).fill()  # scripts and connections are there from now on
        link.close()
        before = server.memory()
        for backlog in backlogs:
            backlog.fill()
            backlog.settle(server)
            link.close()
            after = server.memory()
            samples.add(BYTES, str(backlog.size), (after - before) / backlog.size)
            before = after
        for _ in range(_CYCLES):
            for backlog in backlogs:
                for script, seconds in _times(server, link, backlog):
                    samples.add(f"{SERVER_TIME}{script}", str(backlog.size), seconds)
    server.empty()
    judge(samples, str(backlogs[0].size), str(backlogs[-1].size))


def judge(samples: Samples, smallest: str, largest: str) -> None:
    """Take down how many times as much the largest backlog costs as the smallest; of all scripts, the worst one.

    Times are compared within a cycle, as what else the machine does then meets both.
    """
    for measure, by_size in list(samples.numbers.items()):
        if measure.startswith(SERVER_TIME):
            ratios = (large / small for large, small in zip(by_size[largest], by_size[smallest], strict=True))
            samples.add(f"growth:{measure.removeprefix(SERVER_TIME)}", OURS, median(ratios))
    growth = {
        measure: subjects[OURS] for measure, subjects in samples.figures().items() if measure.startswith("growth:")
    }
    samples.add("growth", OURS, max(growth.values()))
    stored = samples.numbers[BYTES]
    samples.add("growth:memory", OURS, stored[largest][0] / stored[smallest][0])


def _times(server: Server, link: Link, backlog: Backlog) -> list[tuple[str, float]]:
    """Run each script once; give its name and the server's time for it."""
    times: list[tuple[str, float]] = []

    def timed(script: str, call: Call[Any]) -> Any:
        before = server.script_seconds()
        answer = link.call(call)
        times.append((script, server.script_seconds() - before))
        return answer

    backlog.cycle(timed)
    return times
