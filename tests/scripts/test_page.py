"""`page`: a page of one of a queue's lists."""

from __future__ import annotations

from typing import Any

import pytest

from redisq import store
from redisq.errors import RedisQError
from redisq.model.listing import Listed, Page
from redisq.store.keys import id_text
from tests.scripts.conftest import Orders
from tests.support.queues.calls import everything


def page_of(orders: Orders, structure: str, cursor: str = "0", limit: int = 10, short: int = 1000) -> Page:
    with orders.unchanged():
        return orders.run(store.listing.page(orders.keys, structure, cursor, limit, short))


def ids(page: Page) -> list[str]:
    return [message.id for message in page.messages]


def texts(*names: bytes) -> list[str]:
    return [id_text(name) for name in names]


def all_of(orders: Orders, structure: str, limit: int) -> list[str]:
    found, cursor = list[str](), "0"
    while True:
        page = page_of(orders, structure, cursor, limit)
        found += ids(page)
        if page.next is None:
            return found
        cursor = page.next


def test_each_list_holds_what_is_its_own(orders: Orders) -> None:
    there = everything(orders)
    assert ids(page_of(orders, "stream")) == texts(there.urgent, there.ready)
    assert ids(page_of(orders, "scheduled")) == texts(there.due, there.delayed)
    lapsed, *held = ids(page_of(orders, "leases"))
    assert [lapsed] == texts(there.lapsed.id)
    assert sorted(held) == sorted(texts(there.held.id, there.hurried.id))
    assert ids(page_of(orders, "dead")) == texts(there.dead)
    assert ids(page_of(orders, "finished")) == texts(there.done)


@pytest.mark.full(keep=3)
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7])
def test_pages_hold_each_message_once_what_is_next_first_and_what_has_ended_last(orders: Orders, limit: int) -> None:
    done = orders.deliver(*range(5))
    orders.complete(*done)
    dead = orders.deliver(*range(5))
    for number, receipt in enumerate(dead):
        orders.fail(receipt, final=True)
        orders.redis.zadd(orders.keys.dead, {receipt.id: orders.now_ms() - 1000 + number * 100})
    later = [orders.put(0, delay=10 * (number + 1))[0] for number in range(5)]
    ready = orders.put(*range(5))
    assert all_of(orders, "stream", limit) == texts(*ready)
    assert all_of(orders, "scheduled", limit) == texts(*later)
    assert all_of(orders, "finished", limit) == texts(*(receipt.id for receipt in reversed(done)))
    assert all_of(orders, "dead", limit) == texts(*(receipt.id for receipt in reversed(dead)))


def test_what_is_told_of_a_message(orders: Orders) -> None:
    held, failed = orders.deliver({"sku": "A-1"}, "failing")
    orders.fail(failed, delay=60.0)
    (ready,) = orders.put("ready")
    (leased,) = page_of(orders, "leases").messages
    assert (leased.request, leased.legible, leased.attempts, leased.worker) == ({"sku": "A-1"}, True, 1, "w-1")
    assert leased.started_at is not None
    assert (leased.at - leased.started_at).total_seconds() == pytest.approx(30, abs=1)
    (waiting,) = page_of(orders, "scheduled").messages
    assert waiting.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    (first,) = page_of(orders, "stream").messages
    assert first == Listed(id_text(ready), first.at, first.size, True, "ready", 0)
    assert orders.get(held.id)[0].started_at == leased.started_at


def test_what_is_long_is_left_out_and_its_size_told(orders: Orders) -> None:
    (long,) = orders.put("x" * 500)
    (found,) = page_of(orders, "stream", short=400).messages
    assert (found.id, found.legible, found.request, found.attempts) == (id_text(long), False, None, None)
    assert 500 < found.size < 560


def test_what_is_damaged_or_gone_is_listed_all_the_same(orders: Orders) -> None:
    bodiless, garbled, odd = orders.put("a", "b", "c")
    orders.redis.hdel(orders.keys.messages, bodiless)
    orders.redis.hset(orders.keys.messages, garbled, b"what is this")
    orders.redis.hset(orders.keys.states, odd, b"P no record")
    page = page_of(orders, "stream")
    assert ids(page) == texts(bodiless, garbled, odd)
    assert [(message.legible, message.attempts) for message in page.messages] == [
        *((False, None), (False, None), (True, None))
    ]


@pytest.mark.parametrize(("structure", "cursor"), [("bell", "0"), ("stream", "x"), ("stream", "(1-1"), ("dead", "1-1")])
def test_what_is_no_list_or_no_cursor_is_refused(orders: Orders, structure: str, cursor: str) -> None:
    with pytest.raises(RedisQError):
        page_of(orders, structure, cursor)


def test_a_cursor_goes_on_though_its_message_has_gone(orders: Orders) -> None:
    first, second, third = orders.put(1, 2, 3)
    cursor: Any = page_of(orders, "stream", limit=2).next
    orders.delete(first, second)
    assert ids(page_of(orders, "stream", cursor)) == texts(third)
