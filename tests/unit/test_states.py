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
from redisq.runtime.states import Table, follow
from redisq.store.call import Limits
from redisq.store.keys import partition_keys
from redisq.worker import fetcher as fetching
from redisq.worker.fetcher import Fetcher

TABLES: list[Table[Any]] = [fetching.TRANSITIONS, serving.TRANSITIONS]
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

    def start_all(self, taken: Any) -> int:
        return 0

    # the claimer
    def start(self) -> None: ...

    def hold(self, since: float | None = None) -> None: ...

    def lapsed_by(self) -> float:
        return 0.0

    def until_reclaim(self, wait: float | None) -> float:
        return 1.0

    async def take(self, *_: Any, **__: Any) -> Any:
        if self.maybe():
            raise Unavailable("away")
        return SimpleNamespace(claim=SimpleNamespace(deliveries=[], wait=0 if self.maybe() else 1.0))

    # the bell
    async def rings(self, seconds: float) -> bool:
        self.broken = self.random.choice([0, 1])
        return self.maybe() or self.broken > 0

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
