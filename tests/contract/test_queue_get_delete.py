"""What queueing, looking up and deleting promise, and the operations on whole queues."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from redisq import (
    BatchError,
    InvalidDefinition,
    InvalidMessage,
    LeaseLost,
    Message,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    Status,
    embedded,
)
from redisq.model.queue import Definition
from tests.support.servers.proxy import Proxy, script, until

QUEUE = "orders"
ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
OTHER = "f4d8c3a2-0b6e-4a51-9c7d-3e2f1a0b9c8d"
STATUSES = ["PENDING", "INPROGRESS", "COMPLETE", "ERROR"]
NOT_IDS = [
    "nonsense",
    "05749898-74A0-47E1-B10D-5ACF29D040C4",
    "{05749898-74a0-47e1-b10d-5acf29d040c4}",
    "0574989874a047e1b10d5acf29d040c4",
    "05749898-74a0-47e1-b10d-5acf29d040c4\n",
    "",
    None,
    7,
    b"05749898-74a0-47e1-b10d-5acf29d040c4",
]


def check_times(message: Message) -> None:
    """Each time is aware, in UTC, of this minute, and in the order of a message's life."""
    times = [message.queued_at, message.started_at, message.finished_at]
    now = datetime.now(UTC)
    known = [moment for moment in times if moment is not None]
    assert known == sorted(known)
    for moment in [*known, *filter(None, [message.available_at])]:
        assert moment.utcoffset() == timedelta(0)
        assert abs(moment - now) < timedelta(minutes=1)


# --- Looking up -------------------------------------------------------------------------------------------------------


def test_a_queued_message_is_pending(mq: Any) -> None:
    id = mq.queue_message(QUEUE, {"sku": "A-1"})
    message = mq.get_message(QUEUE, id)
    assert str(uuid.UUID(id)) == id
    assert message == Message(
        id, QUEUE, Status.PENDING, {"sku": "A-1"}, queued_at=message.queued_at, available_at=message.queued_at
    )
    assert message.queued_at is not None
    assert not message.finished
    check_times(message)


def test_a_claimed_message_is_in_progress(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    hand.progress(hand.claim(), {"percent": 40})
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.request, message.attempts) == (Status.INPROGRESS, "work", 1)
    assert (message.result, message.error, message.progress) == (None, None, {"percent": 40})
    assert message.started_at is not None
    assert message.finished_at is None
    assert not message.finished
    check_times(message)


def test_a_completed_message_has_its_result(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    hand.complete(hand.claim(), {"total": 3, "pdf": b"\0\xff"})
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.request, message.attempts) == (Status.COMPLETE, "work", 1)
    assert (message.result, message.error) == ({"total": 3, "pdf": b"\0\xff"}, None)
    assert None not in (message.queued_at, message.started_at, message.finished_at)
    assert message.finished
    check_times(message)


def test_a_failed_message_has_its_error(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    assert hand.fail(hand.claim(), "no stock", final=True) is None
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.request, message.result) == (Status.ERROR, "work", None)
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    assert message.finished
    assert message.finished_at is not None
    check_times(message)


def test_a_message_that_waits_for_its_retry_is_pending_and_says_why(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    assert hand.fail(hand.claim(), "no stock", delay=30) == 30
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.attempts) == (Status.PENDING, 1)
    assert message.error == {"type": "ValueError", "message": "no stock", "reason": "failed"}
    assert message.available_at - message.queued_at >= timedelta(seconds=30)
    assert hand.claim_up_to(1) == []


