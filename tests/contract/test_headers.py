"""Headers: texts that travel beside a message's body, on every server and with both clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from redisq import Delivery, InvalidMessage, MessageConflict, MessageTooLarge, RedisQ, Reject, Retry, Status, Worker
from redisq.body import codec
from redisq.store.keys import given_id
from tests.contract.conftest import QUEUE

HEADERS = {"tenant": "a", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def test_they_come_back_with_names_in_lower_case(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, {"n": 1}, headers={"Tenant": "é=1", "empty": ""}, priority=3, delay=0)
    message = mq.get_message(QUEUE, id)
    assert (message.request, message.headers) == ({"n": 1}, {"tenant": "é=1", "empty": ""})
    assert message.to_dict()["headers"] == message.headers
    hand.complete(hand.claim(), "done")
    assert mq.get_message(QUEUE, id).headers == message.headers


def test_without_them_nothing_is_different(mq: Any, raw: Any) -> None:
    plain, none, empty = (mq.queue_message(QUEUE, 1, **how) for how in ({}, {"headers": None}, {"headers": {}}))
    assert [mq.get_message(QUEUE, id).headers for id in (plain, none, empty)] == [{}, {}, {}]
    stored = [raw.redis.hget(raw.keys.messages, given_id(id)) for id in (plain, none, empty)]
    assert len({text.partition(b" ")[2] for text in stored}) == 1


def test_the_same_body_with_others_is_the_same_message(mq: Any, raw: Any) -> None:
    id = mq.queue_message(QUEUE, {"n": 1}, idempotency_key="k", headers=HEADERS)
    before = raw.digest()
    for other in ({}, {"headers": {"traceparent": "another"}}):
        assert mq.queue_message(QUEUE, {"n": 1}, idempotency_key="k", **other) == id
        with pytest.raises(MessageConflict):
            mq.queue_message(QUEUE, {"n": 2}, idempotency_key="k", **other)
    assert raw.digest() == before
    assert mq.get_message(QUEUE, id).headers == HEADERS
    assert mq.queue_messages(QUEUE, [{"n": 1}], ids=[id]) == [id]
    mq.delete_message(QUEUE, id)  # its tombstone holds the same digest
    assert mq.queue_message(QUEUE, {"n": 1}, id=id, headers={"b": "c"}) == id


def test_they_count_towards_max_bytes(mq: Any, raw: Any) -> None:
    mq.define(QUEUE, max_bytes=1024)
    before = raw.digest()
    with pytest.raises(MessageTooLarge):
        mq.queue_message(QUEUE, "x" * 1000, headers={"a": "x" * 100})
    assert raw.digest() == before
    assert mq.queue_message(QUEUE, "x" * 900, headers={"a": "x" * 100})


def test_a_schema_concerns_the_body_alone(mq: Any) -> None:
    mq.define(QUEUE, schema={"type": "object", "required": ["n"]})
    id = mq.queue_message(QUEUE, {"n": 1}, headers=HEADERS)
    assert mq.get_message(QUEUE, id).request == {"n": 1}


def test_they_survive_retries_and_redrive(mq: Any, hand: Any) -> None:
    id = mq.queue_message(QUEUE, {"n": 1}, headers=HEADERS, expires_in=3600, priority=2)
    hand.fail(hand.claim(), delay=0.0)
    assert mq.get_message(QUEUE, id).headers == HEADERS
    hand.fail(hand.claim(), final=True)
    (letter,) = mq.dead_letters(QUEUE)
    assert (letter.id, letter.headers) == (id, HEADERS)
    mq.redrive(QUEUE, [id])
    assert codec.decode_request(hand.claim().body) == ({"n": 1}, HEADERS)
    message = mq.get_message(QUEUE, id)
    assert (message.headers, message.priority, message.expires_at) == (HEADERS, 2, None)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_handler_has_them_in_each_attempt(raw: Any, kind: str) -> None:
    worker, seen = Worker(settings=raw.settings), list[tuple[int, Mapping[str, str]]]()

    def handle(delivery: Delivery) -> None:
        seen.append((delivery.attempt, delivery.headers))
        raise Retry(after=0) if delivery.attempt == 1 else Reject

    async def handle_async(delivery: Delivery) -> None:
        handle(delivery)

    worker.handler(QUEUE)(handle if kind == "plain" else handle_async)
    with RedisQ(settings=raw.settings) as beside:
        id = beside.queue_message(QUEUE, 1, headers=HEADERS)
        worker.run(burst=True)
        while len(seen) < 2:  # the retry was not due yet
            worker.run(burst=True)
        assert beside.get_message(QUEUE, id).status is Status.ERROR
    assert seen == [(1, HEADERS), (2, HEADERS)]


def test_a_refusal_shows_no_text(mq: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        mq.queue_message(QUEUE, 1, headers={"password": "hunter2\n"})
    assert "hunter2" not in str(caught.value)
    assert "password" in str(caught.value)
