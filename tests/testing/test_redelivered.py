"""`testing.redelivered`: a handler is cut off at each of its awaits, and run again."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from redisq import Delivery, InvalidArgument, InvalidHandler, NeverIdle, TestingError, testing


class Order(BaseModel):
    price: int


class Shop:
    """A handler with two effects at others, and what these have seen."""

    def __init__(self, *, careful: bool) -> None:
        self.careful = careful
        self.charged: list[str] = []
        self.mailed: list[str] = []
        self.attempts: list[int] = []
        self.ended = 0

    async def charge(self, id: str) -> None:
        if not self.careful or id not in self.charged:
            self.charged.append(id)

    async def mail(self, id: str) -> None:
        await asyncio.sleep(0)
        if not self.careful or id not in self.mailed:
            self.mailed.append(id)

    async def handle(self, delivery: Delivery) -> str:
        self.attempts.append(delivery.attempt)
        try:
            await self.charge(delivery.id)
            await self.mail(delivery.id)
        finally:
            self.ended += 1
        return "done"

    async def __call__(self, delivery: Delivery) -> str:
        await self.charge(delivery.id)
        return "called"

    async def typed(self, delivery: Delivery, order: Order) -> int:
        await self.charge(delivery.id)
        return order.price


def test_it_is_cut_at_every_await_and_runs_once_more_after_the_end() -> None:
    shop = Shop(careful=True)
    assert testing.redelivered(shop.handle, 1).result == "done"
    assert shop.attempts == [1, 2, 3, 4]  # cut twice, through, and again
    assert shop.ended == 4
    assert len(shop.charged) == len(shop.mailed) == 1


def test_effects_that_happen_again_are_seen() -> None:
    shop = Shop(careful=False)
    assert asyncio.run(testing.redelivered_async(shop.handle, 1, attempt=5, id="d9428888-122b-11e1-b85c-61cd3cbb3210"))
    assert shop.attempts == [5, 6, 7, 8]
    assert (len(shop.charged), len(shop.mailed)) == (3, 2)
    assert set(shop.charged) == {"d9428888-122b-11e1-b85c-61cd3cbb3210"}


def test_all_kinds_of_handlers_are_cut() -> None:
    for make, result in ((lambda shop: shop, "called"), (lambda shop: partial(shop.handle), "done")):
        shop = Shop(careful=False)
        assert testing.redelivered(make(shop), 1).result == result  # type: ignore[no-untyped-call]
        assert len(shop.charged) > 1
    shop = Shop(careful=False)
    assert testing.redelivered(shop.typed, {"price": 3}).result == 3
    assert len(shop.charged) == 2  # not in the run that was cut before


def test_a_plain_handler_runs_twice() -> None:
    attempts: list[int] = []
    assert testing.redelivered(lambda delivery: attempts.append(delivery.attempt), 1).event == "completed"
    assert attempts == [1, 2]


def test_what_a_run_raises_by_itself_is_the_outcome() -> None:
    charged: set[str] = set()

    async def charge_once(delivery: Delivery) -> None:
        if delivery.id in charged:
            raise ValueError("charged before")
        charged.add(delivery.id)
        await asyncio.sleep(0)

    outcome = testing.redelivered(charge_once, 1)
    assert (outcome.event, str(outcome.raised)) == ("failed", "charged before")


def test_a_handler_that_awaits_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_: Delivery) -> None:
        while True:
            await asyncio.sleep(0)

    monkeypatch.setattr("redisq.testing.repeats._MOST", 10)
    with pytest.raises(NeverIdle, match="awaits 10 times"):
        testing.redelivered(endless, 1)


def test_whoever_traces_the_process_goes_on() -> None:
    def trace(*_: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        testing.redelivered(Shop(careful=True).handle, 1)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)


def test_it_is_refused_where_a_loop_runs_and_for_what_is_no_handler() -> None:
    async def inside() -> None:
        with pytest.raises(TestingError, match=r"await testing\.redelivered_async"):
            testing.redelivered(Shop(careful=True).handle, 1)

    asyncio.run(inside())
    with pytest.raises(InvalidHandler):
        testing.redelivered("handle", 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        testing.redelivered(Shop(careful=True).handle, 1, attempt="first")  # type: ignore[arg-type]
