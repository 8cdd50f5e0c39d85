"""States change as their tables say, and every way that a table names is gone."""

from __future__ import annotations

import asyncio
import random
from enum import StrEnum
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import pytest

from redisq.errors import Unavailable
from redisq.gateway.server import states as serving
from redisq.gateway.work import dispatcher as dispatching
from redisq.gateway.work.dispatcher import Dispatcher
from redisq.gateway.work.waiters import Handed, Waiter
from redisq.runtime.states import Table, follow
from redisq.store.call import Limits
from redisq.store.keys import partition_keys
from redisq.worker import fetcher as fetching
from redisq.worker.fetcher import Fetcher

TABLES: list[Table[Any]] = [fetching.TRANSITIONS, serving.TRANSITIONS, dispatching.TRANSITIONS]
Way = tuple[StrEnum, StrEnum]


def ways(table: Table[Any]) -> set[Way]:
    """The transitions that a table allows."""
    return {(before, after) for before, following in table.items() for after in following}


def owner(table: Table[Any]) -> str:
    return type(next(iter(table))).__module__


@pytest.mark.parametrize("table", TABLES, ids=owner)
def test_a_table_allows_what_it_names_and_forbids_the_rest(table: Table[Any]) -> None:
    assert set(table) == set(type(next(iter(table))))
    for before, after in product(table, table):
        if (before, after) in ways(table):
            assert follow(table, before, after) is after
        else:
            with pytest.raises(RuntimeError, match=f"{before.name} does not lead to {after.name}"):
                follow(table, before, after)


class Recorder:
    """Follows a table, and knows which ways were gone."""

    def __init__(self) -> None:
        self.gone: set[Way] = set()

    def follow(self, table: Table[Any], before: Any, after: Any) -> Any:
        self.gone.add((before, after))
        return follow(table, before, after)


# --- A worker's fetcher ---


class Chance:
    """All that a fetcher has to do with, each part as it may happen to be. A burst has no end until it is over."""

    def __init__(self, seed: int, burst: bool) -> None:
        self.random = random.Random(seed)
        self.burst: Any = SimpleNamespace(is_over=False, asks=lambda member: 0, found_nothing=self.maybe)
        self.fetcher: Any = None
        self.bursts = burst
        self.room, self.seat, self.leases = asyncio.Event(), None, SimpleNamespace(failed_at=0.0)
        self.lease, self.broken, self.is_idle = 15.0, 0, True

    def maybe(self, *_: Any) -> bool:
        """Say yes or no; now and then all is over."""
        if self.random.random() < 0.05:
            if self.bursts:
                self.burst.is_over = True
            else:
                self.fetcher.stop()
        return self.random.random() < 0.5

    # the deliveries
    @property
    def claimable(self) -> int:
        self.room.set()
        return self.random.choice([0, 1, 8])

    def renew_within(self, lease: float) -> None: ...

    def start_all(self, taken: Any, *, offered: bool = False) -> int:
        return 0

    # the claimer
    def start(self) -> None: ...

    def hold(self, since: float | None = None) -> None: ...

    def lapsed_by(self) -> float:
        return 0.0

    def until_reclaim(self, wait: float | None) -> float:
        return self.random.choice([1.0, 5.0])

    @property
    def may_offer(self) -> bool:
        return self.maybe()

    def offer(self, request: Any) -> Any: ...

    async def accept(self, claim: Any, offered: float) -> Any:
        return await self.take()

    async def take(self, *_: Any, **__: Any) -> Any:
        if self.maybe():
            raise Unavailable("away")
        return SimpleNamespace(claim=self.claim())

    def claim(self) -> Any:
        return SimpleNamespace(deliveries=[], wait=0 if self.maybe() else 1.0)

    # the bell
    async def rings(self, seconds: float) -> bool:
        self.broken = self.random.choice([0, 1])
        return self.maybe() or self.broken > 0

    is_listening = False

    async def claims(self, seconds: float, call: Any) -> Any:
        self.broken = self.random.choice([0, 1])
        return None if self.maybe() or self.broken else self.claim()

    async def cover(self) -> None:
        self.maybe()
        self.room.set()

    def hush(self) -> None: ...

    # the suspects
    def reserve(self) -> tuple[int, bool]:
        return 1, True

    def release(self, room: int) -> None: ...


