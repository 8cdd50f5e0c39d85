"""The options of queueing: what becomes of the message, on every server and with both clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import redisq
from redisq import Credentials, Delivery, InvalidMessage, MessageConflict, RedisQ, Status, Worker
from redisq.store.keys import derived_id, id_text
from tests.conftest import CREDENTIALS, settings_for
from tests.contract.conftest import QUEUE

# --- When ---


def test_a_message_is_available_at_its_time(mq: Any, hand: Any) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    message = mq.get_message(QUEUE, mq.queue_message(QUEUE, 1, at=at))
    assert message.status is Status.PENDING
    assert at - timedelta(minutes=10) < message.available_at < at + timedelta(minutes=10)
    assert hand.claim_up_to(1) == []


def test_a_message_whose_time_has_passed_is_due_now(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1, at=datetime(2001, 1, 1, tzinfo=UTC))
    message = mq.get_message(QUEUE, id)
    assert message.available_at in (None, message.queued_at)
    assert id_text(hand.claim().receipt.id) == id


def test_a_message_that_no_worker_got_in_time_is_dead(mq: Any, hand: Any) -> None:
    late = mq.queue_message(QUEUE, "late", expires_in=0.05)
    good = mq.queue_message(QUEUE, "good", expires_in=3600)
    assert mq.get_message(QUEUE, late).expires_at < mq.get_message(QUEUE, good).expires_at
    time.sleep(0.1)  # nothing but time makes it expire
    assert [id_text(delivery.receipt.id) for delivery in hand.claim_up_to(2)] == [good]
    message = mq.get_message(QUEUE, late)
    assert (message.status, message.error["reason"], message.attempts) == (Status.ERROR, "expired", 0)
    assert mq.stats(QUEUE).dead == 1


def test_a_message_that_was_got_in_time_does_not_expire(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1, expires_in=3600)
    delivery = hand.claim()
    hand.complete(delivery, "done")
    assert mq.get_message(QUEUE, id).result == "done"


@pytest.mark.parametrize(
    "options",
    [
        {"at": datetime(2026, 12, 24)},
        {"at": "tomorrow"},
        {"delay": 1, "at": datetime(2026, 12, 24, tzinfo=UTC)},
        {"expires_in": 0},
        *({"priority": priority} for priority in (-1, 10, 1.0, "5", True, 2**64, [5], None, "", False, 0.0)),
        *({"headers": headers} for headers in ({"a b": "c"}, {"a": 1}, {"a": "\n"}, {"a": "x" * 9000}, [], "a=b")),
        {"idempotency_key": ""},
        {"idempotency_key": "k", "id": "05749898-74a0-47e1-b10d-5acf29d040c4"},
    ],
    ids=str,
)
def test_a_bad_option_sends_nothing(make_client: Any, trap: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        make_client(settings_for(trap.url, "any")).queue_message(QUEUE, 1, **options)


# --- In which order ---


def test_the_most_urgent_are_delivered_first(mq: Any, hand: Any) -> None:
    ids = [mq.queue_message(QUEUE, number, priority=priority) for number, priority in enumerate((0, 1, 9, 0, 9))]
    assert mq.stats(QUEUE).ready == 5
    assert mq.get_message(QUEUE, ids[2]).priority == mq.get_message(QUEUE, ids[2]).to_dict()["priority"] == 9
    assert [message.id for message in mq.list_messages(QUEUE, "ready").messages] == [ids[n] for n in (2, 4, 1, 0, 3)]
    assert [id_text(hand.claim().receipt.id) for _ in range(5)] == [ids[n] for n in (2, 4, 1, 0, 3)]


@pytest.mark.full(keep=1)
def test_a_worker_takes_what_is_urgent_before_what_was_there(raw: Any) -> None:
    worker, handled = Worker(settings=raw.settings), []

    @worker.handler(QUEUE, concurrency=1)
    def handle(delivery: Delivery) -> None:
        handled.append(delivery.request)
        if delivery.request == 0:
            beside.queue_message(QUEUE, "urgent", priority=1)

    with RedisQ(settings=raw.settings) as beside:
        beside.queue_messages(QUEUE, range(3))
        worker.run(burst=True)
    assert handled == [0, "urgent", 1, 2]


# --- Once ---


def test_the_same_key_is_the_same_message(mq: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, {"n": 1}, idempotency_key="order-7")
    before = raw.digest()
    assert id == id_text(derived_id(CREDENTIALS.app, QUEUE, "order-7"))
    assert mq.queue_message(QUEUE, {"n": 1}, idempotency_key="order-7") == id
    assert mq.queue_message(QUEUE, {"n": 1}, id=id, delay=60) == id
    assert raw.digest() == before
    others = {
        mq.queue_message(QUEUE, {"n": 1}, idempotency_key="order-8"),
        mq.queue_message("other", {"n": 1}, idempotency_key="order-7"),
    }
    assert len({id, *others}) == 3


def test_the_same_key_with_another_body_is_a_conflict(mq: Any, raw: Any) -> None:
    mq.queue_message(QUEUE, 1, idempotency_key="order-7")
    before = raw.digest()
    with pytest.raises(MessageConflict, match="idempotency_key"):
        mq.queue_message(QUEUE, 2, idempotency_key="order-7")
    assert raw.digest() == before


def test_a_key_is_remembered_when_its_message_is_gone(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, 1, idempotency_key="order-7")
    hand.complete(hand.claim())
    mq.delete_message(QUEUE, id)
    assert mq.queue_message(QUEUE, 1, idempotency_key="order-7") == id
    assert mq.stats(QUEUE).ready == 0


def test_each_application_has_keys_of_its_own(make_client: Any, server: Any, namespace: str) -> None:
    ids = []
    for app in ("bank", "shop"):
        own = Credentials.generate(app)
        settings = settings_for(server.url, namespace, app_id=own.app, app_secret=own.secret())
        ids.append(make_client(settings).queue_message(QUEUE, app, idempotency_key="order-7"))
    nobody = settings_for(server.url, namespace, auth="none", app_id=None, app_secret=None)
    ids.append(make_client(nobody).queue_message(QUEUE, None, idempotency_key="order-7"))
    assert ids == [id_text(derived_id(app, QUEUE, "order-7")) for app in ("bank", "shop", "")]


KEYS = 50
PRODUCER = f"""
import sys
from redisq import RedisQ