def test_a_message_that_was_handed_back_is_pending_without_an_error(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    hand.release(hand.claim())
    message = mq.get_message(QUEUE, id)
    assert (message.status, message.attempts, message.error) == (Status.PENDING, 1, None)
    assert hand.claim().receipt.attempt == 2


def test_a_lease_that_lapses_for_the_last_time_ends_the_message(mq: Any, hand: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    mq.define(QUEUE, max_lost=2)
    for attempt in (1, 2):
        assert hand.claim().receipt.attempt == attempt
        raw.redis.zadd(raw.keys.leases, {uuid.UUID(id).bytes: 0})
    assert hand.claim_up_to(1) == []
    message = mq.get_message(QUEUE, id)
    assert message.status is Status.ERROR
    assert message.error["type"] == "LeaseLost"
    assert message.error["reason"] == "lost"


@pytest.mark.parametrize("status", STATUSES)
def test_a_message_can_be_written_as_json(mq: Any, hand: Any, status: str) -> None:
    moment = datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    id = mq.queue_message(QUEUE, {"at": moment, "raw": b"\0\1", "tuple": (1, 2)})
    hand.bring(id, status, result={"pdf": b"\xff"})
    shown = json.loads(json.dumps(mq.get_message(QUEUE, id).to_dict()))
    assert {"id", "queue", "status", "request", "result", "error"} <= shown.keys()
    assert (shown["id"], shown["queue"], shown["status"]) == (id, QUEUE, status)
    assert shown["request"] == {"at": "2024-05-01T10:30:00.000Z", "raw": "AAE=", "tuple": [1, 2]}
    assert shown["result"] == ({"pdf": "/w=="} if status == "COMPLETE" else None)
    assert datetime.fromisoformat(shown["queued_at"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize("id", [*NOT_IDS, OTHER, uuid.UUID(OTHER)], ids=repr)
def test_an_unknown_id_is_not_found(mq: Any, id: Any) -> None:
    mq.queue_message(QUEUE, 1, id=ID)
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, id)
    with pytest.raises(MessageNotFound):
        mq.delete_message(QUEUE, id)
    assert mq.get_message(QUEUE, ID).status is Status.PENDING


def test_a_message_is_found_by_its_uuid_too(mq: Any) -> None:
    mq.queue_message(QUEUE, 1, id=ID)
    assert mq.get_message(QUEUE, uuid.UUID(ID)).id == ID
    mq.delete_message(QUEUE, uuid.UUID(ID))


def test_a_message_belongs_to_its_queue(mq: Any) -> None:
    id = mq.queue_message(QUEUE, 1)
    with pytest.raises(MessageNotFound):
        mq.get_message("invoices", id)
    with pytest.raises(MessageNotFound):
        mq.delete_message("invoices", id)
    assert mq.queue_message("invoices", 2, id=id) == id
    assert mq.get_message(QUEUE, id).request == 1


def test_a_finished_message_is_not_found_once_its_retention_has_passed(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1)
    hand.bring(id, "COMPLETE")
    mq.define(QUEUE, retention=0)
    mq.sweep(QUEUE)
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, id)


class Waiter(threading.Thread):
    """Does something once a client behind a proxy has looked twice."""

    def __init__(self, proxy: Proxy, work: Any) -> None:
        super().__init__()
        self.proxy, self.work = proxy, work

    def run(self) -> None:
        until(lambda: self.proxy.count(script("get")) >= 2)
        self.work()


@pytest.mark.parametrize("status", ["COMPLETE", "ERROR"])
def test_waiting_ends_when_the_message_has_finished(
    make_client: Any, raw: Any, hand_on: Any, server: embedded.EmbeddedServer, status: str
) -> None:
    with Proxy(server.url) as proxy:
        mq = make_client(raw.settings.model_copy(update={"url": proxy.url}))
        hand = hand_on(raw.settings)
        id = mq.queue_message(QUEUE, "work")
        waiter = Waiter(proxy, lambda: hand.bring(id, status, result=42))
        waiter.start()
        message = mq.get_message(QUEUE, id, wait=60)
        waiter.join()
    assert message.status == status


def test_waiting_ends_when_the_message_is_deleted(make_client: Any, raw: Any, server: embedded.EmbeddedServer) -> None:
    with Proxy(server.url) as proxy:
        mq, other = make_client(raw.settings.model_copy(update={"url": proxy.url})), make_client(raw.settings)
        id = mq.queue_message(QUEUE, "work")
        waiter = Waiter(proxy, lambda: other.delete_message(QUEUE, id))
        waiter.start()
        with pytest.raises(MessageNotFound):
            mq.get_message(QUEUE, id, wait=60)
        waiter.join()


@pytest.mark.parametrize("wait", [0, 0.05, None])
def test_waiting_gives_the_message_as_it_is_when_the_time_is_up(mq: Any, wait: float | None) -> None:
    id = mq.queue_message(QUEUE, "work")
    assert mq.get_message(QUEUE, id, wait=wait).status is Status.PENDING


def test_waiting_for_a_finished_message_takes_one_look(make_client: Any, raw: Any, hand_on: Any) -> None:
    with Proxy(raw.server.url) as proxy:
        mq = make_client(raw.settings.model_copy(update={"url": proxy.url}))
        id = mq.queue_message(QUEUE, "work")
        hand_on(raw.settings).bring(id, "COMPLETE")
        mq.get_message(QUEUE, id)  # from now on the server knows the script
        before = proxy.count(script("get"))
        assert mq.get_message(QUEUE, id, wait=60).status is Status.COMPLETE
        assert proxy.count(script("get")) == before + 1


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), True, "5"], ids=repr)
def test_a_wait_that_is_no_time_is_refused(mq: Any, wait: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    with pytest.raises(ValueError, match="wait="):
        mq.get_message(QUEUE, id, wait=wait)


# --- Deleting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
def test_a_message_of_any_status_can_be_deleted_once(mq: Any, hand: Any, status: str) -> None:
    id = mq.queue_message(QUEUE, "work")
    hand.bring(id, status)
    assert mq.delete_message(QUEUE, id) is None
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, id)
    with pytest.raises(MessageNotFound):
        mq.delete_message(QUEUE, id)
    assert hand.claim_up_to(10) == []
    stats = mq.stats(QUEUE)
    assert (stats.ready, stats.scheduled, stats.in_progress, stats.finished, stats.dead) == (0, 0, 0, 0, 0)
    assert stats.deleted == 1


