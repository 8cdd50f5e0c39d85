"""In what order scripts write, as a real server saw it.

A full server refuses a script whose first write allocates, and lets one pass whose first write frees. So what brings
data in begins with the first kind and is refused whole; everything else begins with the second, or a full server could
not be drained. And nothing is written before every written key's type is known.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisq import store
from redisq.store.call import Call, new_nonce
from tests.scripts.conftest import RETENTION, Orders, new
from tests.support.queues.calls import BRING_IN, CASES, READING, everything

ALLOCATING = {"SET", "HSET", "HINCRBY", "ZADD", "XADD", "RPUSH"}
FREEING = {"ZREM", "XDEL", "XTRIM", "HDEL", "DEL", "UNLINK"}
READS = {
    *("GET", "TIME", "EXISTS", "HGET", "HMGET", "HGETALL", "HSTRLEN", "HLEN", "HRANDFIELD", "LLEN"),
    *("XLEN", "XRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"),
    *("HSCAN", "HEXISTS", "INFO", "SCAN", "TYPE", "XREVRANGE", "ZSCAN"),
    "PUBLISH",
}

Seen = list[tuple[str, str]]


def watch(orders: Orders, call: Call[object]) -> Seen:
    """Run a call and give the commands that its script ran, each with its key."""
    seen: Seen = []
    with orders.redis.monitor() as monitor:
        orders.run(call)
        orders.redis.echo("the end")
        while True:
            event = monitor.next_command()
            command, key = [*event["command"].split(" "), ""][:2]
            if command == "ECHO":
                return seen
            if event["client_type"] == "lua":
                seen.append((command, key))


def writes(seen: Seen) -> Seen:
    assert {command for command, _ in seen} <= ALLOCATING | FREEING | READS
    return [(command, key) for command, key in seen if command in ALLOCATING | FREEING]


@pytest.mark.parametrize("script", CASES)
def test_what_comes_first(orders_real: Orders, script: str) -> None:
    call = CASES[script](orders_real, everything(orders_real))
    written = writes(watch(orders_real, call))
    if script in READING:
        assert written == []
    else:
        assert written[0][0] in (ALLOCATING if script in BRING_IN else FREEING)


@pytest.mark.parametrize("script", sorted(set(CASES) - READING - {"leave", "unregister"}))
def test_every_key_is_read_before_the_first_write(orders_real: Orders, script: str) -> None:
    """`leave` and `unregister` have one write that can fail, and begin with it."""
    seen = watch(orders_real, CASES[script](orders_real, everything(orders_real)))
    written = writes(seen)
    read = {key for _, key in seen[: seen.index(written[0])]}
    assert {key for _, key in written} <= read


def reclaim_only(orders: Orders) -> Call[object]:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    return store.deliveries.claim(orders.keys, orders.limits, "w-2", new_nonce(), 1)


def reclaim_to_death(orders: Orders) -> Call[object]:
    orders.limit(max_attempts=1)
    return reclaim_only(orders)


def claim_ready_only(orders: Orders) -> Call[object]:
    orders.put("a")
    return store.deliveries.claim(orders.keys, orders.limits, "w-1", new_nonce(), 1)


def claim_unreadable(orders: Orders) -> Call[object]:
    orders.redis.hdel(orders.keys.messages, *orders.put("a"))
    return store.deliveries.claim(orders.keys, orders.limits, "w-1", new_nonce(), 1)


def claim_of_nothing(orders: Orders) -> Call[object]:
    return store.deliveries.claim(orders.keys, orders.limits, "w-1", new_nonce(), 1)


def complete_ordinary(orders: Orders) -> Call[object]:
    (receipt,) = orders.deliver("a")
    return store.deliveries.complete(orders.keys, orders.limits, [(receipt, b"\xc0")])


def delete_ready_only(orders: Orders) -> Call[object]:
    return store.messages.delete(orders.keys, orders.limits, orders.put("a"), "nonce")


def queue_an_old_id_anew(orders: Orders) -> Call[object]:
    """Its leftovers go first: that frees memory, so a full server may let it pass."""
    (receipt,) = orders.deliver("a")
    orders.complete(receipt)
    orders.pass_time(RETENTION + 1)
    return store.messages.queue(orders.keys, orders.limits, [new("b", receipt.id)])


def back_to_defaults(orders: Orders) -> Call[object]:
    orders.define(max_length="5")
    return store.queues.define(orders.keys, orders.limits, [("max_length", "")])


OTHERS = [
    reclaim_only,
    reclaim_to_death,
    claim_ready_only,
    claim_unreadable,
    complete_ordinary,
    delete_ready_only,
    queue_an_old_id_anew,
    back_to_defaults,
]


@pytest.mark.parametrize("prepare", OTHERS)
def test_what_frees_memory_passes_a_full_server(orders_real: Orders, prepare: Callable[[Orders], Call[object]]) -> None:
    assert writes(watch(orders_real, prepare(orders_real)))[0][0] in FREEING


def test_one_message_is_refused_by_a_full_server(orders_real: Orders) -> None:
    call = store.messages.put(orders_real.keys, orders_real.limits, new("a"))
    assert writes(watch(orders_real, call))[0][0] in ALLOCATING


def test_a_claim_of_nothing_in_a_quiet_queue_writes_nothing(orders_real: Orders) -> None:
    assert writes(watch(orders_real, claim_of_nothing(orders_real))) == []
