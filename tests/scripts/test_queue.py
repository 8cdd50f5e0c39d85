"""`queue`: accepted whole and once, or refused and nothing changed."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.errors import MessageConflict, MessageTooLarge, QueueFull
from redisq.store.keys import new_id
from tests.scripts.conftest import DEAD, RETENTION, WINDOW, YEAR, Orders, new, sweeping_id


def test_a_message_is_an_entry_and_a_body_and_rings(orders: Orders) -> None:
    message = new()
    assert orders.queue(message) == [None]
    ((entry, fields),) = orders.redis.xrange(orders.keys.stream)
    assert fields == {b"id": message.id}
    assert orders.redis.hgetall(orders.keys.messages) == {
        message.id: entry + b" " + message.digest + message.body,
    }
    assert orders.rings() == 1
    assert orders.counters() == {"queued": 1}
    assert orders.names() == {"stream", "messages", "bell", "counters"}


def test_a_batch_keeps_its_order(orders: Orders) -> None:
    ids = orders.put(*range(500))
    assert orders.ready() == ids
    assert orders.counters() == {"queued": 500}


# --- Once ---


def test_a_repeat_changes_nothing(orders: Orders) -> None:
    message = new()
    orders.queue(message)
    with orders.unchanged():
        assert orders.queue(message) == [None]


def test_the_reply_tells_a_new_message_from_a_repeat(orders: Orders) -> None:
    message = new()
    put = store.messages.put(orders.keys, orders.limits, message)
    assert orders.run(put) == [True]
    with orders.unchanged():
        assert orders.run(put) == [False]


def test_a_repeat_in_one_batch_is_one_message(orders: Orders) -> None:
    message = new()
    assert orders.queue(message, message) == [None, None]
    assert orders.ready() == [message.id]
    assert orders.counters() == {"queued": 1}


def test_the_first_of_two_bodies_in_one_batch_wins(orders: Orders) -> None:
    first = new("first")
    accepted, refused, other = orders.queue(first, new("second", first.id), new("other"))
    assert (accepted, other) == (None, None)
    assert isinstance(refused, MessageConflict)
    (message,) = orders.get(first.id)
    assert message.request == "first"


@pytest.mark.parametrize("delay", [0, YEAR])
def test_another_body_is_a_conflict(orders: Orders, delay: float) -> None:
    first = new("first", delay=delay)
    orders.queue(first)
    with orders.unchanged():
        (refused,) = orders.queue(new("second", first.id))
    assert isinstance(refused, MessageConflict)


def test_a_repeat_of_a_delayed_message_with_another_delay_is_a_repeat(orders: Orders) -> None:
    first = new(delay=5)
    orders.queue(first)
    with orders.unchanged():
        assert orders.queue(new(id=first.id)) == [None]


def bring_to(orders: Orders, status: str, id: bytes) -> None:
    """Queue `first` under an id and bring it to a status."""
    assert orders.queue(new("first", id)) == [None]
    if status == "deleted":
        assert orders.delete(id) == [None]
        return
    (delivery,) = orders.claim().deliveries
    if status == "complete":
        assert orders.complete(delivery.receipt) == [None]
    elif status == "dead":
        assert orders.fail(delivery.receipt, final=True) == [None]
    elif status == "retried":
        assert orders.fail(delivery.receipt, delay=YEAR) != [None]


@pytest.mark.parametrize("status", ["held", "retried", "complete", "dead", "deleted"])
def test_an_id_is_known_whatever_became_of_its_message(orders: Orders, status: str) -> None:
    id = new_id()
    bring_to(orders, status, id)
    with orders.unchanged():
        same, other = orders.queue(new("first", id), new("second", id))
    assert same is None
    assert isinstance(other, MessageConflict)


@pytest.mark.parametrize("status", ["complete", "dead"])
def test_a_finished_id_is_known_for_the_window_when_that_is_longer_than_the_retention(
    orders: Orders, status: str
) -> None:
    orders.limit(retention_ms=1_000, dead_ms=1_000)
    id = new_id()
    bring_to(orders, status, id)
    orders.pass_time(WINDOW - 60)  # it was not swept
    for _ in range(2):  # the first call sweeps the message, the second finds its tombstone
        same, other = orders.queue(new("first", id), new("second", id))
        assert same is None
        assert isinstance(other, MessageConflict)
        assert orders.ready() == []
    assert orders.names() >= {"tombstones"}


@pytest.mark.parametrize("status", ["complete", "dead"])
def test_a_finished_id_is_known_while_its_message_is_kept(orders: Orders, status: str) -> None:
    id = new_id()
    bring_to(orders, status, id)
    orders.pass_time(WINDOW + 60)
    with orders.unchanged():
        same, other = orders.queue(new("first", id), new("second", id))
    assert same is None
    assert isinstance(other, MessageConflict)


@pytest.mark.parametrize("status", ["complete", "dead", "deleted"])
@pytest.mark.parametrize("value", ["first", "second"])
def test_an_id_whose_time_has_passed_is_free(orders: Orders, status: str, value: str) -> None:
    id = new_id()
    bring_to(orders, status, id)
    orders.pass_time(DEAD + 1)  # it was not swept
    assert orders.queue(new(value, id), new("other")) == [None, None]
    (message,) = orders.get(id)
    assert (message.status, message.request, message.attempts) == ("PENDING", value, 0)
    assert orders.ready()[0] == id
    assert orders.finished() == orders.dead() == []
    assert orders.record(id) is None
    assert orders.sweep()[1] is False
    assert orders.ready()[0] == id
    ours = orders.claim().deliveries[0]
    assert (ours.receipt.id, ours.receipt.attempt) == (id, 1)


def test_an_id_is_free_even_behind_more_leftovers_than_one_call_sweeps(orders: Orders) -> None:
    receipts = orders.deliver(*range(134))
    orders.complete(*receipts)
    orders.limit(retention_ms=1_000, window_ms=2_000)
    orders.pass_time(3)
    assert orders.queue(new("anew", receipts[133].id)) == [None]
    assert orders.ready() == [receipts[133].id]
    assert orders.finished() == [receipt.id for receipt in receipts[128:133]]
    while orders.sweep()[1]:
        pass
    (message,) = orders.get(receipts[133].id)
    assert (message.status, message.request) == ("PENDING", "anew")


def test_a_second_tombstone_outlives_the_first(orders: Orders) -> None:
    *_, id = ids = orders.put(*range(134))
    orders.delete(*ids)
    orders.pass_time(WINDOW + 1)
    again = new("again", id)
    orders.queue(again)  # sweeps 128 tombstones
    assert orders.record(id) is None
    orders.delete(id)  # sweeps four more
    assert [fields[b"id"] for _, fields in orders.redis.xrange(orders.keys.tombstones)] == [ids[132], id, id]
    assert orders.sweep() == (2, False)
    with orders.unchanged():
        assert orders.queue(again) == [None]
    assert orders.ready() == []


def test_an_unreadable_message_gives_its_id_free(orders: Orders) -> None:
    (id,) = orders.put("first")
    orders.redis.hdel(orders.keys.messages, id)
    assert orders.claim().deliveries == []
    assert orders.queue(new("second", id)) == [None]
    (message,) = orders.get(id)
    assert (message.status, message.request) == ("PENDING", "second")
    assert orders.dead() == []


# --- Limits ---


def test_max_length_counts_ready_and_scheduled(orders: Orders) -> None:
    orders.limit(max_length=3)
    orders.put("ready")
    orders.put("scheduled", delay=YEAR)
    fits, refused = orders.queue(new(), new())
    assert fits is None
    assert isinstance(refused, QueueFull)
    assert "3 waiting messages" in str(refused)
    with orders.unchanged():
        assert all(isinstance(outcome, QueueFull) for outcome in orders.queue(new(), new(delay=1)))


def test_max_length_does_not_count_what_is_in_progress_or_finished(orders: Orders) -> None:
    orders.limit(max_length=2)
    held, done = orders.deliver("held", "done")
    orders.complete(done)
    assert orders.queue(new(), new()) == [None, None]
    assert held.id in orders.leased()


def test_a_repeat_fits_into_a_full_queue(orders: Orders) -> None:
    orders.limit(max_length=1)
    message = new()
    orders.queue(message)
    with orders.unchanged():
        again, refused = orders.queue(message, new())
    assert again is None
    assert isinstance(refused, QueueFull)


def test_the_queues_own_max_length_wins(orders: Orders) -> None:
    orders.define(max_length="1")
    outcomes = orders.queue(new(), new())
    assert outcomes[0] is None
    assert isinstance(outcomes[1], QueueFull)
    orders.limit(max_length=1)
    orders.define(max_length="0")
    assert orders.queue(new(), new()) == [None, None]


def test_max_bytes_is_the_largest_body(orders: Orders) -> None:
    message = new("x" * 100)
    orders.limit(max_bytes=len(message.body) - 1)
    with orders.unchanged():
        (refused,) = orders.queue(message)
    assert isinstance(refused, MessageTooLarge)
    assert f"{len(message.body) - 1:,} bytes" in str(refused)
    orders.limit(max_bytes=len(message.body))
    assert orders.queue(message) == [None]


def test_the_queues_own_max_bytes_wins(orders: Orders) -> None:
    orders.define(max_bytes="20")
    small, large = orders.queue(new("x"), new("x" * 100))
    assert small is None
    assert isinstance(large, MessageTooLarge)


def test_a_setting_that_is_no_number_counts_as_not_set(orders: Orders) -> None:
    orders.redis.hset(orders.keys.config, mapping={"max_length": "many", "retention": ""})
    assert orders.queue(new()) == [None]


# --- Delay ---


def test_a_delayed_message_is_scheduled(orders: Orders) -> None:
    (id,) = orders.put("later", delay=5)
    ((member, due),) = orders.redis.zrange(orders.keys.scheduled, 0, -1, withscores=True)
    queued_at, _, rest = orders.redis.hget(orders.keys.messages, id).partition(b" ")
    assert member == id
    assert due == int(queued_at) + 5_000
    assert len(rest) > 8
    assert orders.ready() == []
    assert orders.names() == {"scheduled", "messages", "bell", "counters"}


# --- Doorbell ---


def test_only_the_first_message_rings(orders: Orders) -> None:
    orders.put("a")
    orders.hush()
    orders.put("b", "c")
    assert orders.rings() == 0


def test_the_bell_never_holds_more_than_one_ring(orders: Orders) -> None:
    orders.put("a")
    orders.redis.delete(orders.keys.stream)
    orders.put("b")
    orders.put("c", delay=1)
    assert orders.rings() == 1


def test_a_delayed_message_rings_when_it_is_due_before_all_others(orders: Orders) -> None:
    orders.put("a", delay=500)
    assert orders.rings() == 1
    orders.hush()
    orders.put("b", delay=1000)
    assert orders.rings() == 0
    orders.put("c", delay=100)
    assert orders.rings() == 1


def test_a_refused_message_does_not_ring(orders: Orders) -> None:
    orders.limit(max_bytes=1)
    orders.queue(new(), new(delay=1))
    assert orders.rings() == 0


# --- Sweeping ---


def test_queueing_sweeps_up_to_128_leftovers_in_one_call_of_32(orders: Orders) -> None:
    orders.complete(*orders.deliver(*range(130)))
    orders.pass_time(RETENTION + 1)
    (first,) = orders.put("first")
    assert len(orders.finished()) == 130
    id = sweeping_id()
    orders.queue(new("next", id))
    assert len(orders.finished()) == 2
    assert orders.redis.hlen(orders.keys.messages) == 4
    assert orders.ready() == [first, id]


def test_a_message_within_its_retention_stays(orders: Orders) -> None:
    orders.complete(*orders.deliver("a"))
    orders.pass_time(RETENTION - 60)
    orders.put("next")
    assert len(orders.finished()) == 1