with RedisQ() as mq:
    mq.stats("orders")  # connects
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range({KEYS}):
        print(mq.queue_message("orders", n, idempotency_key=f"order-{{n}}"))
"""


@pytest.mark.full
def test_two_processes_at_once_queue_one_message_and_a_worker_executes_it_once(
    real_server: Any, namespace: str
) -> None:
    settings = settings_for(real_server.url, namespace)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(redisq.__file__).parents[1]),
        "REDISQ_URL": settings.url,
        "REDISQ_NAMESPACE": namespace,
        "REDISQ_APP_ID": CREDENTIALS.app,
        "REDISQ_APP_SECRET": CREDENTIALS.secret(),
    }
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen([sys.executable, "-c", PRODUCER], **pipes) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        first, second = [process.communicate(timeout=60)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert first == second == [id_text(derived_id(CREDENTIALS.app, QUEUE, f"order-{n}")) for n in range(KEYS)]

    executed: Counter[int] = Counter()
    worker = Worker(settings=settings)

    @worker.handler(QUEUE)
    async def execute(delivery: Delivery) -> None:
        executed[delivery.request] += 1

    assert asyncio.run(worker.run_async(burst=True)) == 0
    assert executed == Counter(range(KEYS))
    with RedisQ(settings=settings) as mq:
        assert mq.stats(QUEUE).queued == KEYS
