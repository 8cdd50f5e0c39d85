"""`cancel`: what waits ends as cancelled; what is in progress ends so unless its worker has a result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from redisq.errors import LeaseLost, MessageNotFound
from redisq.model.delivery import Receipt
from redisq.store.keys import new_id
from redisq.store.record import CANCELLED, Record
from tests.scripts.conftest import DEAD, ERROR, RETENTION, WINDOW, YEAR, Orders, events, new
from tests.scripts.test_delete import complete, dead, delayed, handed_back, ready, retried
from tests.support.queues.invariants import broken


def urgent(orders: Orders) -> bytes:
    (id,) = orders.put("a", priority=4)
    return id


def expiring(orders: Orders) -> bytes:
    (id,) = orders.put("a", expires_in=YEAR, priority=4)
    return id


WAITING = [ready, delayed, handed_back, retried, urgent, expiring]
waiting = pytest.mark.parametrize("status", WAITING)


def told(orders: Orders, value: object = "a", **when: float) -> Receipt:
    """A message in progress whose worker is told."""
    orders.put(value, **when)
    (delivery,) = orders.claim(1).deliveries
    assert orders.cancel(delivery.receipt.id) == [None]
    return delivery.receipt


def assert_cancelled(orders: Orders, id: bytes, attempts: int) -> None:
    (message,) = orders.get(id)
    assert (message.status, message.error["reason"], message.attempts) == ("ERROR", "cancelled", attempts)
    assert message.result is message.progress is None
    assert [event for event in events(orders.record(id)) if event[0] == "cancelled"] == [
        ("cancelled", attempts, "shop")
    ]
    assert orders.finished() == [id]
    assert orders.ready() == orders.scheduled() == orders.leased() == orders.dead() == orders.urgent() == []
    stats = orders.stats()
    assert (stats.cancelled, stats.finished, stats.dead, stats.died) == (1, 1, 0, 0)
    assert broken(orders.raw) == []


# --- What waits ---


@waiting
def test_what_waits_ends_at_once(orders: Orders, status: Callable[[Orders], bytes]) -> None:
    id = status(orders)
    assert orders.cancel(id) == [True]
    assert_cancelled(orders, id, orders.get(id)[0].attempts)
    assert orders.get(id)[0].error == {**CANCELLED, "reason": "cancelled"}
    assert orders.claim().deliveries == []


@waiting
def test_again_it_changes_nothing(orders: Orders, status: Callable[[Orders], bytes]) -> None:
    id = status(orders)
    orders.cancel(id)
    with orders.unchanged():
        assert orders.cancel(id, id) == [True, True]


@pytest.mark.parametrize("status", [complete, dead])
def test_what_has_finished_stays_as_it_is(orders: Orders, status: Callable[[Orders], bytes]) -> None:
    id = status(orders)
    with orders.unchanged():
        assert orders.cancel(id) == [False]


def test_what_is_unknown_is_not_found_and_spoils_no_other(orders: Orders) -> None:
    first, second, gone = orders.put("a", "b", "c")
    orders.delete(gone)
    outcomes = orders.cancel(first, new_id(), gone, second, first)
    assert [outcomes[i] for i in (0, 3, 4)] == [True, True, True]
    assert isinstance(outcomes[1], MessageNotFound)
    assert isinstance(outcomes[2], MessageNotFound)
    assert orders.counters()["cancelled"] == 2


def test_what_cannot_be_read_is_not_found(orders: Orders) -> None:
    first, second = orders.put("a", "b")
    orders.redis.hset(orders.keys.states, first, b"nonsense")
    orders.redis.hdel(orders.keys.messages, second)
    with orders.unchanged():
        assert all(isinstance(outcome, MessageNotFound) for outcome in orders.cancel(first, second))


def test_it_is_kept_as_long_as_a_result(orders: Orders) -> None:
    id = ready(orders)
    orders.cancel(id)
    orders.pass_time(RETENTION - 60)
    assert orders.sweep() == (0, False)
    assert DEAD > RETENTION
    orders.pass_time(60)
    orders.sweep()
    assert isinstance(orders.get(id)[0], MessageNotFound)
    orders.pass_time(WINDOW)
    orders.sweep()
    assert orders.names() <= {"counters", "bell"}


def test_no_redrive_takes_it(orders: Orders) -> None:
    id = ready(orders)
    orders.cancel(id)
    assert orders.letters() == []
    with orders.unchanged():
        assert isinstance(orders.redrive(id)[0], MessageNotFound)
        assert isinstance(orders.delete(id, letters_only=True)[0], MessageNotFound)


def test_it_can_be_deleted(orders: Orders) -> None:
    id = ready(orders)
    orders.cancel(id)
    assert orders.delete(id) == [None]
    assert orders.finished() == []
    assert broken(orders.raw) == []


def test_its_id_may_be_used_anew_once_it_is_forgotten(orders: Orders) -> None:
    message = new("a")
    orders.queue(message)
    orders.cancel(message.id)
    assert orders.queue(message) == [None]
    assert orders.ready() == []
    orders.pass_time(RETENTION + WINDOW)
    assert orders.queue(message) == [None]
    assert (orders.ready(), orders.finished()) == ([message.id], [])


# --- What is in progress ---


def test_the_next_renewal_tells(orders: Orders) -> None:
    receipt, other = told(orders), orders.deliver("b")[0]
    assert [renewal.cancelled for renewal in orders.renewals(receipt, other)] == [True, False]
    assert orders.renewals(receipt, progress=b"\x07") == [(30.0, True)]
    (message,) = orders.get(receipt.id)
    assert (message.status, message.progress, message.expires_at) == ("INPROGRESS", 7, None)


def test_once_is_enough(orders: Orders) -> None:
    receipt = told(orders)
    with orders.unchanged():
        assert orders.cancel(receipt.id, receipt.id) == [None, None]


def test_a_result_counts(orders: Orders) -> None:
    receipt = told(orders)
    assert orders.complete(receipt) == [None]
    (message,) = orders.get(receipt.id)
    assert (message.status, message.result, orders.stats().cancelled) == ("COMPLETE", "done", 0)
    assert orders.cancel(receipt.id) == [False]


@pytest.mark.parametrize("how", [{}, {"delay": 0.0}, {"final": True}, {"cause": "rejected"}, {"delay": YEAR}])
def test_a_failure_ends_it(orders: Orders, how: dict[str, object]) -> None:
    receipt = told(orders)
    for _ in range(2):
        assert orders.fail(receipt, **how) == [None]
    assert_cancelled(orders, receipt.id, 1)
    assert (orders.record(receipt.id).payload, orders.stats().failed) == (ERROR, 0)


def test_what_is_handed_back_ends(orders: Orders) -> None:
    receipt = told(orders)
    for _ in range(2):
        assert orders.release(receipt) == [None]
    assert_cancelled(orders, receipt.id, 1)
    assert orders.stats().released == 0


@pytest.mark.parametrize("when", [{}, {"priority": 3}, {"expires_in": YEAR}, {"expires_in": YEAR, "priority": 3}])
def test_a_lease_that_lapses_ends_it(orders: Orders, when: dict[str, float]) -> None:
    receipt = told(orders, **when)
    orders.lapse(receipt.id)
    assert orders.claim(worker="w-2").deliveries == []
    assert_cancelled(orders, receipt.id, 1)
    assert [event for event, _, _ in events(orders.record(receipt.id))] == ["cancelled", "lost"]
    assert isinstance(orders.complete(receipt)[0], LeaseLost)


def test_others_in_one_call_go_their_ways(orders: Orders) -> None:
    first, second, third = orders.deliver("a", "b", "c")
    orders.cancel(second.id)
    assert orders.fail(first, second, delay=YEAR) == [YEAR, None]
    assert orders.release(third) == [None]
    stats = orders.stats()
    assert (stats.failed, stats.died, stats.cancelled, stats.released) == (1, 0, 1, 1)
    assert broken(orders.raw) == []


def test_one_that_was_redriven_may_be_cancelled_anew(orders: Orders) -> None:
    id = dead(orders)
    orders.redrive(id)
    assert orders.cancel(id) == [True]
    assert events(orders.record(id))[-2:] == [("redriven", 1, "shop"), ("cancelled", 1, "shop")]


def test_a_worker_of_another_version_cannot_have_it_delivered_again(orders: Orders) -> None:
    """It fails as one that knows nothing of cancelling: the history says what is to be, and the body has expired."""
    receipt = told(orders, priority=5)
    record = orders.record(receipt.id)
    record = record._replace(status=b"P", cause=b"failed", at=b"1", entry=b"-", payload=ERROR)
    orders.redis.hset(orders.keys.states, receipt.id, record.text)
    orders.redis.zrem(orders.keys.leases, receipt.id)
    orders.redis.zadd(orders.keys.scheduled, {receipt.id: 1})
    assert orders.claim().deliveries == []
    assert_cancelled(orders, receipt.id, 1)


def test_one_that_another_version_redrove_is_delivered(orders: Orders) -> None:
    id = ready(orders)
    orders.cancel(id)
    record: Record = orders.record(id)
    ready_at = orders.redis.xadd(orders.keys.stream, {"id": id})
    history = record.history + b";redriven,0,%d,shop" % orders.now_ms()
    orders.redis.hset(
        orders.keys.states, id, record._replace(status=b"P", cause=b"redriven", entry=ready_at, history=history).text
    )
    (delivery,) = orders.claim().deliveries
    assert orders.renewals(delivery.receipt) == [(30.0, False)]
    assert orders.fail(delivery.receipt, delay=YEAR) == [YEAR]
    orders.pass_time(RETENTION + 1)
    orders.sweep()
    assert orders.finished() == []
    assert orders.get(id)[0].status == "PENDING"


# --- Hints ---


def test_only_those_who_may_work_in_vain_are_told(orders: Orders) -> None:
    first, second = orders.deliver("a", "b")
    (third,) = orders.put("c")
    with orders.redis.pubsub(ignore_subscribe_messages=True) as hints:
        hints.subscribe(orders.keys.hints)
        assert hints.get_message(timeout=5) is None
        orders.cancel(third, first.id, first.id)
        orders.delete(second.id, third)
        heard = [hints.get_message(timeout=5)["data"] for _ in range(3)]
        assert hints.get_message() is None
    assert heard == [first.id, first.id, second.id]