async def fetch(seed: int, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    """Run a fetcher to its end, by chance."""
    chance: Any = Chance(seed, burst=seed % 2 == 1)
    monkeypatch.setattr(fetching, "Claimer", lambda *_: chance)
    monkeypatch.setattr(fetching, "Doorbell", lambda *_: chance)
    monkeypatch.setattr(fetching, "pause_after", lambda *_: 0.001 * chance.maybe())
    keys, limits = partition_keys("test", "orders"), cast(Limits, None)
    fetcher = Fetcher(chance, keys, limits, chance, chance, "worker", chance)
    chance.fetcher = fetcher
    if seed % 16 == 0:
        fetcher.stop()
    await asyncio.wait_for(fetcher.run(chance.burst if chance.bursts else None), 30)
    fetcher.stop()
    return fetcher


def test_a_fetcher_goes_every_way_of_its_table_and_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(fetching, "follow", recorder.follow)

    async def main() -> None:
        for seed in range(300):
            assert (await fetch(seed, monkeypatch)).state is fetching.State.ENDED

    asyncio.run(main())
    assert recorder.gone == ways(fetching.TRANSITIONS)


# --- A gateway's dispatcher ---


class Claims:
    """All that a dispatcher has to do with, each part as it may happen to be."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.dispatcher: Any = None
        self.joined: list[Waiter] = []
        self.lease, self.broken, self.is_listening, self.longest, self.pause = 15.0, 0, False, 1.0, 0.001

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def join(self) -> None:
        """Have somebody come, and perhaps leave again at once."""
        nonce = "nonce" if self.maybe(0.2) else None
        self.joined.append(self.dispatcher.join(1, self.random.choice([0, 0.001, 0.003]), None, nonce))
        if self.maybe(0.1):
            self.dispatcher.leave(self.joined[-1])

    # the claimer
    def start(self) -> None: ...

    def hold(self, since: float | None = None) -> None: ...

    def lapsed_by(self) -> float:
        return 0.0

    def until_reclaim(self, wait: float | None) -> float:
        return 0.001

    async def take(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        if self.maybe(0.1):
            raise Unavailable("away")
        if self.maybe(0.1):
            raise ZeroDivisionError
        return SimpleNamespace(held=[], claim=SimpleNamespace(wait=0 if self.maybe(0.2) else 0.001))

    # the bell
    async def rings(self, seconds: float) -> bool:
        self.broken = self.random.choice([0, 0, 1])
        self.is_listening = not self.maybe(0.2)
        await asyncio.sleep(min(seconds, 0.001))
        return not self.is_listening

    async def close(self) -> None:
        self.is_listening = False
        if self.maybe():
            self.join()

    # the link, and the right to listen
    async def call(self, call: Any) -> None: ...

    def take_right(self, who: object) -> bool:
        return self.maybe()

    def give_back(self, who: object) -> None: ...


async def dispatch(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have people come and go, by chance, until all are answered and nobody comes any more."""
    claims: Any = Claims(seed)
    monkeypatch.setattr(dispatching, "Claimer", lambda *_: claims)
    monkeypatch.setattr(dispatching, "Doorbell", lambda *_: claims)
    bells: Any = SimpleNamespace(take=claims.take_right, give_back=claims.give_back, pause=0.001)
    keys, limits = partition_keys("test", "orders"), cast(Limits, None)
    dispatcher = claims.dispatcher = Dispatcher(keys, limits, claims, claims, "gateway", 0.002, lambda: 0.001, bells)
    for _ in range(10):
        claims.join()
        await asyncio.sleep(claims.random.choice([0, 0.001]))
    while waiting := {waiter.answer for waiter in claims.joined if not waiter.answer.done()}:
        await asyncio.wait(waiting)
    if claims.maybe():
        dispatcher.stop()
    while not dispatcher.is_idle:
        await asyncio.sleep(0.001)
    for waiter in claims.joined:
        assert waiter.answer.cancelled() or waiter.answer.exception() or waiter.answer.result() == Handed(lease=15.0)


def test_a_dispatcher_goes_every_way_of_its_table_and_falls_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(dispatching, "follow", recorder.follow)
    monkeypatch.setattr(dispatching, "_LINGER", 0.001)
    monkeypatch.setattr(dispatching, "pause_after", lambda *_: 0.0)
    monkeypatch.setattr(dispatching, "block_for", lambda *_: 0.001)

    async def main() -> None:
        async with asyncio.timeout(60):
            for seed in range(40):
                await dispatch(seed, monkeypatch)

    asyncio.run(main())
    assert recorder.gone == ways(dispatching.TRANSITIONS)