def test_a_delayed_message_can_be_deleted(mq: Any) -> None:
    id = mq.queue_message(QUEUE, "work", delay=60)
    mq.delete_message(QUEUE, id)
    assert mq.stats(QUEUE).scheduled == 0


def test_deleting_a_message_in_progress_takes_it_from_its_holder(mq: Any, hand: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, "work")
    delivery = hand.claim()
    mq.delete_message(QUEUE, id)
    before = raw.digest()
    for attempt in (hand.complete, hand.fail, hand.release, lambda delivery: hand.progress(delivery, 1)):
        with pytest.raises(LeaseLost):
            attempt(delivery)
    assert raw.digest() == before


# --- Ids of the caller's choice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [ID, uuid.UUID(ID)], ids=["str", "UUID"])
@pytest.mark.parametrize("status", STATUSES)
def test_queueing_again_with_the_same_id_and_body_changes_nothing(
    mq: Any, hand: Any, raw: Any, status: str, id: Any
) -> None:
    assert mq.queue_message(QUEUE, {"n": 1}, id=id) == ID
    hand.bring(ID, status)
    before = raw.digest()
    assert mq.queue_message(QUEUE, {"n": 1}, id=id) == ID
    with pytest.raises(MessageConflict):
        mq.queue_message(QUEUE, {"n": 2}, id=id)
    assert raw.digest() == before
    assert mq.get_message(QUEUE, ID).status == status


def test_the_id_of_a_deleted_message_is_remembered(mq: Any, raw: Any) -> None:
    mq.queue_message(QUEUE, 1, id=ID)
    mq.delete_message(QUEUE, ID)
    before = raw.digest()
    assert mq.queue_message(QUEUE, 1, id=ID) == ID
    with pytest.raises(MessageConflict):
        mq.queue_message(QUEUE, 2, id=ID)
    assert raw.digest() == before
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, ID)


@pytest.mark.parametrize("status", ["COMPLETE", "ERROR"])
def test_the_id_of_a_finished_message_is_remembered_beyond_its_retention(mq: Any, hand: Any, status: str) -> None:
    mq.define(QUEUE, retention=0)
    mq.queue_message(QUEUE, 1, id=ID)
    hand.bring(ID, status)
    mq.sweep(QUEUE)
    assert mq.queue_message(QUEUE, 1, id=ID) == ID
    with pytest.raises(MessageConflict):
        mq.queue_message(QUEUE, 2, id=ID)
    assert mq.stats(QUEUE).ready == 0


@pytest.mark.parametrize("end", ["delete", "COMPLETE"])
def test_after_the_deduplication_window_an_id_is_free(mq: Any, hand: Any, end: str) -> None:
    mq.define(QUEUE, retention=0, dedup_window=0)
    mq.queue_message(QUEUE, 1, id=ID)
    if end == "delete":
        mq.delete_message(QUEUE, ID)
    else:
        hand.bring(ID, end)
    assert mq.queue_message(QUEUE, 2, id=ID) == ID
    message = mq.get_message(QUEUE, ID)
    assert (message.status, message.request) == (Status.PENDING, 2)


