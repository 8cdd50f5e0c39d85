"""The shop's tests: no server, no waiting; time is virtual. `pytest webshop`."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from redisq import RedisQ, testing
from webshop import database
from webshop.api import app, lifespan
from webshop.models import Line, Order
from webshop.worker import worker
from webshop.worker.orders import charge
from webshop.worker.quotes import quote

ORDER = Order(customer="ada@example.com", lines=[Line(sku="A-1", count=2, price=Decimal("10.50"))])


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[database.Database]:
    """A database of this test's own."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "shop.db"))
    with database.opened() as opened:
        yield opened


@pytest.fixture
def mq() -> Iterator[RedisQ]:
    with testing.queue() as mq:
        yield mq


def rows(shop: database.Database, table: str) -> list[Any]:
    with shop.transaction() as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


async def asked(method: str, path: str, **options: Any) -> httpx.Response:
    """Ask the API, and have the worker do meanwhile what there is."""
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        asking = asyncio.create_task(http.request(method, path, **options))
        while not asking.done():
            await testing.run_until_idle_async(worker)
            await asyncio.sleep(0.01)
        return await asking


def test_a_price() -> None:
    assert testing.deliver(quote, ORDER).result == {"total": "21.00"}


def test_an_order_that_costs_nothing_is_refused(shop: database.Database) -> None:
    free = ORDER.model_copy(update={"lines": [Line(sku="A-1", count=1, price=Decimal(0))]})
    assert testing.deliver(charge, free, state={"database": shop}).event == "rejected"


def test_an_order_goes_its_three_steps(mq: RedisQ, shop: database.Database) -> None:
    body = ORDER.model_dump(mode="json")
    made = asyncio.run(asked("POST", "/orders", json=body, headers={"Idempotency-Key": "cart-7"}))
    number = made.json()["number"]
    again = asyncio.run(asked("POST", "/orders", json=body, headers={"Idempotency-Key": "cart-7"}))
    assert (made.status_code, again.json()["number"]) == (202, number)
    steps = asyncio.run(asked("GET", f"/orders/{number}")).json()
    assert [(step["step"], step["status"]) for step in steps] == [
        ("charge", "COMPLETE"),
        ("pack", "COMPLETE"),
        ("ship", "COMPLETE"),
    ]
    assert rows(shop, "payments") == [(number, "21.00")]
    assert [row[0] for row in rows(shop, "shipments")] == [number]


def test_another_order_under_the_same_key_is_refused(mq: RedisQ) -> None:
    key = {"Idempotency-Key": "cart-8"}
    other = ORDER.model_copy(update={"customer": "bob@example.com"})
    codes = [
        asyncio.run(asked("POST", "/orders", json=one.model_dump(mode="json"), headers=key)).status_code
        for one in (ORDER, other)
    ]
    assert codes == [202, 409]


def test_what_is_no_order_and_no_number_is_refused(mq: RedisQ) -> None:
    assert asyncio.run(asked("POST", "/orders", json={"customer": "ada"})).status_code == 422
    assert asyncio.run(asked("GET", "/orders/none")).status_code == 404


def test_a_thousand_quotes_are_gathered(mq: RedisQ) -> None:
    bodies = [ORDER.model_dump(mode="json")] * 1000
    assert asyncio.run(asked("POST", "/quotes", json=bodies)).json() == {"priced": 1000, "total": "21000.00"}


def test_each_night_old_shipments_go(mq: RedisQ, shop: database.Database) -> None:
    with shop.transaction() as connection:
        connection.execute("insert INTO shipments VALUES ('old', '2020-01-01 00:00:00'), ('new', CURRENT_TIMESTAMP)")
    testing.clock.advance(24 * 3600)
    testing.run_until_idle(worker)
    assert [row[0] for row in rows(shop, "shipments")] == ["new"]
