"""The deduplication window counts from the end of a message, whenever it is swept; and nothing outlives a purge."""

from __future__ import annotations

import pytest

from redisq import store
from tests.scripts.conftest import WINDOW, Orders, new, sweeping_id


@pytest.mark.parametrize("swept_by", ["sweep", "queue"])
def test_a_swept_message_is_remembered_from_when_it_finished(orders: Orders, swept_by: str) -> None:
    orders.limit(retention_ms=1_000)
    (receipt,) = orders.deliver("a")
    orders.complete(receipt)
    orders.pass_time(WINDOW - 60)
    if swept_by == "sweep":
        orders.sweep()
    else:
        orders.queue(new("another", sweeping_id()))
    assert orders.finished() == []
    assert orders.queue(new("a", receipt.id)) == [None]
    assert receipt.id not in orders.ready()  # still a repeat
    orders.pass_time(61)
    assert orders.queue(new("a", receipt.id)) == [None]
    assert receipt.id in orders.ready()  # the window has passed since it finished: a new message
    while orders.sweep()[1]:
        pass
    assert [message.request for message in orders.get(receipt.id)] == ["a"]


def test_purging_a_retry_without_its_body_leaves_no_record(orders: Orders) -> None:
    (receipt,) = orders.deliver("a")
    orders.release(receipt)
    orders.redis.hdel(orders.keys.messages, receipt.id)
    assert orders.run(store.queues.purge(orders.keys, orders.limits)) == 1
    assert orders.ready() == []
    assert orders.record(receipt.id) is None