# --- Many at once -----------------------------------------------------------------------------------------------------


def test_many_messages_keep_their_order(make_client: Any, raw_real: Any, hand_on: Any) -> None:
    mq, hand = make_client(raw_real.settings), hand_on(raw_real.settings)
    ids = mq.queue_messages(QUEUE, ({"n": n} for n in range(2000)))
    assert len(set(ids)) == 2000
    assert mq.stats(QUEUE).ready == 2000
    claimed = [delivery for _ in range(4) for delivery in hand.claim_up_to(500)]
    assert [str(uuid.UUID(bytes=delivery.receipt.id)) for delivery in claimed] == ids
    assert mq.get_message(QUEUE, ids[1234]).request == {"n": 1234}


def test_many_large_messages_travel_in_several_calls(make_client: Any, raw_real: Any) -> None:
    mq = make_client(raw_real.settings)
    bodies = [bytes([n]) * 700_000 for n in range(5)]
    ids = mq.queue_messages(QUEUE, bodies)
    assert [mq.get_message(QUEUE, id).request for id in ids] == bodies


def test_a_batch_takes_ids(mq: Any, raw: Any) -> None:
    ids = [str(uuid.uuid4()), uuid.uuid4(), str(uuid.uuid4())]
    assert mq.queue_messages(QUEUE, list("abc"), ids=ids) == [str(id) for id in ids]
    before = raw.digest()
    assert mq.queue_messages(QUEUE, ["a", "b", "c"], ids=ids) == [str(id) for id in ids]
    assert raw.digest() == before


def test_an_empty_batch_is_nothing(mq: Any, raw: Any) -> None:
    assert mq.queue_messages(QUEUE, []) == []
    assert raw.digest() == {}


def test_the_same_id_twice_in_a_batch_is_one_message(mq: Any) -> None:
    assert mq.queue_messages(QUEUE, [1, 1], ids=[ID, ID]) == [ID, ID]
    assert mq.stats(QUEUE).ready == 1


def test_a_batch_names_what_it_refused_and_queues_the_rest(mq: Any) -> None:
    mq.queue_message(QUEUE, "other", id=ID)
    mq.define(QUEUE, max_bytes=100)
    bodies = ["first", {1, 2}, "x" * 200, "conflict", "last", {"a": [float("nan")]}]
    ids = [str(uuid.uuid4()) for _ in bodies]
    ids[3] = ID
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, bodies, ids=ids)
    errors = caught.value.errors
    assert caught.value.ids == ids
    assert {index: type(error) for index, error in errors.items()} == {
        1: InvalidMessage,
        2: MessageTooLarge,
        3: MessageConflict,
        5: InvalidMessage,
    }
    assert isinstance(errors[5], InvalidMessage)
    assert errors[5].path == "$.a[0]"
    assert [mq.get_message(QUEUE, ids[index]).request for index in (0, 4)] == ["first", "last"]
    for index in (1, 2, 5):
        with pytest.raises(MessageNotFound):
            mq.get_message(QUEUE, ids[index])
    assert mq.stats(QUEUE).ready == 3


def test_a_batch_can_be_retried_with_its_ids(mq: Any) -> None:
    mq.define(QUEUE, max_length=2)
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, ["a", "b", "c"])
    assert list(caught.value.errors) == [2]
    assert isinstance(caught.value.errors[2], QueueFull)
    mq.define(QUEUE, max_length=None)
    assert mq.queue_messages(QUEUE, ["a", "b", "c"], ids=caught.value.ids) == caught.value.ids
    assert mq.stats(QUEUE).ready == 3
    assert mq.stats(QUEUE).queued == 3


@pytest.mark.parametrize("ids", [[ID], [ID, "nonsense"], [ID, None]], ids=repr)
def test_a_batch_with_wrong_ids_is_refused_as_a_whole(mq: Any, raw: Any, ids: Any) -> None:
    with pytest.raises(InvalidMessage):
        mq.queue_messages(QUEUE, ["a", "b"], ids=ids)
    assert raw.digest() == {}


# --- Delays and limits ------------------------------------------------------------------------------------------------


