"""`claim`: every message to one worker at a time, and to another one when its lease lapses."""

from __future__ import annotations

import pytest

from redisq import store
from redisq.model.delivery import Claim
from redisq.model.message import Status
from tests.scripts.conftest import RETENTION, YEAR, Orders, events, new

ODD_IDS = [b"\0" * 16, b" " * 16, b"\n" * 16, b"\r\n" * 8, b"\xff" * 16, b"%-^$().[]*+?%d%s", b"- 1-1 I 2 n 0 0 "]


def ids_of(claim: Claim) -> list[bytes]:
    return [delivery.receipt.id for delivery in claim.deliveries]


# --- Delivery ---


def test_a_delivery_is_a_receipt_and_the_body(orders: Orders) -> None:
    message = new({"sku": "A-1"})
    orders.queue(message)
    claim = orders.claim(nonce="n-1")
    (delivery,) = claim.deliveries
    assert delivery.body == message.body
    assert (delivery.receipt.id, delivery.receipt.attempt, delivery.receipt.nonce) == (message.id, 1, "n-1")
    assert claim.lease == orders.limits.lease_ms / 1000
    assert orders.ready() == []
    assert orders.leased() == [message.id]
    assert orders.names() == {"stream", "messages", "states", "leases", "workers", "counters"}


