"""Waiting for many messages at once: each is told once, as it finishes, or as it is when the time is over."""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Any

import pytest

from redisq import BatchError, InvalidArgument, InvalidMessage, InvalidQueueName, MessageNotFound, RedisQ, Status
from redisq.operations import lookup
from redisq.operations.flow import Pause
from redisq.store.keys import id_text
from tests.conftest import Sync, settings_for
from tests.contract.conftest import QUEUE

LONG = 30


def nobody() -> str:
    return str(uuid.uuid4())


def test_each_is_given_as_it_finishes(mq: Any, hand: Any) -> None:
    ids = mq.queue_messages(QUEUE, range(4))
    claimed = hand.claim_up_to(4)
    waiting = iter(mq.wait_for(QUEUE, ids, LONG))
    for number in (2, 0):
        hand.complete(claimed[number], {"of": number})
        message = next(waiting)
        assert (message.id, message.status, message.result) == (ids[number], Status.COMPLETE, {"of": number})
    hand.fail(claimed[1], final=True)
    hand.complete(claimed[3])
    rest = list(waiting)
    assert [message.id for message in rest] == [ids[1], ids[3]]
    assert [message.status for message in rest] == [Status.ERROR, Status.COMPLETE]


def test_what_has_finished_before_is_given_at_once_in_the_order_of_the_ids(mq: Any, hand: Any) -> None:
    ids = mq.queue_messages(QUEUE, range(250))
    for delivery in hand.claim_up_to(250):
        hand.complete(delivery)
    order = [*ids[100:], *ids[:100]]
    assert [message.id for message in mq.wait_for(QUEUE, iter(order), LONG)] == order
    assert [message.id for message in mq.wait_for(QUEUE, [ids[0], uuid.UUID(ids[1]), ids[0]], LONG)] == ids[:2]
    assert list(mq.wait_for(QUEUE, [], LONG)) == []


def test_when_the_time_is_over_the_others_are_given_as_they_are(mq: Any, hand: Any) -> None:
    ids = mq.queue_messages(QUEUE, range(3))
    done, held = hand.claim_up_to(2)
    hand.complete(done)
    found = list(mq.wait_for(QUEUE, ids, 0.05))
    assert [(message.id, message.status) for message in found] == [
        (ids[0], Status.COMPLETE),
        (ids[1], Status.INPROGRESS),
        (ids[2], Status.PENDING),
    ]
    assert id_text(held.receipt.id) == ids[1]
    assert len(list(mq.wait_for(QUEUE, ids, 0))) == 3


def test_what_is_not_there_is_told_at_the_end(mq: Any, hand: Any) -> None:
    ids = [*mq.queue_messages(QUEUE, range(2)), nobody(), "no id"]
    hand.complete(hand.claim())
    waiting = iter(mq.wait_for(QUEUE, ids, LONG))
    assert next(waiting).id == ids[0]
    mq.delete_message(QUEUE, ids[1])
    with pytest.raises(BatchError) as caught:
        next(waiting)
    assert caught.value.ids == ids
    assert {number: type(error) for number, error in caught.value.errors.items()} == dict.fromkeys(
        (1, 2, 3), MessageNotFound
    )
    assert list(waiting) == []


def test_a_damaged_one_is_told_at_the_end(mq: Any, hand: Any, raw: Any) -> None:
    ids = mq.queue_messages(QUEUE, range(2))
    raw.redis.hset(raw.keys.messages, uuid.UUID(ids[0]).bytes, b"garbage")
    waiting = iter(mq.wait_for(QUEUE, ids, 0.05))
    assert next(waiting).id == ids[1]
    with pytest.raises(BatchError) as caught:
        next(waiting)
    assert {number: type(error) for number, error in caught.value.errors.items()} == {0: InvalidMessage}


def test_bad_arguments_are_refused_at_once(make_client: Any, trap: Any) -> None:
    mq = make_client(settings_for(trap.url, "any"))
    for timeout in ("5", True, None, -1, math.nan, math.inf, 31_536_001, [5]):
        with pytest.raises(InvalidArgument, match="timeout= takes seconds"):
            mq.wait_for(QUEUE, [nobody()], timeout)
    for ids in (nobody(), None, 5, {}):
        with pytest.raises(InvalidArgument, match="ids= takes a list of ids"):
            mq.wait_for(QUEUE, ids, 1)
    with pytest.raises(InvalidArgument, match="one of them is of type int"):
        mq.wait_for(QUEUE, [5], 1)
    with pytest.raises(InvalidQueueName):
        mq.wait_for("no queue!", [], 1)


def test_nobody_looks_while_nothing_ends(mq: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are waited for, only the total of what has ended is asked for."""
    looks: list[int] = []
    look = lookup.Waiting._look
    monkeypatch.setattr(lookup.Waiting, "_look", lambda self, names: (looks.append(len(names)), look(self, names))[1])
    ids = mq.queue_messages(QUEUE, range(250))
    assert len(list(mq.wait_for(QUEUE, ids, 0.5))) == 250
    assert looks == [100, 100, 50] * 2  # at the beginning and at the end


def test_who_waits_is_counted_while_it_does(server: Any, namespace: str) -> None:
    with RedisQ(settings=settings_for(server.url, namespace)) as mq:
        ids = mq.queue_messages(QUEUE, range(2))
        waiting = lookup.Waiting(mq._caller, QUEUE, ids, LONG, None)
        flow = waiting.next()
        step: Any = next(flow)
        while not isinstance(step, Pause):
            step = flow.send(mq._link.call(step))
        assert mq._caller.waits == {QUEUE: 1}
        flow.close()
        assert mq._caller.waits == {}


@pytest.mark.full
def test_a_thousand_results_as_they_come(raw_real: Any, hand_on: Any) -> None:
    client, hand = Sync(raw_real.settings), hand_on(raw_real.settings)
    ids = client.queue_messages(QUEUE, range(1_000))

    def work() -> None:
        while claimed := hand.claim_up_to(20):
            for delivery in claimed:
                hand.complete(delivery)
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    found = [message.id for message in client.wait_for(QUEUE, ids, 60)]
    thread.join()
    client.close()
    assert sorted(found) == sorted(ids)
