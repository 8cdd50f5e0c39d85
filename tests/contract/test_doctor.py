"""The doctor: names what is wrong, mends what is safe, takes nothing from a sound queue, and cries no wolf."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from redisq import Forbidden, LeaseLost, MessageNotFound, RedisQ, RedisQError, Unavailable, tokens
from redisq.model.audit import Finding
from redisq.operations import doctor as flows
from redisq.store.keys import given_id
from redisq.store.record import Record
from tests.conftest import CREDENTIALS, Raw
from tests.scripts.conftest import Orders

QUEUE = "orders"
YEAR = 31_536_000.0
HOUR = 3600.0


class Shop:
    """A queue with a message in each place where one can be, all of them sound."""

    def __init__(self, mq: Any, raw: Raw, hand: Any) -> None:
        self.mq, self.redis, self.keys, self.raw = mq, raw.redis, raw.keys, raw
        ids = mq.queue_messages(QUEUE, range(6))
        self.done, self.dead, self.held, self.deleted, self.retried, self.released = ids
        done, dead, _held, _deleted, retried, released = hand.claim_up_to(6)
        hand.complete(done, "done")
        hand.fail(dead, final=True)
        hand.fail(retried, delay=HOUR)
        hand.release(released)
        mq.delete_message(QUEUE, self.deleted)
        self.ready = mq.queue_message(QUEUE, "ready")
        self.delayed = mq.queue_message(QUEUE, "delayed", delay=YEAR)
        self.cancelled = mq.queue_message(QUEUE, "cancelled")
        mq.cancel_message(QUEUE, self.cancelled)
        self.hand = hand

    def codes(self, **how: Any) -> list[str]:
        return [finding.code for finding in self.mq.doctor(QUEUE, **how)]

    def entry(self, id: str) -> bytes:
        """Where a message is listed, by its record, or else by the head of its body."""
        text = self.redis.hget(self.keys.states, given_id(id))
        return Record.of(text).entry if text else self.redis.hget(self.keys.messages, given_id(id)).partition(b" ")[0]

    def lose(self, key: str, id: str) -> None:
        """Take an id out of one key."""
        name = getattr(self.keys, key)
        match self.redis.type(name):
            case b"hash":
                assert self.redis.hdel(name, given_id(id)) == 1
            case b"zset":
                assert self.redis.zrem(name, given_id(id)) == 1
            case _:
                assert self.redis.xdel(name, self.entry(id)) == 1

    def add(self, key: str, id: str) -> None:
        """Put an id into one key."""
        if key in ("scheduled", "leases", "dead"):
            self.redis.zadd(getattr(self.keys, key), {given_id(id): self.redis.time()[0] * 1000})
        else:
            self.redis.xadd(getattr(self.keys, key), {"id": given_id(id)})

    def write(self, key: str, id: str, text: bytes) -> None:
        """Overwrite what one hash holds of an id."""
        self.redis.hset(getattr(self.keys, key), given_id(id), text)


@pytest.fixture
def shop(raw: Raw, hand_on: Any) -> Iterator[Shop]:
    """The shop of a plain client: what tables of cases tell of the scripts is the same for both."""
    with RedisQ(settings=raw.settings) as client:
        yield Shop(client, raw, hand_on(raw.settings))


def test_a_sound_queue(mq: Any, raw: Raw, hand: Any) -> None:
    shop = Shop(mq, raw, hand)
    before = shop.raw.digest()
    assert shop.mq.doctor(QUEUE) == []
    assert shop.mq.doctor(QUEUE, fix=True) == []
    assert shop.raw.digest() == before


def test_a_queue_that_never_was(mq: Any, raw: Raw) -> None:
    assert [finding.code for finding in mq.doctor(QUEUE, fix=True)] == ["no-keys"]
    assert raw.digest() == {}


# --- What is mended ---

#: what is done -> to which message, with which keys, what it is called, and what becomes of the message
MENDED: dict[str, tuple[str, Callable[[Shop, str], None], str, str | None]] = {
    "ready, its body lost": ("ready", lambda s, id: s.lose("messages", id), "body-missing", "ERROR"),
    "scheduled, its body lost": ("delayed", lambda s, id: s.lose("messages", id), "body-missing", "ERROR"),
    "released, its body lost": ("released", lambda s, id: s.lose("messages", id), "body-missing", "ERROR"),
    "retried, its body lost": ("retried", lambda s, id: s.lose("messages", id), "body-missing", "ERROR"),
    "in progress, its body lost": ("held", lambda s, id: s.lose("messages", id), "body-missing", "ERROR"),
    "ready, its entry lost": ("ready", lambda s, id: s.lose("stream", id), "orphan", "PENDING"),
    "scheduled, its entry lost": ("delayed", lambda s, id: s.lose("scheduled", id), "orphan", "PENDING"),
    "released, its entry lost": ("released", lambda s, id: s.lose("stream", id), "entry-missing", "PENDING"),
    "retried, its entry lost": ("retried", lambda s, id: s.lose("scheduled", id), "entry-missing", "PENDING"),
    "in progress, its lease lost": ("held", lambda s, id: s.lose("leases", id), "lease-missing", "INPROGRESS"),
    "complete, its entry lost": ("done", lambda s, id: s.lose("finished", id), "finished-missing", "COMPLETE"),
    "cancelled, its entry lost": ("cancelled", lambda s, id: s.lose("finished", id), "finished-missing", "ERROR"),
    "cancelled and dead": ("cancelled", lambda s, id: s.add("dead", id), "dead-stray", "ERROR"),
    "cancelled and ready": ("cancelled", lambda s, id: s.add("stream", id), "stream-stray", "ERROR"),
    "dead, its entry lost": ("dead", lambda s, id: s.lose("dead", id), "dead-missing", "ERROR"),
    "in progress, its record lost": ("held", lambda s, id: s.lose("states", id), "record-missing", "PENDING"),
    "complete, its record lost": ("done", lambda s, id: s.lose("states", id), "record-missing", "COMPLETE"),
    "dead, its record lost": ("dead", lambda s, id: s.lose("states", id), "record-missing", "ERROR"),
    "ready and scheduled": ("ready", lambda s, id: s.add("scheduled", id), "scheduled-stray", "PENDING"),
    "complete and scheduled": ("done", lambda s, id: s.add("scheduled", id), "scheduled-stray", "COMPLETE"),
    "ready twice": ("ready", lambda s, id: s.add("stream", id), "stream-stray", "PENDING"),
    "released and ready twice": ("released", lambda s, id: s.add("stream", id), "stream-stray", "PENDING"),
    "scheduled and ready": ("delayed", lambda s, id: s.add("stream", id), "stream-stray", "PENDING"),
    "in progress and ready": ("held", lambda s, id: s.add("stream", id), "stream-stray", "INPROGRESS"),
    "dead and ready": ("dead", lambda s, id: s.add("stream", id), "stream-stray", "ERROR"),
    "deleted and ready": ("deleted", lambda s, id: s.add("stream", id), "stream-stray", None),
    "ready and leased": ("ready", lambda s, id: s.add("leases", id), "leases-stray", "PENDING"),
    "retried and leased": ("retried", lambda s, id: s.add("leases", id), "leases-stray", "PENDING"),
    "complete and leased": ("done", lambda s, id: s.add("leases", id), "leases-stray", "COMPLETE"),
    "ready and finished": ("ready", lambda s, id: s.add("finished", id), "finished-stray", "PENDING"),
    "complete twice": ("done", lambda s, id: s.add("finished", id), "finished-stray", "COMPLETE"),
    "deleted and finished": ("deleted", lambda s, id: s.add("finished", id), "finished-stray", None),
    "ready and dead": ("ready", lambda s, id: s.add("dead", id), "dead-stray", "PENDING"),
    "in progress and dead": ("held", lambda s, id: s.add("dead", id), "dead-stray", "INPROGRESS"),
    "deleted and dead": ("deleted", lambda s, id: s.add("dead", id), "dead-stray", None),
    "deleted, not listed": ("deleted", lambda s, _: s.redis.delete(s.keys.tombstones), "tombstone-missing", None),
}


@pytest.mark.full(keep=16)
@pytest.mark.parametrize("case", MENDED)
def test_what_is_wrong_is_named_and_mended(shop: Shop, case: str) -> None:
    """And then no message is lost or delivered twice."""
    name, plant, code, status = MENDED[case]
    id = getattr(shop, name)
    plant(shop, id)
    before = shop.raw.digest()
    (finding,) = shop.mq.doctor(QUEUE)
    assert (finding.code, finding.severity, finding.queue, finding.count) == (code, "error", QUEUE, 1)
    assert (finding.examples, finding.fixable, finding.fixed, finding.remains) == ((id,), True, 0, True)
    assert shop.raw.digest() == before  # without fix nothing is changed
    (mended,) = shop.mq.doctor(QUEUE, fix=True)
    assert (mended.code, mended.count, mended.fixed, mended.remains) == (code, 1, 1, False)
    after = shop.raw.digest()
    assert after != before
    assert shop.codes() == []
    assert shop.codes(fix=True) == []
    assert shop.raw.digest() == after
    if status:
        assert shop.mq.get_message(QUEUE, id).status == status
    else:
        with pytest.raises(MessageNotFound):
            shop.mq.get_message(QUEUE, id)
    waiting = {id for id in (shop.ready, shop.released) if shop.mq.get_message(QUEUE, id).status == "PENDING"}
    if case in ("scheduled, its entry lost", "in progress, its record lost"):  # when it was due nobody knows any more
        waiting.add(id)
    deliveries = shop.hand.claim_up_to(10)
    assert sorted(delivery.receipt.id for delivery in deliveries) == sorted(map(given_id, waiting))
    for delivery in deliveries:
        shop.hand.complete(delivery)
    assert shop.codes() == []


def test_a_live_worker_goes_on_when_its_lease_is_mended(mq: Any, raw: Raw, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1)
    delivery = hand.claim()
    raw.redis.zrem(raw.keys.leases, given_id(id))
    assert [finding.code for finding in mq.doctor(QUEUE, fix=True)] == ["lease-missing"]
    assert hand.claim_up_to(1) == []
    hand.complete(delivery, "done")
    assert mq.get_message(QUEUE, id).result == "done"


def test_a_retry_keeps_its_time(shop: Shop) -> None:
    due = shop.mq.get_message(QUEUE, shop.retried).available_at
    shop.lose("scheduled", shop.retried)
    shop.mq.doctor(QUEUE, fix=True)
    assert shop.mq.get_message(QUEUE, shop.retried).available_at == due


def test_mending_goes_into_the_history(shop: Shop) -> None:
    shop.lose("messages", shop.held)
    shop.mq.doctor(QUEUE, fix=True)
    (step,) = shop.mq.get_message(QUEUE, shop.held).history
    assert (step.event, step.by) == ("unreadable", CREDENTIALS.app)
    (letter,) = shop.mq.dead_letters(QUEUE, reason="unreadable")
    assert letter.id == shop.held


def test_all_at_once_page_by_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "_PAGES", dict.fromkeys(flows._PAGES, 1))
    monkeypatch.setattr(flows, "_DOUBTS", 2)
    monkeypatch.setattr(flows, "_AT_ONCE", 10)
    ids = shop.mq.queue_messages(QUEUE, range(20))
    for id in ids[:10]:
        shop.lose("stream", id)
    for id in ids[10:15]:
        shop.mq.delete_message(QUEUE, id)
    shop.redis.xtrim(shop.keys.tombstones, 1, approximate=False)
    found = {finding.code: finding for finding in shop.mq.doctor(QUEUE, fix=True)}
    assert {code: (finding.count, finding.fixed) for code, finding in found.items()} == {
        "orphan": (10, 10),
        "tombstone-missing": (5, 5),
    }
    assert len(found["orphan"].examples) == 3
    assert set(found["orphan"].examples) <= set(ids[:10])
    assert shop.codes() == []


def test_wholesale_loss_of_records_redelivers_nothing_that_had_finished(shop: Shop) -> None:
    shop.redis.delete(shop.keys.states)
    found = {finding.code: finding.count for finding in shop.mq.doctor(QUEUE)}
    assert found == {"record-missing": 4, "orphan": 2}  # released and retried, which nothing else tells of
    shop.mq.doctor(QUEUE, fix=True)
    statuses = {id: shop.mq.get_message(QUEUE, id).status for id in (shop.done, shop.dead, shop.held, shop.ready)}
    assert list(statuses.values()) == ["COMPLETE", "ERROR", "PENDING", "PENDING"]
    assert shop.codes() == []


# --- What is told only ---

TOLD: dict[str, tuple[Callable[[Shop], Any], str, str]] = {
    "a record": (lambda s: s.write("states", s.ready, b"\xff"), "record-unreadable", "error"),
    "a body": (lambda s: s.write("messages", s.ready, b"\xff"), "body-damaged", "error"),
    "a deleted body": (lambda s: s.write("messages", s.deleted, b"1-1 12345678\xc0"), "tombstone-with-body", "error"),
    "a foreign entry": (lambda s: s.redis.xadd(s.keys.finished, {"job": "7"}), "id-strange", "error"),
    "a foreign field": (lambda s: s.redis.hset(s.keys.messages, "job", "7"), "id-strange", "error"),
    "a finished body": (lambda s: s.lose("messages", s.done), "request-missing", "warning"),
    "a dead body": (lambda s: s.lose("messages", s.dead), "request-missing", "warning"),
    "a key": (lambda s: s.redis.set(s.keys.bell, "7"), "key-type", "error"),
    "totals": (lambda s: s.redis.hset(s.keys.counters, "queued", 1), "totals-differ", "warning"),
    "no totals": (lambda s: s.redis.delete(s.keys.counters), "totals-lost", "note"),
    "a rash lease": (lambda s: s.redis.hset(s.keys.config, "lease", 5), "definition-invalid", "warning"),
    "a lease that is no number": (lambda s: s.redis.hset(s.keys.config, "lease", "x"), "definition-invalid", "warning"),
    "paused oddly": (lambda s: s.redis.hset(s.keys.config, "paused", "yes"), "definition-invalid", "warning"),
    "a newer setting": (lambda s: s.redis.hset(s.keys.config, "colour", b"\xff"), "definition-unknown", "note"),
    "a pause": (lambda s: s.mq.define(QUEUE, paused=True), "paused", "note"),
    "a ring too many": (lambda s: s.redis.rpush(s.keys.bell, "1", "1"), "bell-rings-twice", "note"),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_is_doubtful_is_told_and_left_alone(shop: Shop, case: str) -> None:
    plant, code, severity = TOLD[case]
    plant(shop)
    before = shop.raw.digest()
    for fix in (False, True):
        (finding,) = shop.mq.doctor(QUEUE, fix=fix)
        assert (finding.code, finding.severity, finding.fixable, finding.fixed) == (code, severity, False, 0)
        assert finding.meaning.endswith((".", "?"))
        assert finding.remedy.endswith(".")
    assert shop.raw.digest() == before


def test_no_text_holds_a_body(mq: Any, raw: Raw) -> None:
    secret = "4111-1111-1111-1111"
    ids = mq.queue_messages(QUEUE, [secret] * 4)
    raw.redis.delete(raw.keys.stream)
    raw.redis.hset(raw.keys.states, given_id(ids[0]), secret)
    raw.redis.hset(raw.keys.messages, given_id(ids[1]), secret)
    found = mq.doctor(QUEUE)
    assert {finding.code for finding in found} == {"record-unreadable", "body-damaged", "orphan"}
    assert secret not in str(found)
    assert secret not in str([finding.to_dict() for finding in found])


def test_two_deaths_of_one_id_are_one(shop: Shop) -> None:
    ghost = str(uuid.uuid4())
    for _ in range(2):
        shop.add("stream", ghost)
    died = shop.mq.stats(QUEUE).died
    (finding,) = shop.mq.doctor(QUEUE, fix=True)
    assert (finding.code, finding.count, finding.fixed) == ("body-missing", 2, 2)
    assert shop.mq.stats(QUEUE).died == died + 1
    assert shop.mq.get_message(QUEUE, ghost).error["reason"] == "unreadable"


# --- Time ---


def test_without_workers(shop: Shop, raw: Raw) -> None:
    Orders(raw).pass_time(2 * HOUR)
    codes = {finding.code: finding.severity for finding in shop.mq.doctor(QUEUE)}
    assert codes == {"nobody-reclaims": "warning", "nobody-sweeps": "note"}
    shop.mq.delete_message(QUEUE, shop.held)
    assert set(shop.codes()) == {"nobody-claims", "nobody-sweeps"}
    shop.mq.define(QUEUE, paused=True)
    assert set(shop.codes()) == {"paused", "nobody-sweeps"}
    shop.mq.sweep(QUEUE)
    assert shop.codes() == ["paused"]


def test_a_clock_that_was_set_back(shop: Shop, raw: Raw) -> None:
    Orders(raw).pass_time(-2 * HOUR)
    (finding,) = shop.mq.doctor(QUEUE)
    assert (finding.code, finding.severity) == ("clock-set-back", "warning")
    assert "2 hours ahead" in finding.meaning or "120 minutes ahead" in finding.meaning


# --- The server and the registry ---


def test_the_server(mq: Any, raw: Raw) -> None:
    before = raw.digest()
    found = mq.doctor_server(scan=True, fix=True)
    assert all(finding.queue is None and finding.severity in ("warning", "note") for finding in found)
    codes = {finding.code for finding in found}
    assert codes == {"server-silent"} if raw.server.kind == "fakeredis" else "memory-unlimited" in codes
    assert not codes & {"clock-differs", "key-unknown"}
    assert raw.digest() == before


def test_this_machines_clock(mq: Any, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    if raw.server.kind == "fakeredis":
        pytest.skip("fakeredis knows no INFO")
    mq.queues()  # before the clock is wrong, so that the token is not
    monkeypatch.setattr(time, "time", lambda: real() - 100)
    assert "clock-differs" in {finding.code for finding in mq.doctor_server()}


def test_a_queue_that_is_not_registered(shop: Shop) -> None:
    shop.redis.delete(f"{shop.raw.settings.namespace}:1:queues")
    shop.redis.set(f"{shop.raw.settings.namespace}:1:{{orders}}:attic", 1)
    shop.redis.set(f"{shop.raw.settings.namespace}:1:{{orders}}:queue", 1)
    shop.redis.set(f"{shop.raw.settings.namespace}:1:rates:shop", 1)  # an application's rate belongs to no queue
    assert "queue-unregistered" not in {finding.code for finding in shop.mq.doctor_server()}

    def found(**how: Any) -> dict[str, Finding]:
        kept = ("queue-unregistered", "key-unknown")
        return {one.code: one for one in shop.mq.doctor_server(scan=True, **how) if one.code in kept}

    first = found()
    assert (first["queue-unregistered"].queue, first["queue-unregistered"].remains) == (QUEUE, True)
    assert first["key-unknown"].count == 2
    assert all(name.endswith(("attic", "queue")) for name in first["key-unknown"].examples)
    assert shop.mq.queues() == []
    assert not found(fix=True)["queue-unregistered"].remains
    assert shop.mq.queues() == [QUEUE]
    assert found().keys() == {"key-unknown"}


# --- Who may ---


def test_it_takes_admin(mq: Any) -> None:
    def token(*ops: str, queue: str = "*") -> str:
        audience = mq.settings.token_audience
        return tokens.sign(CREDENTIALS, audience=audience, ops=ops, queues=[queue], ttl=60, now=time.time())

    for fix in (False, True):
        with pytest.raises(Forbidden):
            mq.doctor(QUEUE, token("stats", "queue", "get", "work", "delete"), fix=fix)
    with pytest.raises(Forbidden):
        mq.doctor_server(token("admin", queue=QUEUE))
    assert mq.doctor(QUEUE, token("admin", queue=QUEUE))[0].code == "no-keys"
    mq.doctor_server(token("admin"))


def test_without_redis_it_is_unavailable(make_client: Any, tmp_path: Any) -> None:
    from tests.conftest import settings_for

    mq = make_client(settings_for(f"unix://{tmp_path}/none", "nowhere", retry_deadline=0.1))
    for call in (lambda: mq.doctor(QUEUE), mq.doctor_server):
        with pytest.raises(Unavailable):
            call()


# --- No false alarm ---


def test_a_queue_in_full_use_is_sound(mq: Any, raw: Raw, hand_on: Any) -> None:
    """Messages of every fate, forgotten within milliseconds, while it is audited, and mended."""
    mq.define(QUEUE, retention=0.02, dead_retention=0.02, dedup_window=0.05, backoff_base=0.002, max_attempts=2)
    stop = threading.Event()

    def produce() -> int:
        count = 0
        with RedisQ(settings=mq.settings) as client:
            while not stop.is_set():
                ids = client.queue_messages(QUEUE, range(20))
                client.queue_message(QUEUE, "later", delay=0.003)
                for id in ids[::7]:
                    with suppress(MessageNotFound):
                        client.delete_message(QUEUE, id)
                client.redrive(QUEUE, reason="failed")
                count += len(ids)
        return count

    def work() -> int:
        count, hand = 0, hand_on(mq.settings)
        while not stop.is_set():
            for number, delivery in enumerate(hand.claim_up_to(20)):
                end = (hand.complete, hand.fail, hand.complete, hand.release)[number % 4]
                with suppress(LeaseLost):
                    end(delivery)
                    count += 1
        return count

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(task) for task in (produce, work, work)]
        found, patience = [], time.monotonic() + 30
        try:
            while len(found) < 6 or mq.stats(QUEUE).completed < 100:
                found.append(mq.doctor(QUEUE, fix=len(found) % 2 == 1))
                assert time.monotonic() < patience
        finally:
            stop.set()
        assert all(task.result() for task in running)
    assert found == [[]] * len(found)
    assert mq.doctor(QUEUE) == []


def test_an_error_in_the_middle_is_raised(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that changes its type under the audit is no reason to call the queue sound."""
    real = flows.store.audit.survey

    def survey(*arguments: Any) -> Any:
        shop.redis.delete(shop.keys.leases)
        shop.redis.set(shop.keys.leases, "7")
        return real(*arguments)

    found = shop.codes()
    monkeypatch.setattr(flows.store.audit, "survey", survey)
    assert found == []
    assert shop.codes() == ["key-type"]
    with pytest.raises(RedisQError):
        shop.mq.stats(QUEUE)