def test_the_lease_begins_with_the_delivery(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    record = orders.record(receipt.id)
    assert record is not None
    assert (record.status, record.attempt, record.nonce) == (b"I", b"1", receipt.nonce.encode())
    assert (record.counts, record.cause, record.entry, record.history) == (b"-", b"-", b"w-1", b"-")
    assert orders.redis.zscore(orders.keys.leases, receipt.id) == int(record.at) + orders.limits.lease_ms


def test_the_queues_own_lease_wins(orders: Orders) -> None:
    orders.define(lease="5000")
    (id,) = orders.put("a")
    assert orders.claim().lease == 5.0
    record = orders.record(id)
    assert record is not None
    assert orders.redis.zscore(orders.keys.leases, id) == int(record.at) + 5_000


def test_first_in_first_out(orders: Orders) -> None:
    ids = orders.put("a", "b", "c")
    assert ids_of(orders.claim(2)) == ids[:2]
    assert ids_of(orders.claim(2)) == ids[2:]
    assert orders.claim().deliveries == []


def test_no_more_than_count_of_a_large_backlog(orders: Orders) -> None:
    ids = orders.put(*range(500)) + orders.put(*range(120))
    assert ids_of(orders.claim(500)) == ids[:500]
    assert orders.ready() == ids[500:]
    assert len(orders.leased()) == 500


@pytest.mark.parametrize("last", ["9-3", "9-999999999999999", "9-18446744073709551615"])
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_it_takes_the_entries_of_what_it_delivers_and_no_others(orders: Orders, last: str, count: int) -> None:
    """Entries of one millisecond, up to the highest sequence that there is."""
    entries = ["7-0", "9-1", last, "10-0"]
    messages = [new(entry) for entry in entries]
    assert orders.queue(*messages) == [None] * 4
    orders.redis.delete(orders.keys.stream)
    for entry, message in zip(entries, messages, strict=True):
        orders.redis.xadd(orders.keys.stream, {"id": message.id}, id=entry)
    assert ids_of(orders.claim(count)) == [message.id for message in messages[:count]]
    assert [entry.decode() for entry, _ in orders.redis.xrange(orders.keys.stream)] == entries[count:]


def test_lapsed_ones_come_first_then_ready_then_due(orders: Orders) -> None:
    (lapsed,) = orders.deliver("lapsed")
    (due,) = orders.put("due", delay=5)
    orders.pass_time(6)
    (ready,) = orders.put("ready")
    orders.lapse(lapsed.id)
    assert ids_of(orders.claim()) == [lapsed.id, ready, due]
    assert orders.scheduled() == orders.ready() == []


def test_count_holds_for_all_kinds_together(orders: Orders) -> None:
    lapsed = orders.deliver("a", "b", "c")
    orders.put("d", "e", delay=5)
    orders.pass_time(6)
    orders.put("f", "g")
    orders.lapse(*(receipt.id for receipt in lapsed))
    assert [len(orders.claim(2).deliveries) for _ in range(5)] == [2, 2, 2, 1, 0]


@pytest.mark.parametrize("id", ODD_IDS)
def test_ids_are_opaque_bytes(orders: Orders, id: bytes) -> None:
    message = new("a", id)
    orders.queue(message)
    first = orders.claim(nonce="n-1")
    assert orders.claim(nonce="n-1").deliveries == first.deliveries != []
    orders.lapse(id)
    (again,) = orders.claim().deliveries
    assert (again.receipt.id, again.receipt.attempt, again.body) == (id, 2, message.body)
    assert orders.complete(again.receipt) == [None]
    orders.pass_time(RETENTION + 1)
    orders.sweep()
    assert orders.names() == {"counters"}


# --- Due messages ---


def test_a_delayed_message_waits_for_its_time(orders: Orders) -> None:
    (id,) = orders.put("later", delay=60)
    assert orders.claim().deliveries == []
    orders.pass_time(61)
    (delivery,) = orders.claim().deliveries
    assert (delivery.receipt.id, delivery.receipt.attempt) == (id, 1)
    assert orders.scheduled() == []


def test_due_messages_without_a_slot_queue_up_as_ready(orders: Orders) -> None:
    first, second = orders.put("a", "b", delay=5)
    orders.pass_time(6)
    (ready,) = orders.put("ready")
    assert ids_of(orders.claim(1)) == [ready]
    moved = orders.ready()
    assert len(moved) == 1
    assert sorted(moved + orders.scheduled()) == sorted([first, second])
    (message,) = orders.get(moved[0])
    assert (message.status, message.attempts) == (Status.PENDING, 0)
    assert message.available_at > message.queued_at
    rest = ids_of(orders.claim(1)) + ids_of(orders.claim(1))
    assert sorted(rest) == sorted([first, second])
    assert rest[0] == moved[0]


def test_a_message_that_was_moved_can_be_deleted(orders: Orders) -> None:
    orders.put("a", delay=5)
    orders.pass_time(6)
    orders.put("ready")
    orders.claim(1)
    (moved,) = orders.ready()
    assert orders.delete(moved) == [None]
    assert orders.ready() == orders.scheduled() == []


# --- Reclaim ---


def test_a_lapsed_lease_is_taken_over(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    assert orders.claim(worker="w-2").deliveries == []
    orders.lapse(receipt.id)
    (delivery,) = orders.claim(worker="w-2", nonce="n-2").deliveries
    assert (delivery.receipt.attempt, delivery.receipt.nonce) == (2, "n-2")
    record = orders.record(receipt.id)
    assert record is not None
    assert (record.numbers, record.cause) == ((0, 0, 0, 1), b"lost")
    assert events(record) == [("lost", 1, "w-1"), ("reclaimed", 2, "w-2")]
    assert orders.counters()["lost"] == 1
    assert orders.redis.zscore(orders.keys.leases, receipt.id) > orders.now_ms()


def test_a_worker_that_has_just_reconnected_takes_no_lapsed_lease(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    (ready,) = orders.put("b")
    claim = orders.claim(lapsed_by=0)
    assert ids_of(claim) == [ready]
    assert claim.wait is None


def test_only_what_had_lapsed_by_a_time_that_was_seen_is_taken_over(orders: Orders) -> None:
    """What has lapsed since may belong to a live holder, whose renewal is under way."""
    early, late = orders.deliver("a", "b")
    now = orders.now_ms()
    orders.redis.zadd(orders.keys.leases, {early.id: now - 5_000, late.id: now - 3_000})
    claim = orders.claim(worker="w-2", lapsed_by=(now - 4_000) / 1000)
    assert ids_of(claim) == [early.id]
    assert claim.wait == 1  # a moment for the holder of the other
    assert orders.renew(late) == [30.0]
    assert orders.claim(worker="w-2").deliveries == []


def test_a_claim_tells_the_time(orders: Orders) -> None:
    before = orders.now_ms()
    assert before - 5 <= orders.claim().time * 1000 <= orders.now_ms() + 5


def test_a_message_whose_leases_lapse_too_often_is_dead(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for attempt in (2, 3):
        orders.lapse(receipt.id)
        (delivery,) = orders.claim().deliveries
        assert delivery.receipt.attempt == attempt
    orders.lapse(receipt.id)
    assert orders.claim().deliveries == []
    assert orders.leased() == []
    assert (orders.dead(), orders.finished()) == ([receipt.id], [])
    assert orders.counters() == {"queued": 1, "lost": 3, "dead": 1}
    (message,) = orders.get(receipt.id)
    assert (message.status, message.error["reason"], message.attempts) == (Status.ERROR, "lost", 3)


def test_the_queues_own_max_lost_wins(orders: Orders) -> None:
    orders.define(max_lost="1")
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    assert orders.claim().deliveries == []
    assert orders.dead() == [receipt.id]


def test_failures_do_not_count_as_lost_leases(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    for _ in range(2):
        assert orders.fail(receipt, delay=0) == [0]
        (delivery,) = orders.claim().deliveries
        receipt = delivery.receipt
    for _ in range(2):
        orders.lapse(receipt.id)
        (delivery,) = orders.claim().deliveries
    assert delivery.receipt.attempt == 5


def test_dead_ones_do_not_use_up_the_count(orders: Orders) -> None:
    orders.limit(max_lost=1)
    (lost,) = orders.deliver("a")
    orders.lapse(lost.id)
    (ready,) = orders.put("b")
    assert ids_of(orders.claim(1)) == [ready]
    assert orders.dead() == [lost.id]


# --- Unreadable ---


def test_a_message_without_its_body_is_an_error(orders: Orders) -> None:
    gone, good = orders.put("gone", "good")
    orders.redis.hdel(orders.keys.messages, gone)
    claim = orders.claim()
    assert ids_of(claim) == [good]
    assert orders.ready() == []
    assert orders.dead() == [gone]
    assert orders.counters() == {"queued": 2, "dead": 1, "unreadable": 1}


def test_a_lapsed_message_without_its_body_is_an_error(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.redis.hdel(orders.keys.messages, receipt.id)
    orders.lapse(receipt.id)
    assert orders.claim().deliveries == []
    assert orders.leased() == []
    assert orders.counters() == {"queued": 1, "lost": 1, "dead": 1, "unreadable": 1}


def test_a_due_message_without_its_body_is_an_error(orders: Orders) -> None:
    (id,) = orders.put("a", delay=5)
    orders.redis.hdel(orders.keys.messages, id)
    orders.pass_time(6)
    assert orders.claim().deliveries == []
    assert orders.scheduled() == []
    assert orders.dead() == [id]


def test_a_lapsed_message_without_its_record_is_delivered_anew(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.redis.hdel(orders.keys.states, receipt.id)
    orders.lapse(receipt.id)
    (delivery,) = orders.claim().deliveries
    assert delivery.receipt.id == receipt.id


# --- Repeats ---


def test_a_repeat_gives_the_same_deliveries_and_charges_nothing(orders: Orders) -> None:
    orders.put("a", "b", "c")
    first = orders.claim(2, nonce="n-1")
    with orders.unchanged():
        again = orders.claim(2, nonce="n-1")
    assert again.deliveries == first.deliveries
    assert again.lease == first.lease


def test_a_repeat_gives_only_what_is_still_held(orders: Orders) -> None:
    orders.put("a", "b", "c", "d", "e")
    done, failed, deleted, lost, held = orders.claim(nonce="n-1").deliveries
    orders.complete(done.receipt)
    orders.fail(failed.receipt, delay=YEAR)
    orders.delete(deleted.receipt.id)
    orders.lapse(lost.receipt.id)
    assert ids_of(orders.claim(worker="w-2")) == [lost.receipt.id]
    with orders.unchanged():
        assert orders.claim(nonce="n-1").deliveries == [held]


def test_a_repeat_is_answered_while_the_queue_is_paused(orders: Orders) -> None:
    orders.put("a")
    first = orders.claim(nonce="n-1")
    orders.define(paused="1")
    assert orders.claim(nonce="n-1").deliveries == first.deliveries


def test_only_the_last_claim_of_each_worker_is_remembered(orders: Orders) -> None:
    ids = orders.put("a", "b", "c", "d")
    assert ids_of(orders.claim(1, nonce="n-1")) == ids[:1]
    assert ids_of(orders.claim(1, nonce="n-1", worker="w-2")) == ids[1:2]
    assert ids_of(orders.claim(1, nonce="n-2")) == ids[2:3]
    assert ids_of(orders.claim(1, nonce="n-1")) == ids[3:]


def test_a_nonce_is_compared_as_a_whole(orders: Orders) -> None:
    ids = orders.put("a", "b")
    assert ids_of(orders.claim(1, nonce="n-10")) == ids[:1]
    assert ids_of(orders.claim(1, nonce="n-1")) == ids[1:]


def test_a_claim_of_nothing_is_not_remembered(orders: Orders) -> None:
    """A repeat may then give more than the lost reply did, which nobody saw."""
    orders.claim(nonce="n-1")
    (id,) = orders.put("a")
    assert ids_of(orders.claim(nonce="n-1")) == [id]


# --- Paused ---


def test_a_paused_queue_hands_nothing_out(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.lapse(receipt.id)
    orders.put("b")
    orders.put("c", delay=1)
    orders.pass_time(2)
    orders.define(paused="1")
    with orders.unchanged():
        claim = orders.claim()
    assert (claim.deliveries, claim.wait) == ([], None)
    orders.define(paused="0")
    assert len(orders.claim().deliveries) == 3


# --- Doorbell and wait ---


def test_what_is_left_rings_on(orders: Orders) -> None:
    orders.put("a", "b")
    orders.hush()
    claim = orders.claim(1)
    assert (orders.rings(), claim.wait) == (1, 0)
    assert orders.claim(1).wait is not None
    assert orders.rings() == 0


def test_a_promoted_message_rings_on(orders: Orders) -> None:
    orders.put("a", delay=5)
    orders.pass_time(6)
    orders.put("b")
    orders.hush()
    claim = orders.claim(1)
    assert (orders.rings(), claim.wait) == (1, 0)


def test_an_empty_queue_silences_the_bell(orders: Orders) -> None:
    orders.put("a", delay=1000)
    assert orders.rings() == 1
    claim = orders.claim()
    assert orders.rings() == 0
    assert claim.wait == pytest.approx(1000, abs=30)


def test_the_wait_lasts_until_the_next_message_is_due(orders: Orders) -> None:
    orders.put("a", delay=2000)
    orders.put("b", delay=1000)
    assert orders.claim().wait == pytest.approx(1000, abs=30)


def test_the_wait_lasts_until_the_next_lease_lapses(orders: Orders) -> None:
    orders.limit(lease_ms=500_000)
    orders.deliver("a")
    orders.put("b", delay=1000)
    assert orders.claim().wait == pytest.approx(500, abs=30)
    assert orders.claim(lapsed_by=0).wait == pytest.approx(1000, abs=30)


def test_without_anything_in_sight_there_is_no_wait(orders: Orders) -> None:
    with orders.unchanged():
        assert orders.claim().wait is None


def test_more_lapsed_leases_than_asked_for_are_claimed_at_once(orders: Orders) -> None:
    receipts = orders.deliver("a", "b")
    orders.lapse(*(receipt.id for receipt in receipts))
    assert orders.claim(1).wait == 0


# --- A claim that waited behind the bell ---


@pytest.mark.parametrize("own", [None, "60000", "2000"])
@pytest.mark.parametrize("several", [False, True])
def test_the_first_lease_is_no_longer_than_asked_for(orders: Orders, own: str | None, several: bool) -> None:
    if own is not None:
        orders.define(lease=own)
    orders.put(*("ab" if several else "a"))
    claim = orders.claim(5, first_lease=5.0)
    lease = 2.0 if own == "2000" else 5.0
    assert claim.lease == lease
    for delivery in claim.deliveries:
        left = orders.redis.zscore(orders.keys.leases, delivery.receipt.id) - orders.now_ms()
        assert lease * 1000 - 4000 < left <= lease * 1000
    renewed = orders.renew(*(delivery.receipt for delivery in claim.deliveries))
    assert renewed == [int(own or 30_000) / 1000] * len(claim.deliveries)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("most", [1, 2])
def test_where_a_second_lapse_is_death_it_hands_out_nothing(orders: Orders, own: bool, most: int) -> None:
    if own:
        orders.define(max_lost=str(most))
    else:
        orders.limit(max_lost=most)
    ids = orders.put("a")
    claim = orders.claim(5, first_lease=5.0)
    assert (claim.deliveries, claim.wait) == ([], 0.0)
    assert [delivery.receipt.id for delivery in orders.claim(5).deliveries] == ids


def test_with_skip_only_a_repeat_is_answered(orders: Orders) -> None:
    ids = orders.put("a", "b")
    assert orders.claim(5, nonce="n-1", skip=0).deliveries == []
    assert orders.ready() == ids
    assert len(orders.claim(1, nonce="n-2").deliveries) == 1
    with orders.unchanged():
        again = orders.claim(5, nonce="n-2", skip=0)
        assert [delivery.receipt.id for delivery in again.deliveries] == ids[:1]
        assert orders.claim(5, nonce="n-2", skip=1).deliveries == []


# --- Sweeping ---


def test_claiming_sweeps_up_to_128_leftovers_where_there_is_more_to_do(orders: Orders) -> None:
    orders.complete(*orders.deliver(*range(130)))
    orders.pass_time(RETENTION + 1)
    orders.claim()
    assert len(orders.finished()) == 130  # there was nothing to claim, so nothing was written
    orders.queue(new("next"))
    orders.claim()
    assert len(orders.finished()) == 130  # an ordinary claim, which leaves it to others
    orders.queue(new("two"))
    orders.queue(new("three"))
    orders.claim()
    assert len(orders.finished()) == 2


# --- Large bodies ---


@pytest.mark.parametrize(
    ("size", "budget", "least", "most"), [(900, 5_000, 5, 12), (900, 0, 1, 10), (5, 1_000, 30, 30)]
)
def test_a_claim_is_bounded_by_the_bytes_it_hands_out(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, size: int, budget: int, least: int, most: int
) -> None:
    monkeypatch.setattr(store.deliveries, "CLAIM_BYTES", budget)
    ids = orders.put(*(str(number).zfill(size) for number in range(30)))
    found: list[bytes] = []
    while len(found) < 30:
        claim = orders.claim(30)
        given = [delivery.receipt.id for delivery in claim.deliveries]
        assert least <= len(given) <= most or len(found) + len(given) == 30
        found += given
        assert claim.wait == 0 or len(found) == 30  # it is told to claim again at once
        assert orders.stats().ready == 30 - len(found)
    assert found == ids


def test_what_a_bounded_claim_leaves_stays_where_it_is(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lapsed, urgent, ready and due ones alike."""
    lapsed = orders.deliver(*("x" * 900 for _ in range(12)))
    due = orders.put(*("x" * 900 for _ in range(12)), delay=5.0)
    orders.pass_time(6)
    ready = orders.put(*("x" * 900 for _ in range(12)))
    urgent = orders.put(*("x" * 900 for _ in range(12)), priority=3)
    orders.lapse(*(receipt.id for receipt in lapsed))
    monkeypatch.setattr(store.deliveries, "CLAIM_BYTES", 0)
    wanted = {receipt.id for receipt in lapsed} | {*due, *ready, *urgent}
    found: set[bytes] = set()
    while True:
        claim = orders.claim(100)
        given = {delivery.receipt.id for delivery in claim.deliveries}
        assert not given & found
        found |= given
        assert set(orders.leased()) >= found
        stats = orders.stats()
        assert stats.ready + stats.scheduled + stats.in_progress == len(wanted)
        if not given:
            break
        assert claim.wait is not None
    assert found == wanted


@pytest.mark.parametrize("budget", [0, 5_000])
def test_due_messages_join_in_beside_a_backlog_that_uses_up_the_bytes_of_every_claim(
    orders: Orders, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(store.deliveries, "CLAIM_BYTES", budget)
    large = "x" * 900
    late = orders.put(*[large] * 3, delay=5.0)
    (urgent,) = orders.put(large, delay=5.0, priority=9)
    orders.pass_time(6)
    orders.put(*[large] * 40)
    found: list[bytes] = []
    for _ in range(4):
        given = [delivery.receipt.id for delivery in orders.claim(40).deliveries]
        assert given[0] == urgent or urgent not in given
        found += given
        assert len(orders.ready()) >= 30  # the backlog stays
        orders.put(*[large] * len(given))
    assert {*late, urgent} <= set(found)
    assert len(found) > 4  # and goes on meanwhile


def test_of_bodies_larger_than_its_bytes_a_claim_hands_out_one(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.deliveries, "CLAIM_BYTES", 800)
    ids = orders.put(*["x" * 900] * 5)
    assert [[delivery.receipt.id for delivery in orders.claim().deliveries] for _ in ids] == [[id] for id in ids]


def test_the_first_bodies_are_no_more_than_there_is_room_for(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.deliveries, "CLAIM_BYTES", 3_000)
    orders.put(*["x" * 900] * 9)
    assert [len(orders.claim().deliveries) for _ in range(3)] == [4, 4, 1]


def test_a_claim_that_comes_after_it_was_asked_for_gives_nothing(orders: Orders) -> None:
    """A worker that stops asks for what its claim gave, while that may be on its way yet behind a closed connection."""
    (id,) = orders.put("a")
    assert orders.claim(nonce="n" * 12, skip=0).deliveries == []
    assert orders.claim(nonce="n" * 12, first_lease=5.0).deliveries == []
    assert orders.ready() == [id]
    assert [delivery.receipt.id for delivery in orders.claim(nonce="o" * 12).deliveries] == [id]
