"""Many messages in one call: queued, looked up and deleted, of any number, from any iterable."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from redisq import BatchError, InvalidMessage, InvalidQueueName, MessageNotFound, Unavailable
from redisq.store.call import BATCH
from redisq.store.keys import id_text, new_id
from tests.contract.conftest import QUEUE
from tests.support.servers.proxy import Proxy


def nobody() -> str:
    return id_text(new_id())


@pytest.mark.parametrize("count", [0, 1, 99, 101, 2 * BATCH + 1])
def test_many_are_found_in_order(mq: Any, count: int) -> None:
    ids = mq.queue_messages(QUEUE, range(count))
    found = mq.get_messages(QUEUE, iter(ids))
    assert [message.request for message in found] == list(range(count))
    assert [message.id for message in found] == ids


def test_what_is_not_there_is_none_at_its_place(mq: Any) -> None:
    first, second = mq.queue_messages(QUEUE, ["a", "b"])
    found = mq.get_messages(QUEUE, [first, nobody(), "no id", uuid.UUID(second), first])
    assert [message and message.request for message in found] == ["a", None, None, "b", "a"]
    assert mq.get_messages(QUEUE, ["no id"]) == [None]


def test_a_damaged_one_is_named_and_the_others_could_be_read(mq: Any, raw: Any) -> None:
    ids = mq.queue_messages(QUEUE, ["a", "b", "c"])
    raw.redis.hset(raw.keys.messages, uuid.UUID(ids[1]).bytes, b"garbage")
    with pytest.raises(BatchError) as caught:
        mq.get_messages(QUEUE, ids)
    assert {index: type(error) for index, error in caught.value.errors.items()} == {1: InvalidMessage}
    assert caught.value.ids == ids


@pytest.mark.parametrize("count", [0, 1, BATCH + 1])
def test_many_are_deleted(mq: Any, count: int) -> None:
    ids = mq.queue_messages(QUEUE, range(count))
    (kept,) = mq.queue_messages(QUEUE, ["kept"])
    assert mq.delete_messages(QUEUE, iter(ids)) == [True] * count
    assert mq.delete_messages(QUEUE, ids) == [False] * count
    assert mq.get_message(QUEUE, kept).request == "kept"
    assert mq.stats(QUEUE).ready == 1


def test_deleting_says_of_each_whether_it_was_there(mq: Any) -> None:
    first, second = mq.queue_messages(QUEUE, ["a", "b"])
    assert mq.delete_messages(QUEUE, [first, nobody(), first, "no id", uuid.UUID(second)]) == [
        True,
        False,
        False,
        False,
        True,
    ]
    with pytest.raises(MessageNotFound):
        mq.get_message(QUEUE, first)


def test_a_stream_of_messages_is_read_as_it_is_sent(mq: Any) -> None:
    waiting: list[int] = []

    def bodies() -> Iterator[int]:
        for number in range(3 * BATCH):
            if number == 2 * BATCH + 1:
                waiting.append(mq.stats(QUEUE).ready)
            yield number

    if type(mq).__name__ == "RedisQ":  # the asynchronous one is driven on one loop here, which is busy
        assert len(mq.queue_messages(QUEUE, bodies())) == 3 * BATCH
        assert waiting == [2 * BATCH]


@pytest.mark.parametrize("count", [0, 1, 300, BATCH + 10])
def test_what_the_iterable_raises_is_raised(mq: Any, raw: Any, count: int) -> None:
    """And what was sent before is in the queue, also when the server was asked first, or did not know the script."""

    def bodies() -> Iterator[int]:
        yield from range(count)
        raise ZeroDivisionError

    raw.redis.script_flush()
    with pytest.raises(ZeroDivisionError):
        mq.queue_messages(QUEUE, bodies())
    assert mq.stats(QUEUE).ready == count // 250 * 250


@pytest.mark.parametrize("operation", ["get_messages", "delete_messages"])
def test_a_bad_name_is_refused_before_anything_is_read(mq: Any, operation: str) -> None:
    with pytest.raises(InvalidQueueName):
        getattr(mq, operation)("no queue!", iter(()))


def test_deleting_without_redis_names_what_is_in_doubt(make_client: Any, raw_real: Any, proxy: Proxy) -> None:
    settings = raw_real.settings.model_copy(update={"url": proxy.url, "retry_deadline": 0.0})
    mq = make_client(settings=settings)
    ids = mq.queue_messages(QUEUE, range(BATCH + 5))
    proxy.cut_reply(b"EVALSHA", times=1000)
    with pytest.raises(BatchError) as caught:
        mq.delete_messages(QUEUE, ids)
    assert list(caught.value.errors) == list(range(BATCH + 5))
    assert all(isinstance(error, Unavailable) for error in caught.value.errors.values())
    proxy.heal()
    assert mq.delete_messages(QUEUE, ids).count(True) in (5, BATCH + 5)  # the first call may have happened
