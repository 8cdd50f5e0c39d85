"""An audit of a large queue is short, and no script of it keeps Redis from anything else for long."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from redisq import RedisQ, RedisQError, store
from redisq.body import codec
from redisq.model.delivery import Failure, Receipt
from redisq.operations import doctor
from redisq.operations.caller import limits_of
from redisq.store import scripts
from redisq.store.call import BATCH, Call, new_nonce
from redisq.store.keys import new_id
from redisq.store.messages import NewMessage
from redisq.store.reply import Outcome
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, batches
from tests.delivery.test_slow_scripts import SLOW, Watch
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import Nursery

FAR = 86_400.0  # seconds
PACE = 0.01  # seconds between two batches of a producer
REQUEST = {"sleep": 0.05}  # so a worker with 100 handlers at once completes 2,000 messages a second
OF_DOCTOR = {scripts.load(name).sha for name in ("survey", "look", "audit")}
STRUCTURES = (*doctor.HASHES, *doctor.LISTS)


def test_an_audit_is_short(
    one_own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    scaled: Callable[[int, int], int],
    nursery: Callable[..., Nursery],
    figure: Callable[[str], None],
) -> None:
    """Counted are the commands that it has the server run; how long that takes is shown."""
    count = scaled(100_000, 5_000)
    raw = below(one_own_server(slowlog_max_len="10000", slowlog_log_slower_than="500"), lease=FAR)
    fill(raw, count)
    held = {name: sum(1 for _ in members(raw, name)) for name in STRUCTURES}
    with RedisQ(settings=raw.settings) as mq:
        assert [finding.code for finding in mq.doctor("nobody")] == ["no-keys"]  # and now the server knows the scripts
        raw.redis.config_resetstat()
        idle = timed(raw, mq)
        ran = commands(raw)
        with in_use(mq, nursery(raw, 100)):
            loaded = timed(raw, mq)
            until(lambda: mq.stats(QUEUE).completed > count * 20 // 100)  # it was in use

    hashed = held["states"] + held["messages"]
    assert count <= hashed <= 2 * count
    pages = ran["evalsha"]
    full = sum(held[name] / size for name, size in doctor._PAGES.items())
    assert full / 1.1 <= pages <= full / 0.8 + 30
    assert ran["hexists"] <= 1.01 * hashed
    assert ran["hget"] + ran["hmget"] + ran["zscore"] <= count // 100  # nothing is read twice
    assert ran["xrange"] + ran["zscan"] <= pages + count // 100
    assert sum(ran.values()) - ran["hexists"] <= 40 * pages

    took = processor_time(raw)
    slow = sum(seconds > SLOW for seconds in took)
    figure(
        f"doctor, {count:,} messages: {idle[0] / count * 100_000:.2f} s per 100,000, longest script {idle[1]:.1f} ms; "
        f"in use {loaded[0] / count * 100_000:.2f} s (target 2), {loaded[1]:.1f} ms (target 5); "
        f"of {len(took):,} pages {slow} took Redis' processor over 5 ms, "
        f"median {median(took) * 1000:.2f}, max {max(took) * 1000:.2f} ms"
    )


def fill(raw: Raw, count: int) -> None:
    """Put messages there: 40 % wait, 20 % are delayed, 10 % in progress, 20 % complete, 5 % dead, 5 % deleted."""
    limits, error = limits_of(raw.settings), codec.encode({"type": "ValueError"})
    queue(raw, count * 40 // 100)
    receipts = claim(raw, count * 40 // 100)
    complete, dead, deleted = count * 20 // 100, count * 25 // 100, count * 30 // 100
    makes: list[tuple[list[Receipt], Callable[[Sequence[Receipt]], Call[list[Outcome[None]]]]]] = [
        (
            receipts[:complete],
            lambda some: store.deliveries.complete(raw.keys, limits, [(one, codec.encode("done")) for one in some]),
        ),
        (
            receipts[complete:dead],
            lambda some: store.deliveries.fail(raw.keys, limits, [Failure(one, error, final=True) for one in some]),
        ),
        (
            receipts[dead:deleted],
            lambda some: store.messages.delete(raw.keys, limits, [one.id for one in some], new_nonce()),
        ),
    ]
    for chosen, make in makes:
        for some in batches(chosen):
            assert not [outcome for outcome in raw.link.call(make(some)) if isinstance(outcome, RedisQError)]
    queue(raw, count * 20 // 100, delay=FAR)
    queue(raw, count * 40 // 100)


def queue(raw: Raw, count: int, delay: float = 0.0) -> None:
    body = codec.encode_request(REQUEST, 1024)
    new = [NewMessage(new_id(), codec.digest(body), body, delay) for _ in range(count)]
    for batch in batches(new):
        assert raw.link.call(store.messages.queue(raw.keys, limits_of(raw.settings), batch)) == [None] * len(batch)


def claim(raw: Raw, count: int) -> list[Receipt]:
    receipts: list[Receipt] = []
    while len(receipts) < count:
        wanted = min(BATCH, count - len(receipts))
        call = store.deliveries.claim(raw.keys, limits_of(raw.settings), "hand", new_nonce(), wanted)
        receipts += [delivery.receipt for delivery in raw.link.call(call).deliveries]
    return receipts


def members(raw: Raw, name: str) -> Iterator[object]:
    """What a structure holds."""
    key = getattr(raw.keys, name)
    match raw.redis.type(key):
        case b"hash":
            yield from raw.redis.hkeys(key)
        case b"zset":
            yield from raw.redis.zrange(key, 0, -1)
        case _:
            yield from raw.redis.xrange(key)


def timed(raw: Raw, mq: RedisQ) -> tuple[float, float]:
    """Audit a sound queue; tell how many seconds that took, and the longest of its scripts in milliseconds."""
    raw.redis.slowlog_reset()
    began = time.monotonic()
    assert mq.doctor(QUEUE) == []
    took = time.monotonic() - began
    words = [(entry["duration"], entry["command"].split(b" ")) for entry in raw.redis.slowlog_get(10_000)]
    return took, max([duration / 1000 for duration, told in words if told[1:2] and told[1] in OF_DOCTOR], default=0.0)


def commands(raw: Raw) -> Counter[str]:
    """How often the server ran each command, also within scripts."""
    told = raw.redis.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): stats["calls"] for name, stats in told.items()})


@contextmanager
def in_use(mq: RedisQ, worker: Nursery) -> Iterator[None]:
    """Meanwhile one producer queues up to 2,000 messages a second, and a worker completes as many."""
    stop = threading.Event()

    def produce() -> None:
        while not stop.wait(PACE):
            mq.queue_messages(QUEUE, [REQUEST] * 20)

    producer = threading.Thread(target=produce)
    worker.start()
    producer.start()
    try:
        yield
    finally:
        stop.set()
        producer.join()


def processor_time(raw: Raw) -> list[float]:
    """How many seconds each page keeps the server's processor, whatever else the machine does."""
    watch = Watch(raw)
    for name in STRUCTURES:
        cursor: bytes | None = None
        while cursor != b"0":
            look = store.audit.look(raw.keys, name, cursor or b"0", doctor._PAGES[name], doctor._PAGE_BYTES)
            cursor = watch.run(look).cursor
    return watch.took["look"]
