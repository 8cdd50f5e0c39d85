"""Priority: of what is ready the most urgent is claimed first, and in the order it came; nothing else depends on it."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.model.listing import Listed
from redisq.store.call import BATCH
from redisq.store.keys import id_text, new_id
from tests.scripts.conftest import Orders, new, place


def put(orders: Orders, *priorities: int, **when: float) -> list[bytes]:
    """Queue a message of each priority."""
    return [orders.put(number, priority=priority, **when)[0] for number, priority in enumerate(priorities)]


def claimed(orders: Orders, count: int = 10, worker: str = "w-1") -> list[bytes]:
    return [delivery.receipt.id for delivery in orders.claim(count, worker).deliveries]


def drained(orders: Orders, count: int) -> list[bytes]:
    """Claim so many at once until there are no more."""
    ids: list[bytes] = []
    while some := claimed(orders, count):
        ids += some
    return ids


def sorted_by_priority(ids: list[bytes], priorities: tuple[int, ...]) -> list[bytes]:
    return [id for _, id in sorted(zip(priorities, ids, strict=True), key=lambda pair: -pair[0])]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_the_most_urgent_come_first_and_those_of_one_priority_in_their_order(orders: Orders, count: int) -> None:
    priorities = (0, 5, 9, 5, 0, 1, 9, 2, 0, 5)
    ids = put(orders, *priorities)
    assert orders.ready() == ids  # the stream holds them all, in the order they came
    assert drained(orders, count) == sorted_by_priority(ids, priorities)
    assert (orders.ready(), orders.urgent()) == ([], [])


def test_many_of_one_moment_keep_their_order(orders: Orders) -> None:
    """A batch is queued in one millisecond: entries differ by their sequence alone."""
    messages = [new(number, priority=3) for number in range(BATCH)]
    assert orders.queue(*messages) == [None] * BATCH
    assert drained(orders, 97) == [message.id for message in messages]


def test_what_is_urgent_overtakes_a_backlog(orders: Orders) -> None:
    ids = orders.put(*range(50))
    (urgent,) = orders.put("now", priority=1)
    assert claimed(orders, 2) == [urgent, ids[0]]
    assert orders.ready() == ids[1:]
    assert orders.stats().ready == 49


def test_a_lapsed_lease_comes_before_all(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    (urgent,) = orders.put("now", priority=9)
    orders.lapse(receipt.id)
    assert claimed(orders, 2, "w-2") == [receipt.id, urgent]


# --- It stays with the message ---


def test_a_message_tells_its_priority(orders: Orders) -> None:
    (id,) = orders.put("a", priority=7, expires_in=60.0)
    for step in (lambda: None, lambda: orders.claim(1), lambda: None):
        step()
        (message,) = orders.get(id)
        assert message.priority == 7
        assert message.expires_at is not None
        assert message.request == "a"
    (plain,) = orders.put("b")
    assert orders.get(plain)[0].priority == 0


def test_it_expires_all_the_same(orders: Orders) -> None:
    (id,) = orders.put("a", priority=7, expires_in=60.0)
    (kept,) = orders.put("b", priority=7)
    orders.pass_time(61)
    assert claimed(orders) == [kept]
    assert (orders.dead(), orders.urgent(), orders.ready()) == ([id], [], [])


@pytest.mark.parametrize("body", ["small", "x" * 900])
def test_a_released_message_keeps_it(orders: Orders, body: str) -> None:
    orders.put(body, priority=4)
    receipt = orders.claim(1).deliveries[0].receipt
    (plain,) = orders.put("plain")
    assert orders.release(receipt) == [None]
    assert orders.ready() == [plain, receipt.id]
    assert claimed(orders) == [receipt.id, plain]


def test_a_retry_keeps_it(orders: Orders) -> None:
    (id,) = orders.put("a", priority=4)
    for _ in range(2):
        receipt = orders.claim(1).deliveries[0].receipt
        assert receipt.id == id
        assert orders.fail(receipt, delay=5.0) == [5.0]
        orders.pass_time(6)
    (plain,) = orders.put("plain")
    assert claimed(orders, 1) == [id]  # it is due, and goes before what is ready
    assert claimed(orders, 1) == [plain]
    record = orders.record(id)
    assert record is not None
    assert record.numbers == (2, 0, 0, 0, 4)


def test_a_due_message_goes_before_ready_ones_of_a_lower_priority(orders: Orders) -> None:
    late = put(orders, 0, 2, 9, delay=5.0)
    orders.pass_time(6)
    ready = put(orders, 0, 1, 2)
    wanted = [late[2], ready[2], late[1], ready[1], ready[0], late[0]]
    assert drained(orders, 6) == wanted


def test_a_due_message_that_finds_no_slot_is_ready_with_its_priority(orders: Orders) -> None:
    (late,) = put(orders, 2, delay=5.0)
    orders.pass_time(6)
    first, second = put(orders, 9, 1)
    assert claimed(orders, 1) == [first]
    assert orders.ready() == [second, late]
    assert orders.urgent() == [late, second]
    assert drained(orders, 1) == [late, second]


def test_a_redriven_message_keeps_it_and_expires_no_more(orders: Orders) -> None:
    (id,) = orders.put("a", priority=6, expires_in=60.0)
    orders.fail(orders.claim(1).deliveries[0].receipt, final=True)
    (plain,) = orders.put("plain")
    assert orders.redrive(id) == [None]
    (message,) = orders.get(id)
    assert (message.priority, message.expires_at) == (6, None)
    orders.pass_time(61)
    assert claimed(orders) == [id, plain]


def test_a_repeat_does_not_change_it(orders: Orders) -> None:
    message = new("a", priority=2)
    orders.queue(message)
    with orders.unchanged():
        assert orders.queue(message._replace(priority=9)) == [None]


# --- It goes with the message ---


def test_nothing_is_left_of_what_is_deleted(orders: Orders) -> None:
    first, second = put(orders, 3, 3)
    assert orders.delete(first) == [None]
    assert (orders.urgent(), orders.ready()) == ([second], [second])


def test_nothing_is_left_of_what_is_purged(orders: Orders) -> None:
    put(orders, 3, 0, 9)
    put(orders, 5, delay=60.0)
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == 4
    assert orders.urgent() == orders.ready() == orders.scheduled() == []


def test_nothing_is_left_of_a_queue_that_is_dropped(orders: Orders) -> None:
    put(orders, 3)
    orders.run(store.queues.drop(orders.keys))
    assert orders.names() == set()


def test_an_ordinary_queue_has_no_such_key(orders: Orders) -> None:
    put(orders, 0, 0)
    assert "urgent" not in orders.names()


# --- Other versions, and other programs ---


def test_what_an_older_redisq_took_is_not_delivered_again(orders: Orders) -> None:
    """One that knows no priorities leaves their places behind when it claims, deletes or purges."""
    held, gone, kept = put(orders, 5, 5, 5)
    places = orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True)
    receipt = orders.claim(1).deliveries[0].receipt
    orders.delete(gone)
    orders.redis.zadd(orders.keys.urgent, dict(places))
    assert receipt.id == held
    assert claimed(orders) == [kept]
    assert orders.urgent() == []
    assert orders.complete(receipt) == [None]


def test_what_an_older_redisq_handed_back_is_delivered_once(orders: Orders) -> None:
    """Its entry is a new one, and the old place says another."""
    (id,) = put(orders, 5)
    places = orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True)
    orders.release(orders.claim(1).deliveries[0].receipt)
    orders.redis.delete(orders.keys.urgent)
    orders.redis.zadd(orders.keys.urgent, dict(places))
    assert drained(orders, 1) == [id]
    assert (orders.urgent(), orders.ready()) == ([], [])


def test_what_an_older_redisq_took_is_not_listed_as_ready(orders: Orders) -> None:
    _, kept = put(orders, 9, 5)
    places = orders.redis.zrange(orders.keys.urgent, 0, -1, withscores=True)
    orders.claim(1)
    orders.redis.zadd(orders.keys.urgent, dict(places))
    page = orders.run(store.listing.page(orders.keys, "stream", "0", 10, 1000))
    assert [message.id for message in page.messages] == [id_text(kept)]


def test_a_lost_list_of_urgent_ones_loses_no_message(orders: Orders) -> None:
    ids = put(orders, 0, 5, 9)
    orders.redis.delete(orders.keys.urgent)
    assert drained(orders, 2) == ids


def test_places_of_another_program_are_passed_over_and_go(orders: Orders) -> None:
    ids = put(orders, 0, 5)
    strange = {b"strange": 0, b"x" * 46: 0, place(b"1-1", new_id()): 0, b"9" * 46: 1}
    orders.redis.zadd(orders.keys.urgent, strange)
    assert drained(orders, 10) == [ids[1], ids[0]]
    assert orders.urgent() == []


def test_stale_places_alone_go_with_a_sweep(orders: Orders) -> None:
    orders.redis.zadd(orders.keys.urgent, {place(b"1-1", new_id()): 0})
    orders.sweep()
    assert "urgent" not in orders.names()


def test_more_stale_places_than_a_claim_looks_at(orders: Orders) -> None:
    orders.redis.zadd(orders.keys.urgent, {place(b"1-1", new_id()): 0 for _ in range(5)})
    (id,) = put(orders, 4)
    assert drained_with_patience(orders) == [id]
    assert orders.urgent() == []


def drained_with_patience(orders: Orders) -> list[bytes]:
    """Claim two at a time, as often as a worker is told to claim again at once."""
    ids: list[bytes] = []
    for _ in range(10):
        claim = orders.claim(2)
        ids += [delivery.receipt.id for delivery in claim.deliveries]
        if claim.wait != 0:
            return ids
    raise AssertionError("it is told to claim again for ever")


# --- Looking ---


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 20])
def test_lists_begin_with_what_is_next(orders: Orders, limit: int) -> None:
    priorities = (0, 5, 9, 0, 5, 0, 1, 0)
    ids = put(orders, *priorities)
    listed: list[Listed] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = orders.run(store.listing.page(orders.keys, "stream", cursor, limit, 1000))
        assert len(page.messages) <= limit
        listed += page.messages
        cursor = page.next
    assert [message.id.replace("-", "") for message in listed] == [
        id.hex() for id in sorted_by_priority(ids, priorities)
    ]