def test_a_delayed_message_waits(mq: Any, hand: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, "later", delay=60)
    message = mq.get_message(QUEUE, id)
    assert message.status is Status.PENDING
    assert message.available_at - message.queued_at == timedelta(seconds=60)
    assert hand.claim_up_to(1) == []
    assert mq.stats(QUEUE).scheduled == 1
    raw.redis.zadd(raw.keys.scheduled, {uuid.UUID(id).bytes: 0})
    assert hand.claim().receipt.id == uuid.UUID(id).bytes


def test_a_full_queue_refuses_and_says_when_to_come_again(mq: Any, hand: Any, raw: Any) -> None:
    mq.define(QUEUE, max_length=2)
    mq.queue_message(QUEUE, 1, id=ID)
    mq.queue_message(QUEUE, 2, delay=60)
    before = raw.digest()
    with pytest.raises(QueueFull) as caught:
        mq.queue_message(QUEUE, 3)
    assert caught.value.retry_after > 0
    assert mq.queue_message(QUEUE, 1, id=ID) == ID  # it is in the queue already
    assert raw.digest() == before
    hand.claim()  # what is in progress does not wait
    mq.queue_message(QUEUE, 3)


def test_a_queue_has_its_own_largest_message(mq: Any, raw: Any) -> None:
    mq.define(QUEUE, max_bytes=1000)
    before = raw.digest()
    with pytest.raises(MessageTooLarge):
        mq.queue_message(QUEUE, "x" * 1000)
    assert raw.digest() == before
    mq.queue_message(QUEUE, "x" * 900)
    mq.define(QUEUE, max_bytes=3 * 1024 * 1024)
    id = mq.queue_message(QUEUE, "x" * (2 * 1024 * 1024))
    assert len(mq.get_message(QUEUE, id).request) == 2 * 1024 * 1024


# --- Queues -----------------------------------------------------------------------------------------------------------


def test_stats_count_what_there_is_and_what_there_was(mq: Any, hand: Any) -> None:
    mq.queue_messages(QUEUE, range(6))
    mq.queue_message(QUEUE, "later", delay=60)
    done, failed, dead, back, _ = hand.claim_up_to(5)
    hand.complete(done)
    hand.fail(failed, delay=60)
    hand.fail(dead, final=True)
    hand.release(back)
    stats = mq.stats(QUEUE)
    now = (stats.ready, stats.scheduled, stats.in_progress, stats.finished, stats.dead)
    assert now == (2, 2, 1, 2, 1)
    totals = (stats.queued, stats.completed, stats.failed, stats.died, stats.released, stats.lost, stats.deleted)
    assert totals == (7, 1, 2, 1, 1, 0, 0)
    assert stats.queue == QUEUE
    assert stats.oldest_age is not None
    assert json.loads(json.dumps(stats.to_dict()))["ready"] == 2


def test_looking_at_an_unknown_queue_makes_none(mq: Any, raw: Any) -> None:
    stats = mq.stats(QUEUE)
    assert (stats.ready, stats.queued, stats.oldest_age) == (0, 0, None)
    assert mq.define(QUEUE) == Definition()
    assert mq.sweep(QUEUE) == 0
    assert mq.queues() == []
    assert raw.digest() == {}


def test_queues_are_listed_by_name(mq: Any) -> None:
    mq.queue_message("orders", 1)
    mq.queue_messages("invoices", [1, 2])
    mq.define("mails", max_length=5)
    assert mq.queues() == ["invoices", "mails", "orders"]


def test_a_setting_that_another_program_spoilt_counts_as_not_set(mq: Any, raw: Any) -> None:
    mq.define(QUEUE, lease=60)
    raw.redis.hset(raw.keys.config, mapping={"max_length": "many", "retention": "-1"})
    assert mq.define(QUEUE) == Definition(lease=60)
    assert mq.define(QUEUE, max_length=5, retention=60) == Definition(lease=60, max_length=5, retention=60)


def test_a_definition_is_stored_changed_and_taken_back(mq: Any, make_client: Any) -> None:
    changes: dict[str, Any] = {
        "max_length": 10,
        "max_bytes": 1000,
        "max_attempts": 3,
        "max_lost": 4,
        "backoff_base": 0.25,
        "backoff_cap": 60,
        "lease": 12.5,
        "retention": 3600,
        "dead_retention": 7200,
        "dedup_window": 0,
        "paused": True,
        "security": "none",
        "schema": {"type": "object", "required": ["sku"]},
        "check_formats": False,
    }
    assert mq.define(QUEUE, **changes) == Definition(**changes)
    other = make_client(mq.settings)
    assert other.define(QUEUE) == Definition(**changes)
    fewer = {**changes, "lease": None, "paused": False}
    assert other.define(QUEUE, lease=None, paused=False) == Definition(**fewer)
    assert mq.define(QUEUE, **dict.fromkeys(changes)) == Definition()


