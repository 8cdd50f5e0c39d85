"""Messages of every size up to the limit and just beyond, and batches of every size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from redisq import BatchError, MessageTooLarge, QueueFull, RedisQ, store
from redisq.body import codec
from redisq.operations.caller import limits_of
from redisq.store.call import BATCH, new_nonce
from redisq.store.keys import id_text
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages

CAP = 1024 * 1024
_AROUND = len(codec.encode_request(b"x" * (CAP // 2), CAP)) - CAP // 2  # bytes of the envelope of a large message


def test_each_size_up_to_the_limit_comes_back_and_one_beyond_changes_nothing(tasks: Raw) -> None:
    sizes = [0, 1, CAP - 1 - _AROUND, CAP - _AROUND]
    assert len(codec.encode_request(b"x" * sizes[-1], CAP)) == CAP
    with RedisQ(settings=tasks.settings) as client:
        ids = [client.queue_message(QUEUE, b"x" * size) for size in sizes]
        before = tasks.digest()
        for how in ({}, {"delay": 1.0}):
            with pytest.raises(MessageTooLarge):
                client.queue_message(QUEUE, b"x" * (sizes[-1] + 1), **how)
        assert tasks.digest() == before
        with pytest.raises(BatchError) as caught:
            client.queue_messages(QUEUE, [b"small", b"x" * (sizes[-1] + 1), b"small"])
    assert [len(message.request) for message in messages(tasks, ids)] == sizes
    assert {index: type(error) for index, error in caught.value.errors.items()} == {1: MessageTooLarge}


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("count", [1, 499, 500, 501, 8_001, 20_000])
def test_a_batch_of_any_size_comes_back_in_order(tasks: Raw, count: int) -> None:
    """Lua's own limit on arguments is about 8,000."""
    with RedisQ(settings=tasks.settings) as client:
        ids = client.queue_messages(QUEUE, range(count))
        assert [id_text(id) for id in finish_all(tasks, count)] == ids
        assert [message.result for message in messages(tasks, ids)] == list(range(count))
        stats = client.stats(QUEUE)
    assert (stats.queued, stats.completed, stats.ready, stats.in_progress) == (count, count, 0, 0)


def finish_all(raw: Raw, count: int) -> list[bytes]:
    """Claim so many, complete each with its own request, and give their ids in order."""
    limits, ids = limits_of(raw.settings), list[bytes]()
    while len(ids) < count:
        claim: Any = raw.link.call(store.deliveries.claim(raw.keys, limits, "hand", new_nonce(), BATCH))
        results = [(one.receipt, codec.encode(codec.decode_request(one.body)[0])) for one in claim.deliveries]
        assert results
        assert raw.link.call(store.deliveries.complete(raw.keys, limits, results)) == [None] * len(results)
        ids += [one.receipt.id for one in claim.deliveries]
    return ids


def test_a_batch_beyond_the_queues_length_tells_exactly_what_was_refused(
    tasks: Raw, scaled: Callable[[int, int], int]
) -> None:
    count, room = scaled(20_000, 2_000), 1_234
    with RedisQ(settings=tasks.settings) as client:
        client.define(QUEUE, max_length=room)
        with pytest.raises(BatchError) as caught:
            client.queue_messages(QUEUE, range(count))
        assert client.stats(QUEUE).ready == room
    assert list(caught.value.errors) == list(range(room, count))
    assert {type(error) for error in caught.value.errors.values()} == {QueueFull}
    assert [message.request for message in messages(tasks, caught.value.ids[:room])] == list(range(room))
