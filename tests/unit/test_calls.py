"""Calls: what is sent, and how each shape of reply is read. Pure, so without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq import store
from redisq.body import codec
from redisq.errors import (
    InvalidMessage,
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    RedisQError,
)
from redisq.model.delivery import Claim, Claimed, Failed, Failure, Receipt
from redisq.model.message import Message, Status, Transition
from redisq.model.queue import QueueStats
from redisq.store import scripts
from redisq.store.call import BATCH, CLAIM_MEMORY_MS, Limits, milliseconds, new_nonce
from redisq.store.keys import given_id, partition_keys
from redisq.store.messages import NewMessage
from redisq.store.record import CANCELLED

KEYS = partition_keys("ns", "orders")
LIMITS = Limits(1, 2, 3, 9, 4, 10, 5, 6, 7, 8)
NAME = "05749898-74a0-47e1-b10d-5acf29d040c4"
ID = given_id(NAME)
RECEIPT = Receipt(ID, 2, "nonce")


# --- Milliseconds ---


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0, 0), (1, 1000), (0.1, 100), (0.29, 290), (1.001, 1001), (0.0001, 1), (1.0001, 1001)]
)
def test_milliseconds(seconds: float, ms: int) -> None:
    assert milliseconds(seconds) == ms
    assert type(milliseconds(seconds)) is int


@given(st.floats(0, 31_536_000))
def test_nothing_is_due_early(seconds: float) -> None:
    assert 0 <= milliseconds(seconds) - seconds * 1000 + 1e-5 < 1.0001


@given(st.integers(0, 31_536_000_000))
def test_whole_milliseconds_stay(ms: int) -> None:
    assert milliseconds(ms / 1000) == ms


# --- What is sent ---


def test_keys_are_those_of_the_header_in_its_order() -> None:
    call = store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 10)
    assert call.script is scripts.load("claim")
    assert call.keys == tuple(f"ns:1:{{orders}}:{name}" for name in call.script.keys)
    assert len(call.keys) == 13


def test_arguments_of_queue() -> None:
    messages = [
        NewMessage(b"1", b"d1", b"body1"),
        NewMessage(b"2", b"d2", b"body2", 1.5, 60.0),
        NewMessage(b"3", b"d3", b"body3", priority=9),
    ]
    call = store.messages.queue(KEYS, LIMITS, messages)
    assert call.args == [
        8,
        7,
        2,
        3,
        9,
        b"1",
        b"d1body1",
        "",
        b"2",
        b"d2body2",
        "1500 60000 0",
        b"3",
        b"d3body3",
        "0 0 9",
    ]


def test_arguments_of_claim() -> None:
    head = (1, 10, 2, 3, 9, "w-1", "n-1", 10)
    assert store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 10).args == (
        *head,
        100_000_000_000_000,
        500,
        1,
        store.deliveries.CLAIM_BYTES,
        0,
    )
    careful = store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 10, lapsed_by=1.5, room=2, alone=False)
    assert careful.args == (*head, 1500, 2, 0, store.deliveries.CLAIM_BYTES, 0)
    short = store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 10, first_lease=5.0)
    assert short.args[-1] == 5000


@pytest.mark.parametrize(
    ("failure", "delay"),
    [
        (Failure(RECEIPT, b"e"), -1),
        (Failure(RECEIPT, b"e", delay=0.0), 0),
        (Failure(RECEIPT, b"e", delay=1.5), 1500),
        (Failure(RECEIPT, b"e", delay=1.5, final=True), -2),
    ],
)
def test_arguments_of_fail(failure: Failure, delay: int) -> None:
    *limits, id, attempt, nonce, sent, jitter, cause, error, told = store.deliveries.fail(KEYS, LIMITS, [failure]).args
    assert limits == [4, 5, 6, 2, 3, 9]
    assert (id, attempt, nonce, sent, cause, error, told) == (ID, 2, "nonce", delay, "failed", b"e", "")
    assert isinstance(jitter, int)
    assert 0 <= jitter <= 1_000_000


def test_arguments_of_the_others() -> None:
    assert store.messages.get(KEYS, [ID]).args == [ID]
    assert store.messages.delete(KEYS, LIMITS, [ID], "n-1").args == [2, 3, 9, "n-1", 0, KEYS.hints, ID]
    letters_only = store.messages.delete(KEYS, LIMITS, [ID], "n-1", letters_only=True)
    assert letters_only.args == [2, 3, 9, "n-1", 1, KEYS.hints, ID]
    error = codec.encode(CANCELLED)
    assert store.messages.cancel(KEYS, LIMITS, "shop", [ID]).args == [2, 3, 9, "shop", error, KEYS.hints, ID]
    assert store.deliveries.complete(KEYS, LIMITS, [(RECEIPT, b"r")]).args == [7, 2, 3, 9, ID, 2, "nonce", b"r"]
    assert store.deliveries.renew(KEYS, LIMITS, [(RECEIPT, b"p")]).args == [1, 2, 3, 9, ID, 2, "nonce", b"p"]
    assert store.deliveries.release(KEYS, LIMITS, [RECEIPT]).args == [2, 3, 9, ID, 2, "nonce", ""]
    deferred = [(RECEIPT, 1.5), (RECEIPT, 0.0), (RECEIPT, None)]
    sent = [ID, 2, "nonce", 1500, ID, 2, "nonce", 0, ID, 2, "nonce", ""]
    assert store.deliveries.defer(KEYS, LIMITS, deferred).args == [2, 3, 9, *sent]
    assert store.deliveries.sweep(KEYS, LIMITS).args == (2, 3, 9, CLAIM_MEMORY_MS, BATCH)
    assert store.queues.define(KEYS, LIMITS, [("lease", "5"), ("paused", "")]).args == [
        2,
        3,
        9,
        "lease",
        "5",
        "paused",
        "",
    ]
    assert store.deliveries.leave(KEYS, LIMITS, "w-1").args == (2, 3, 9, "w-1")


def test_nonces_are_short_words_and_never_the_same() -> None:
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {12}
    assert not any(set(" \n") & set(nonce) for nonce in nonces)


# --- Replies ---


def test_a_batch_has_an_outcome_for_each() -> None:
    call = store.messages.queue(KEYS, LIMITS, [])
    reply = [
        b"OK",
        [b"MESSAGE_CONFLICT"],
        [b"MESSAGE_TOO_LARGE", b"1048576"],
        [b"QUEUE_FULL", b"1000"],
        [b"MESSAGE_NOT_FOUND"],
        [b"LEASE_LOST"],
        [b"NEWS", b"1"],
    ]
    ok, conflict, large, full, unknown, lost, news = call.decode(reply)
    assert ok is None
    assert type(conflict) is MessageConflict
    assert type(large) is MessageTooLarge
    assert "1,048,576 bytes" in str(large)
    assert type(full) is QueueFull
    assert "1,000 waiting" in str(full)
    assert type(unknown) is MessageNotFound
    assert type(lost) is LeaseLost
    assert type(news) is RedisQError
    assert "NEWS" in str(news)


def test_times_in_replies_are_seconds() -> None:
    retried, dead, _ = store.deliveries.fail(KEYS, LIMITS, []).decode([b"1500 2 5", b"-1 5 5", [b"LEASE_LOST"]])
    assert (retried, dead) == (Failed(1.5, 2, 5), Failed(None, 5, 5))
    assert store.deliveries.renew(KEYS, LIMITS, []).decode([30_000, -30_000]) == [(30.0, False), (30.0, True)]


@pytest.mark.parametrize(("wait_ms", "wait"), [(-1, None), (0, 0), (1500, 1.5)])
def test_a_claim(wait_ms: int, wait: float | None) -> None:
    stored = b"1700000000000-0 " + b"\x00 12345 " + b"body with spaces"
    reply = [30_000, wait_ms, 1, 1, T0, 7, ID, b"3", stored, ID, b"3,2", stored]
    claim = store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 1).decode(reply)
    body, head = b"body with spaces", b"1700000000000-0"
    claimed = [Claimed(Receipt(ID, 3, "n-1"), body, head), Claimed(Receipt(ID, 3, "n-1"), body, head, 2)]
    assert claim == Claim(claimed, 30.0, wait, 1, True, T0 / 1000, 0, 7)


@pytest.mark.parametrize(("wait_ms", "wait"), [(-1, None), (0, 0), (1500, 1.5)])
def test_an_ordinary_claim(wait_ms: int, wait: float | None) -> None:
    read = store.deliveries.claim(KEYS, LIMITS, "w-1", "n-1", 1).decode
    told = b"30000 %d %d 7 " % (wait_ms, T0)
    assert read(told) == Claim([], 30.0, wait, 0, False, T0 / 1000, 0, 7)
    claimed = Claimed(Receipt(ID, 1, "n-1"), b"body with spaces", b"1700000000000-0;0;5")
    stored = b"1700000000000-0;0;5 " + b"\x00 12345 " + b"body with spaces"
    assert read(told + ID + stored) == Claim([claimed], 30.0, wait, 0, False, T0 / 1000, 0, 7)


def test_statistics() -> None:
    reply = [1, 2, 3, 4, 5, 6500, [b"queued", b"7", b"dead", b"8", b"later", b"9"], b"1", 6]
    assert store.queues.stats(KEYS).decode(reply) == QueueStats(
        *("orders", 1, 2, 3, 4, 5), oldest_age=6.5, workers=6, paused=True, queued=7, died=8
    )
    assert store.queues.stats(KEYS).decode([0, 0, 0, 0, 0, -1, [], None, 0]) == QueueStats("orders")


def test_the_small_ones() -> None:
    assert store.deliveries.sweep(KEYS, LIMITS).decode([5, 1, 1]) == (5, True, 0.001)
    assert store.deliveries.sweep(KEYS, LIMITS).decode([0, 0, 2500]) == (0, False, 2.5)
    assert store.queues.define(KEYS, LIMITS, []).decode([b"lease", b"5"]) == {"lease": "5"}
    assert [store.queues.schema(KEYS).decode(reply) for reply in (None, b"{}", b"\xff")] == [None, "{}", "\\xff"]
    assert store.queues.register("ns:1:queues", "orders", 1).decode(4) == 4
    assert store.queues.registry("ns:1:queues").decode([b"orders", b"1", b"invoices", b"8"]) == {
        "orders": 1,
        "invoices": 8,
    }
    assert store.deliveries.leave(KEYS, LIMITS, "w-1").decode(b"OK") is None


# --- Messages ---

T0, T1, T2 = 1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_500
BODY = codec.encode_request({"sku": "A-1"})
STORED = b"%d-0 " % T0 + codec.digest(BODY) + BODY
ERROR = codec.encode({"type": "ValueError", "message": "no stock"})


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def read(stored: bytes | None, record: bytes | None = None, due: Any = None) -> Any:
    (outcome,) = store.messages.get(KEYS, [ID]).decode([[stored, record, due]])
    return outcome


def record(
    status: bytes,
    at: int,
    entry: bytes,
    payload: bytes = b"",
    cause: bytes = b"-",
    counts: bytes = b"-",
    history: bytes = b"-",
) -> bytes:
    return b"%b 2 nonce %b %b %d %b %b %b" % (status, counts, cause, at, entry, history, payload)


def message(status: Status, **values: Any) -> Message:
    values = {"request": {"sku": "A-1"}, "queued_at": at(T0), **values}
    return Message(NAME, "orders", status, **values)


ENTRY = b"%d-3" % T2

READ: dict[str, tuple[tuple[Any, ...], Message]] = {
    "ready": ((STORED,), message(Status.PENDING, available_at=at(T0))),
    "delayed": (
        (STORED.replace(b"-0", b"", 1), None, b"%d" % T1),
        message(Status.PENDING, available_at=at(T1)),
    ),
    "expires": (
        (STORED.replace(b"-0", b"-0;%d" % T2, 1),),
        message(Status.PENDING, available_at=at(T0), expires_at=at(T2)),
    ),
    "delayed and expires": (
        (STORED.replace(b"-0", b";%d" % T2, 1), None, b"%d" % T1),
        message(Status.PENDING, available_at=at(T1), expires_at=at(T2)),
    ),
    "reclaimed": (
        (STORED, record(b"I", T2, b"w-2", history=b"lost,1,%d,w-1;reclaimed,2,%d,w-2" % (T1, T2), counts=b"0,0,0,1")),
        message(
            Status.INPROGRESS,
            attempts=2,
            started_at=at(T2),
            history=(Transition("lost", 1, at(T1), "w-1"), Transition("reclaimed", 2, at(T2), "w-2")),
        ),
    ),
    "moved to the stream": (
        (STORED, record(b"P", T1, ENTRY)),
        message(Status.PENDING, attempts=2, available_at=at(T1)),
    ),
    "waits for its retry": (
        (STORED, record(b"P", T1, b"-", ERROR, b"failed")),
        message(
            Status.PENDING,
            attempts=2,
            available_at=at(T1),
            error={"type": "ValueError", "message": "no stock", "reason": "failed"},
        ),
    ),
    "handed back": (
        (STORED, record(b"P", T1, ENTRY, b"", b"released")),
        message(Status.PENDING, attempts=2, available_at=at(T1)),
    ),
    "in progress": (
        (STORED, record(b"I", T1, b"w-1", codec.encode(50))),
        message(Status.INPROGRESS, attempts=2, started_at=at(T1), progress=50),
    ),
    "complete": (
        (STORED, record(b"C", T1, ENTRY, codec.encode("a result with spaces"))),
        message(Status.COMPLETE, attempts=2, started_at=at(T1), finished_at=at(T2), result="a result with spaces"),
    ),
    "complete with nothing": (
        (STORED, record(b"C", T1, ENTRY, codec.encode(None))),
        message(Status.COMPLETE, attempts=2, started_at=at(T1), finished_at=at(T2)),
    ),
    "dead": (
        (STORED, record(b"E", T1, b"%d" % T2, ERROR, b"rejected")),
        message(
            Status.ERROR,
            attempts=2,
            started_at=at(T1),
            finished_at=at(T2),
            error={"type": "ValueError", "message": "no stock", "reason": "rejected"},
        ),
    ),
}


@pytest.mark.parametrize("shape", READ)
def test_a_message(shape: str) -> None:
    reply, expected = READ[shape]
    assert read(*reply) == expected


def test_a_message_whose_leases_lapsed() -> None:
    found = read(STORED, record(b"E", T1, b"%d" % T2, b"", b"lost", b"0,5,0,0"))
    assert found.status is Status.ERROR
    assert (found.error["type"], found.error["reason"]) == ("LeaseLost", "lost")
    assert "lapsed 5 times" in found.error["message"]


@pytest.mark.parametrize(
    "damaged", [b"", b"P", b"Q 1 n - - 5 - - ", b"P x n - - 5 - - ", b"P 1 n - - x - - ", b"P 1 n - - 5 - lost,1 "]
)
def test_a_message_with_a_damaged_record(damaged: bytes) -> None:
    assert type(read(STORED, damaged)) is InvalidMessage


def test_a_message_without_its_body() -> None:
    found = read(None, record(b"E", T1, b"%d" % T2, b"", b"unreadable"))
    assert (found.status, found.request, found.queued_at) == (Status.ERROR, None, None)
    assert (found.error["type"], found.error["reason"]) == ("Unreadable", "unreadable")


@pytest.mark.parametrize(
    "gone", [None, b"T nonce 1700000000000 12345678", record(b"P", T1, b"-"), record(b"I", T1, b"-")]
)
def test_no_message(gone: bytes | None) -> None:
    assert type(read(None, gone)) is MessageNotFound


def test_a_broken_message_spoils_no_other() -> None:
    broken_body, broken_result = STORED[:-1], record(b"C", T1, ENTRY, b"\xc1")
    replies = [[STORED, None, None], [broken_body, None, None], [STORED, broken_result, None], [None, None, None]]
    good, body, result, unknown = store.messages.get(KEYS, [ID] * 4).decode(replies)
    assert good.request == {"sku": "A-1"}
    assert [type(body), type(result), type(unknown)] == [InvalidMessage, InvalidMessage, MessageNotFound]