@pytest.mark.parametrize(
    "change",
    [
        {"nonsense": 1},
        {"schema": {"type": "objekt"}},
        {"schema": "object"},
        {"durability": "fsync"},
        {"partitions": 4},
        {"max_length": -1},
        {"max_length": 1.5},
        {"max_length": True},
        {"max_bytes": 0},
        {"max_bytes": 2**40},
        {"max_attempts": 0},
        {"max_lost": 0},
        {"dead_retention": -1},
        {"lease": 0},
        {"lease": "30"},
        {"retention": float("nan")},
        {"retention": float("inf")},
        {"dedup_window": -1},
        {"paused": 1},
        {"check_formats": "true"},
        {"security": "open"},
        {"security": 1},
    ],
    ids=repr,
)
def test_a_setting_that_cannot_be_is_refused(mq: Any, raw: Any, change: dict[str, Any]) -> None:
    mq.define(QUEUE, max_attempts=7)
    before = raw.digest()
    with pytest.raises(InvalidDefinition, match=next(iter(change))):
        mq.define(QUEUE, **{"max_length": 3, **change})
    assert raw.digest() == before


def test_a_paused_queue_takes_messages_and_gives_none(mq: Any, hand: Any) -> None:
    mq.define(QUEUE, paused=True)
    mq.queue_message(QUEUE, 1)
    assert hand.claim_up_to(1) == []
    mq.define(QUEUE, paused=None)
    assert len(hand.claim_up_to(1)) == 1


def test_a_sweep_forgets_what_is_due_and_nothing_else(mq: Any, hand: Any, raw: Any) -> None:
    ids = mq.queue_messages(QUEUE, range(3))
    first, second, _ = hand.claim_up_to(3)
    hand.complete(first)
    hand.fail(second, final=True)
    assert mq.sweep(QUEUE) == 0
    mq.define(QUEUE, retention=0, dead_retention=0, dedup_window=0)
    assert mq.sweep(QUEUE) == 2
    assert mq.sweep(QUEUE) == 0
    assert mq.get_message(QUEUE, ids[2]).status is Status.INPROGRESS
    mq.delete_message(QUEUE, ids[2])
    hand.leave()
    mq.sweep(QUEUE)
    left = {key.rpartition(b":")[2] for key in raw.digest()}
    assert left <= {b"queues", b"counters", b"config", b"bell"}


# --- Values -----------------------------------------------------------------------------------------------------------

PLUS_TWO = timezone(timedelta(hours=2))
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    0.1,
    -0.0,
    1e308,
    5e-324,
    "",
    "plain",
    "Grüße, 世界 \U0001f600 \0 \r\n",
    b"",
    bytes(range(256)),
    datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    [],
    {},
    [[], {}, [None]],
    {"": "", "a b": [1, {"c": b"\0"}], "ключ": "значение", "$.x[0]": None},
    list(range(1000)),
    {str(n): n for n in range(1000)},
    "x" * 100_000,
]


def nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


def test_every_kind_of_value_comes_back_as_it_went(mq: Any, hand: Any) -> None:
    values = [*VALUES, nested(32)]
    ids = mq.queue_messages(QUEUE, values)
    for id, value, delivery in zip(ids, values, hand.claim_up_to(500), strict=True):
        hand.complete(delivery, value)
        message = mq.get_message(QUEUE, id)
        for got in (message.request, message.result):
            assert got == value
            assert type(got) is type(value)


def test_a_tuple_comes_back_as_a_list_and_a_datetime_in_utc(mq: Any) -> None:
    moment = datetime(2024, 5, 1, 12, 30, tzinfo=PLUS_TWO)
    request = mq.get_message(QUEUE, mq.queue_message(QUEUE, {"pair": (1, (2, 3)), "at": moment})).request
    assert request == {"pair": [1, [2, 3]], "at": moment}
    assert request["at"].utcoffset() == timedelta(0)
