"""What another program wrote into a queue's keys: told by a typed error, or passed over, never taken for a number."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from redisq import Definition, InvalidMessage, QueueNotFound, RedisQError, Unavailable
from redisq.model.message import Status
from redisq.operations import queues
from redisq.store import keys
from tests.scripts.conftest import Orders

QUEUE = "orders"
NO_NUMBERS = [b"", b"abc", b"nan", b"-5", b"1e400", b"0x10", b"1.5", b"9" * 16, b"9" * 5000, b"\xff"]
no_number = pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value[:20]))


@no_number
def test_settings_that_are_no_numbers_count_as_not_set(mq: Any, raw: Any, value: bytes) -> None:
    id = mq.queue_message(QUEUE, 1)
    raw.redis.hset(raw.keys.config, mapping=dict.fromkeys([*Definition.__dataclass_fields__, b"\xff"], value))
    assert replace(mq.define(QUEUE), paused=None) == Definition()
    mq.queue_message(QUEUE, 2)
    assert mq.get_message(QUEUE, id).status is Status.PENDING
    assert mq.stats(QUEUE).ready == 2
    found = {finding.code: finding.count for finding in mq.doctor(QUEUE)}
    assert found["definition-invalid"] == len(Definition.__dataclass_fields__) - 1
    assert found["schema-invalid"] == 1
    assert found["definition-unknown"] == 1
    mq.define(QUEUE, lease=60)
    assert mq.define(QUEUE).lease == 60
    mq.delete_message(QUEUE, id)


@no_number
def test_totals_that_are_no_numbers_begin_anew(mq: Any, raw: Any, value: bytes) -> None:
    mq.queue_message(QUEUE, 1)
    raw.redis.hset(raw.keys.counters, mapping={"queued": value, b"\xff": value})
    assert mq.stats(QUEUE).queued == 0
    mq.doctor(QUEUE)
    mq.queue_messages(QUEUE, [2, 3])
    assert mq.stats(QUEUE).queued == 2


@no_number
def test_a_number_of_partitions_that_is_none_is_not_guessed(mq: Any, raw: Any, value: bytes) -> None:
    raw.redis.hset(keys.queues_key(raw.settings.namespace), mapping={QUEUE: value, b"\xff": value})
    before = raw.digest()
    with pytest.raises(Unavailable):
        mq.queue_message(QUEUE, 1)
    assert raw.digest() == before
    assert mq.queues() == [QUEUE]


STRANGE = ["a b\nFORGED", "\x1b[31m", "orders ", "-orders", ".", "\u202e", "x" * 129, ""]


def test_entries_of_the_registry_that_are_no_queues_are_passed_over(mq: Any, raw: Any) -> None:
    registry = keys.queues_key(raw.settings.namespace)
    raw.redis.hset(registry, mapping=dict.fromkeys(STRANGE, 1))
    assert mq.queues() == []
    with pytest.raises(QueueNotFound, match=r"^There is no queue order\. There is no queue yet\.$"):
        mq._run(queues.stats_of_existing(mq._caller, "order", None))
    mq.queue_message(QUEUE, 1)
    assert mq.queues() == [QUEUE]
    with pytest.raises(QueueNotFound, match=r"^There is no queue order\. Did you mean orders\?$"):
        mq._run(queues.stats_of_existing(mq._caller, "order", None))
    found = {finding.code: finding.count for finding in mq.doctor_server()}
    assert found["entry-strange"] == len(STRANGE)  # who is to remove them is told


@pytest.mark.full(keep=16)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (1, b"9" * 30),
            (1, b"x"),
            (2, b""),
            (3, b"1"),
            (3, b"x,x,x,x"),
            (4, b"\xff"),
            (5, b"9" * 15),
            (5, b"9" * 400),
        ),
        *((5, b"nan"), (6, b"-"), (6, b"9" * 15), (6, b"9" * 400), (7, b"x"), (7, b"\xff"), (8, b"\xff"), (8, b"\xc1")),
    ],
)
def test_a_damaged_record_is_told(mq: Any, raw: Any, field: int, value: bytes) -> None:
    """Whatever can be read of it is given, else an error of ours."""
    orders = Orders(raw)
    dead, done = orders.deliver("dead", "done")
    orders.fail(dead, final=True)
    orders.complete(done)
    for receipt in (dead, done):
        fields = raw.redis.hget(raw.keys.states, receipt.id).split(b" ", 8)
        fields[field] = value
        raw.redis.hset(raw.keys.states, receipt.id, b" ".join(fields))
        with contextlib.suppress(InvalidMessage):
            assert mq.get_message(QUEUE, keys.id_text(receipt.id)).id == keys.id_text(receipt.id)
    assert [letter.id for letter in mq.dead_letters(QUEUE)] == [keys.id_text(dead.id)]
    mq.doctor(QUEUE, fix=True)
    mq.delete_message(QUEUE, keys.id_text(dead.id))
    mq.delete_message(QUEUE, keys.id_text(done.id))
    assert raw.redis.hlen(raw.keys.messages) == 0


def test_a_bad_argument_of_our_own_is_told_without_the_message(mq: Any, raw: Any) -> None:
    """No setting brings one about: it would be a fault of redisq. Nothing of the call is in the error."""
    operations = mq.client._caller
    operations.limits = replace(operations.limits, retention_ms=-1)
    before = raw.digest()
    with pytest.raises(RedisQError) as refused:
        mq.queue_message(QUEUE, "4111-1111")
    assert raw.digest().keys() - before.keys() <= {keys.queues_key(raw.settings.namespace).encode()}
    assert type(refused.value) is (Unavailable if raw.server.kind == "fakeredis" else RedisQError)
    cause = refused.value.__cause__
    assert "4111" not in f"{refused.value} {refused.value!r} {cause} {cause!r}"
