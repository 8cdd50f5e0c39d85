"""A queue with one of everything, on which calls of one script are tried, each from the same start."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redisq import RedisQ
from redisq.errors import RedisQError
from redisq.store import scripts
from redisq.store.call import Call
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES, everything
from tests.support.queues.snapshot import FULL, ROOMY, Command, Freezer, Frozen, malformed


@dataclass(frozen=True)
class Trial:
    """What came of a call: the error that refused it, or its reply. `full`: the server had no memory left."""

    call: Call[Any]
    damage: tuple[Command, ...]
    full: bool
    error: RedisQError | None
    reply: Any = None


class Workbench:
    """Tries calls of one script. `call` is its own, as it should be, and `decode` reads the reply to that one."""

    def __init__(self, orders: Orders, script: str) -> None:
        self.orders = orders
        call = CASES[script](orders, everything(orders))
        self.call, self.decode = call._replace(decode=lambda reply: reply), call.decode
        self.real = orders.raw.server.kind != "fakeredis"
        self.freezer = Freezer(orders)
        self._there = self._now = self.freezer.freeze(*([ROOMY] if self.real else []))
        self.values = self.freezer.values()
        self._doctor = RedisQ(settings=orders.raw.settings)
        self._errors: Counter[str] | None = None  # that the doctor finds at the start

    def close(self) -> None:
        """End the tries."""
        self._doctor.close()

    def try_it(self, call: Call[Any], *damage: Command, full: bool = False) -> Trial:
        """Put the start back, damage it, and run a call. When it is refused, check that it has changed nothing."""
        before = self._start(*damage, *([FULL] if full else []))
        try:
            trial = Trial(call, damage, full, None, self.orders.run(call))
        except RedisQError as error:
            trial = Trial(call, damage, full, error)
        self._now = self.freezer.freeze(*([ROOMY] if full else []))
        if trial.error is not None:
            self.freezer.assert_same(self._now, before, trial)
        return trial

    def _start(self, *commands: Command) -> Frozen:
        restore = self.freezer.thaw(self._there) if self._now != self._there else ()
        return self.freezer.freeze(*restore, *commands)

    def assert_well_formed(self, trial: Trial) -> None:
        """Check that all that the call has written is what scripts write."""
        if self._now != self._there:
            now = self.freezer.values()
            self._now = self._start(*trial.damage)
            assert not list(malformed(self.freezer.values(), now)), trial

    def assert_sound(self, trial: Trial) -> None:
        """Check, too, that the doctor finds no error in the queue that was not there at the start."""
        if self._now != self._there:
            found = self._audit()
            self.assert_well_formed(trial)
            if self._errors is None:
                self._now = self._start()
                self._errors = self._audit()
            assert found <= self._errors, trial

    def _audit(self) -> Counter[str]:
        """Count what the doctor calls an error, by its code."""
        found = self._doctor.doctor("orders")
        return Counter({finding.code: finding.count for finding in found if finding.severity == "error"})


@contextmanager
def workbench(orders: Orders, script: str) -> Iterator[Workbench]:
    """Set up a workbench, for the time of a test."""
    bench = Workbench(orders, script)
    try:
        yield bench
    finally:
        bench.close()


def names_of(script: str, count: int) -> list[str]:
    """Give the names of a script's first `count` arguments, by its header."""
    source = (files(scripts) / f"{script}.lua").read_text("utf-8")
    names: list[str] = []
    for several, found in re.findall(r"^-- ARGV\[\d+(\+?)\] +(\w+(?:, \w+)*)", source, re.MULTILINE):
        names += found.split(", ") * (count if several else 1)
    return names[:count]


def items_of(script: str) -> tuple[int, int] | None:
    """Give how many arguments come before a script's items, and how many each item has; None when it takes none."""
    source = (files(scripts) / f"{script}.lua").read_text("utf-8")
    found = re.search(r"^-- ARGV\[(\d+)\+\] +(\w+(?:, \w+)*)", source, re.MULTILINE)
    return (int(found[1]) - 1, found[2].count(",") + 1) if found else None
