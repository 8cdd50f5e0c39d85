"""The doctor and random damage: nothing is overlooked, and one run mends all that can be mended."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from redisq import RedisQ
from redisq.operations import doctor
from redisq.operations.doctor import HASHES, JUDGED, LISTS
from redisq.store.keys import new_id
from tests.scripts.conftest import Orders, place
from tests.scripts.test_audit import audit, members
from tests.scripts.test_look import pages
from tests.support.queues.calls import everything

STRUCTURES = (*HASHES, *LISTS)
TOMBSTONE = re.compile(rb"T \S+ (\d+) ")


@pytest.fixture(params=range(20))
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chances, the same in each run."""
    return random.Random(request.param)


def damage(orders: Orders, chance: random.Random) -> None:
    """Take something out of a queue, or put something there that does not belong."""
    structure = chance.choice(STRUCTURES)
    key = getattr(orders.keys, structure)
    ids = [id for name in HASHES for id in orders.redis.hkeys(getattr(orders.keys, name))]
    id = chance.choice([*ids, new_id(), b"strange"])
    if structure in HASHES:
        other = orders.redis.hget(key, chance.choice(ids)) or b"damaged"
        garbage = chance.choice([other, other[: chance.randrange(20)], b"", other.replace(b"1", b"-")])
        chance.choice([lambda: orders.redis.hdel(key, id), lambda: orders.redis.hset(key, id, garbage)])()
    elif structure == "urgent":
        places = [*orders.redis.zrange(key, 0, -1), place(b"1-1", id)]
        entries = [place(entry, id) for entry, _ in orders.redis.xrange(orders.keys.stream)]
        chosen = chance.choice([*places, *entries])
        chance.choice([lambda: orders.redis.zrem(key, chosen), lambda: orders.redis.zadd(key, {chosen: 5})])()
    elif structure in ("scheduled", "leases", "dead"):
        chance.choice([lambda: orders.redis.zrem(key, id), lambda: orders.redis.zadd(key, {id: orders.now_ms()})])()
    else:
        entries = [entry for entry, _ in orders.redis.xrange(key)] or [b"1-1"]
        takes = [lambda: orders.redis.xdel(key, chance.choice(entries))]
        chance.choice([*takes, lambda: orders.redis.xadd(key, {"id": id})])()


def by_looks(orders: Orders) -> Iterator[tuple[str, bytes, str]]:
    """Each problem, with the structure it is told of, as the doctor finds it."""
    doubts = doctor._Doubts()
    for structure in (*HASHES, *LISTS):
        for page in pages(orders, structure, count=3):
            doubts.take(structure, page)
    for structure in JUDGED:
        if met := doubts.of(structure):
            yield from ((structure, id, word) for id, word, _ in audit(orders, structure, *met).problems)


def by_judging_all(orders: Orders) -> Iterator[tuple[str, bytes, str]]:
    """The same when each message is in doubt, wherever it is met."""
    listed = {id for id, _ in members(orders, "tombstones")}
    for structure in JUDGED:
        met = members(orders, structure)
        if structure == "tombstones":
            texts = orders.redis.hgetall(orders.keys.states)
            buried = {id: found[1] for id, text in texts.items() if len(id) == 16 and (found := TOMBSTONE.match(text))}
            met = [(id, at) for id, at in buried.items() if id not in listed]
        if structure == "urgent":
            met += [(id, b"") for name in HASHES for id in orders.redis.hkeys(getattr(orders.keys, name))]
            met = list(dict.fromkeys(met))
        if met:
            yield from ((structure, id, word) for id, word, _ in audit(orders, structure, *met).problems)


@pytest.mark.full(keep=2)
def test_nothing_is_overlooked(orders: Orders, chance: random.Random) -> None:
    """What is looked over and not in doubt, is sound."""
    everything(orders)
    for _ in range(4):
        for _ in range(3):
            damage(orders, chance)
        found = Counter(by_looks(orders))
        assert found == Counter(by_judging_all(orders))
    assert found


@pytest.mark.full(keep=2)
def test_one_run_mends_all_that_can_be_mended(orders: Orders, chance: random.Random) -> None:
    everything(orders)
    with RedisQ(settings=orders.raw.settings) as mq:

        def fixable() -> set[str]:
            return {finding.code for finding in mq.doctor("orders") if finding.fixable}

        while len(broken := fixable()) < 3:
            damage(orders, chance)
        mended = {finding.code for finding in mq.doctor("orders", fix=True) if finding.fixed}
        assert broken - mended <= {"urgent-missing", "urgent-stray"}  # they are mended along with their messages
        assert fixable() == set()
