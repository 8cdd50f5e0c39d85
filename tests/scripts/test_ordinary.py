"""The ordinary case of a script does what its rules would: the same replies and the same keys, on any state.

A script is run as it is, and with its ordinary case cut off, each time from the same start.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from redisq import store
from redisq.errors import RedisQError, Unavailable
from redisq.model.delivery import Claim, Receipt
from redisq.store import scripts
from redisq.store.call import Call
from redisq.store.scripts import Script
from tests.scripts.conftest import RETENTION, YEAR, Orders, new, sweeping_id
from tests.support.queues.calls import everything
from tests.support.queues.snapshot import FOREIGN, TYPES, Freezer

SCRIPTS = ("queue", "claim", "complete")
_MOMENT = 10_000  # milliseconds that may pass between two tries


def rules_of(name: str) -> Script:
    """The script without its ordinary case."""
    sources, shared, ordinary = scripts.read_all()
    assert ordinary[name]
    return scripts.assemble(name, sources[name], shared, "")


def test_these_have_an_ordinary_case() -> None:
    assert set(scripts.read_all()[2]) == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shared_functions_are_made_behind_it(name: str) -> None:
    text = scripts.load(name).text.decode()
    assert text.index("local function ordinary()") < text.index("local function clock()")
    assert b"ordinary" not in rules_of(name).text


# --- Any state ---


def state_of(orders: Orders, chance: random.Random) -> list[Receipt]:
    """Bring the queue into some state, and give the receipts that there are."""
    receipts: list[Receipt] = []
    for _ in range(chance.choice([0, 0, 1, 2])):
        receipts += orders.deliver(*range(chance.choice([1, 1, 3])))
    if chance.random() < 0.3:
        orders.put("later", delay=chance.choice([1, YEAR]))
    if chance.random() < 0.2:
        orders.put("first", priority=5)
    if chance.random() < 0.2:
        orders.put("mortal", expires_in=chance.choice([1, YEAR]))
    if receipts and chance.random() < 0.3:
        (orders.release if chance.random() < 0.5 else orders.complete)(receipts[0])
    if receipts and chance.random() < 0.3:
        orders.renew(receipts[-1], progress=b"\xc0" if chance.random() < 0.5 else b"")
    if chance.random() < 0.3:
        orders.pass_time(chance.choice([2, 40, RETENTION + 1]))
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        orders.put("ready")
    for name, value in (
        ("lease", "5000"),
        ("paused", "1"),
        ("max_bytes", "20"),
        ("max_length", "3"),
        ("retention", "1000"),
        ("max_attempts", "2"),
    ):
        if chance.random() < 0.08:
            orders.define(**{name: value})
    for name in ("queued", "completed"):
        if chance.random() < 0.1:
            orders.redis.hset(orders.keys.counters, name, chance.choice(["x", "1" * 16, "-1"]))
    if chance.random() < 0.15 and (ready := orders.ready()):
        orders.redis.hdel(orders.keys.messages, ready[0])
    if chance.random() < 0.1 and (ready := orders.ready()):
        orders.redis.hset(orders.keys.messages, ready[0], chance.choice(["", "x", "1-1 12345678"]))
    if chance.random() < 0.2:
        orders.hush()
    return receipts


def calls_of(name: str, orders: Orders, chance: random.Random, receipts: list[Receipt]) -> Call[Any]:
    keys, limits = orders.keys, orders.limits
    if name == "queue":
        known = [*orders.ready(), *orders.finished(), *(receipt.id for receipt in receipts)]
        id = chance.choice(known) if known and chance.random() < 0.4 else chance.choice([sweeping_id(), None])
        message = new(chance.choice(["ready", "x" * 30, 1]), id)
        return store.messages.put(keys, limits, message)
    if name == "claim":
        worker, nonce = chance.choice(["w-1", "w-2"]), "abcdefghijkl"
        last = orders.redis.hget(keys.workers, "w-1")
        if last and chance.random() < 0.3:
            nonce = last.split(b" ")[0].decode()
        lapsed_by = chance.choice([0, 0, orders.now_ms() / 1000 - 1, orders.now_ms() / 1000 + 60])
        return store.deliveries.claim(keys, limits, worker, nonce, chance.choice([1, 1, 2, 10]), lapsed_by=lapsed_by)
    receipt = chance.choice(receipts) if receipts else Receipt(new().id, 1, "abcdefghijkl")
    if chance.random() < 0.2:
        receipt = replace(receipt, attempt=2)
    return store.deliveries.complete(keys, limits, [(receipt, chance.choice([b"\xc0", b"x" * 900, b"x" * 2000]))])


def told(outcome: Any) -> Any:
    """An answer without what depends on the moment."""
    if isinstance(outcome, Claim):
        deliveries = [(one.receipt, one.head, one.body, one.failed) for one in outcome.deliveries]
        wait = None if outcome.wait is None else round(outcome.wait / _MOMENT * 1000)
        return deliveries, wait, outcome.lease, outcome.suspects, outcome.isolated, outcome.rest, outcome.max_attempts
    if isinstance(outcome, RedisQError):
        return type(outcome), str(outcome)
    return [told(one) for one in outcome] if isinstance(outcome, list) else outcome


def held(orders: Orders, freezer: Freezer) -> list[Any]:
    """What the keys hold once all leftovers are swept, without what depends on the moment: times that are near now."""
    while orders.sweep()[1]:
        pass
    now = orders.now_ms()

    def coarse(found: re.Match[bytes]) -> bytes:
        return b"NOW" if abs(int(found[1]) - now) < 45_000 else found[0]

    def text(value: Any) -> bytes:
        return re.sub(rb"(?<!\d)(\d{13})(-\d+)?(?!\d)", coarse, repr(value).replace(".0", "").encode())

    values = [(name, text(field), text(value)) for (name, field), value in freezer.values().items()]
    return sorted(values, key=lambda one: one if TYPES[one[0]] == "hash" else (one[0], b"", b""))  # others are in order


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_does_what_the_rules_do(orders: Orders, name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    receipts = state_of(orders, chance)
    freezer = Freezer(orders)
    start = freezer.freeze()
    call = calls_of(name, orders, chance, receipts)
    found = []
    for script in (call.script, rules_of(name)):
        freezer.run(*freezer.thaw(start))
        try:
            outcome = orders.run(call._replace(script=script))
        except RedisQError as error:
            outcome = error
        found.append((told(outcome), held(orders, freezer)))
    assert found[0] == found[1]


# --- What is refused ---


def ordinary_calls(orders: Orders) -> dict[str, Callable[[], Call[Any]]]:
    keys, limits = orders.keys, orders.limits
    (receipt,) = orders.deliver("held")
    orders.put("ready")
    return {
        "queue": lambda: store.messages.put(keys, limits, new("a")),
        "claim": lambda: store.deliveries.claim(keys, limits, "w-2", "abcdefghijkl", 1),
        "complete": lambda: store.deliveries.complete(keys, limits, [(receipt, b"\xc0")]),
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_key_of_another_type_leaves_no_half_written_state(orders_real: Orders, name: str) -> None:
    call = ordinary_calls(orders_real)[name]()
    freezer = Freezer(orders_real)
    start = freezer.freeze()
    for key_name, key in zip(call.script.keys, call.keys, strict=True):
        command, values = FOREIGN["string" if TYPES[key_name] != "string" else "list"]
        freezer.run(*freezer.thaw(start), ("DEL", key), (command, key, *values))
        before = freezer.freeze()
        with suppress(Unavailable):  # of a key that the ordinary case does not touch it takes no note
            orders_real.run(call)
            continue
        freezer.assert_same(freezer.freeze(), before, key_name)


@pytest.mark.parametrize(("count", "is_taken"), [(500, True), (501, False), (999, False)])
def test_a_claim_of_too_many_is_refused_beside_one_message_too(orders: Orders, count: int, is_taken: bool) -> None:
    orders.put("ready")
    call = store.deliveries.claim(orders.keys, orders.limits, "w", "abcdefghijkl", count)
    if is_taken:
        assert len(orders.run(call).deliveries) == 1
    else:
        with orders.unchanged(), pytest.raises(RedisQError):
            orders.run(call)


def test_a_total_that_has_grown_beyond_all_bounds_is_begun_anew(orders: Orders) -> None:
    for total, then in ((999_999_999_999_998, 999_999_999_999_999), (999_999_999_999_999, 1)):
        orders.redis.hset(orders.keys.counters, "queued", total)
        assert orders.queue(new()) == [None]
        assert int(orders.redis.hget(orders.keys.counters, "queued")) == then


@pytest.mark.parametrize("end", ["delete", "sweep"])
def test_a_first_sending_that_comes_late_is_known_when_the_message_is_gone(orders: Orders, end: str) -> None:
    message = new("a")
    assert orders.queue(message) == [None]
    if end == "delete":
        orders.delete(message.id)
    else:
        orders.limit(retention_ms=0)
        orders.complete(orders.claim().deliveries[0].receipt)
        orders.sweep()
    assert orders.run(store.messages.put(orders.keys, orders.limits, message)) == [False]
    assert orders.ready() == []


def test_everything_there_is_takes_the_rules(orders: Orders) -> None:
    """One of each: so do the calls of the other tests, but for a message that is queued, claimed or completed alone."""
    assert everything(orders).held.id < b"\x08"
