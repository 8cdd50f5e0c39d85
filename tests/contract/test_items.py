"""Many messages in one call with options of their own, and with ids that come as they do."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from redisq import BatchError, InvalidMessage, Item, MessageConflict, Status
from redisq.store.call import BATCH
from redisq.store.keys import derived_id, id_text
from tests.conftest import CREDENTIALS, settings_for
from tests.contract.conftest import QUEUE

ID = "05749898-74a0-47e1-b10d-5acf29d040c4"


def test_an_item_has_options_of_its_own(mq: Any) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    items = [
        "plain",
        Item("late", delay=60),
        Item("urgent", priority=9, expires_in=3600),
        Item("mine", id=ID),
        Item("once", idempotency_key="order-7"),
        Item("then", at=at),
        Item("whose", headers={"Tenant": "a"}),
        Item({"none": 1}),
    ]
    ids = mq.queue_messages(QUEUE, items)
    plain, late, urgent, mine, once, then, whose, none = mq.get_messages(QUEUE, ids)
    assert [message.request for message in (plain, late, none)] == ["plain", "late", {"none": 1}]
    assert late.available_at - late.queued_at == timedelta(seconds=60)
    assert urgent.priority == 9
    assert abs(urgent.expires_at - urgent.queued_at - timedelta(hours=1)) < timedelta(seconds=1)
    assert ids[3:5] == [mine.id, once.id] == [ID, id_text(derived_id(CREDENTIALS.app, QUEUE, "order-7"))]
    assert at - timedelta(minutes=1) < then.available_at < at + timedelta(minutes=1)
    assert [message.headers for message in (whose, none)] == [{"tenant": "a"}, {}]
    assert all(message.status is Status.PENDING and message.priority == 0 for message in (plain, none))
    stats = mq.stats(QUEUE)
    assert (stats.ready, stats.scheduled) == (6, 2)


def test_items_may_come_as_they_do_in_any_number(mq: Any) -> None:
    ids = mq.queue_messages(QUEUE, (Item(n, idempotency_key=f"n-{n}") for n in range(2 * BATCH + 1)))
    assert ids == [id_text(derived_id(CREDENTIALS.app, QUEUE, f"n-{n}")) for n in range(2 * BATCH + 1)]
    again = mq.queue_messages(QUEUE, (Item(n, idempotency_key=f"n-{n}") for n in range(2 * BATCH + 1)))
    assert again == ids
    assert mq.stats(QUEUE).ready == 2 * BATCH + 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"delay": -1}, "delay="),
        ({"delay": "5"}, "delay="),
        ({"priority": 10}, "priority="),
        ({"id": "nonsense"}, "id="),
        ({"id": ID, "idempotency_key": "k"}, "idempotency_key= cannot go with id="),
        ({"idempotency_key": ""}, "idempotency_key="),
        ({"at": datetime(2026, 1, 1)}, "at="),
        ({"expires_in": 0}, "expires_in="),
    ],
    ids=str,
)
def test_a_bad_option_spoils_no_other_item(mq: Any, bad: dict[str, Any], says: str) -> None:
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, [Item(1, delay=5), Item(2, **bad), 3, Item({4}), Item(Item(5))])
    errors = caught.value.errors
    assert (list(errors), {type(error) for error in errors.values()}) == ([1, 3, 4], {InvalidMessage})
    assert says in str(errors[1])
    assert "Item cannot be sent" in str(errors[4])
    assert len(set(caught.value.ids)) == 5
    found = mq.get_messages(QUEUE, caught.value.ids)
    assert [message and message.request for message in found] == [1, None, 3, None, None]


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match=r"Item\(\) got an unexpected keyword argument 'prio'"):
        Item(1, prio=3)  # type: ignore[call-arg]


def test_an_item_is_for_many(make_client: Any, trap: Any) -> None:
    with pytest.raises(InvalidMessage, match="Item cannot be sent"):
        make_client(settings_for(trap.url, "any")).queue_message(QUEUE, Item(1))


def test_calling_again_with_the_ids_of_an_error_is_safe(mq: Any) -> None:
    items = [Item(1, delay=60), Item(2, idempotency_key="k"), {3}, Item(4, id=ID)]
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, items)
    items[2] = 3
    assert mq.queue_messages(QUEUE, items, ids=caught.value.ids) == caught.value.ids
    assert [message.request for message in mq.get_messages(QUEUE, caught.value.ids)] == [1, 2, 3, 4]
    stats = mq.stats(QUEUE)
    assert (stats.ready, stats.scheduled, stats.queued) == (3, 1, 4)


def test_an_item_that_names_another_id_is_refused(mq: Any) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, [Item(1, id=ID), Item(2, idempotency_key="k"), Item(3)], ids=ids)
    assert list(caught.value.errors) == [0, 1]
    assert all("another id" in str(error) for error in caught.value.errors.values())
    assert caught.value.ids == ids
    assert mq.stats(QUEUE).ready == 1


def test_a_conflict_of_a_key_is_its_items_alone(mq: Any) -> None:
    mq.queue_message(QUEUE, 1, idempotency_key="k")
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, [Item(2, idempotency_key="k"), Item(3)])
    assert {number: type(error) for number, error in caught.value.errors.items()} == {0: MessageConflict}
    assert mq.stats(QUEUE).ready == 2


def test_a_queues_schema_holds_for_items(mq: Any) -> None:
    mq.define(QUEUE, schema={"type": "integer"})
    with pytest.raises(BatchError) as caught:
        mq.queue_messages(QUEUE, [Item(1, delay=60), Item("no"), Item(3, priority=5)])
    assert list(caught.value.errors) == [1]
    first, _, third = mq.get_messages(QUEUE, caught.value.ids)
    assert (first.available_at - first.queued_at, third.priority) == (timedelta(seconds=60), 5)


# --- Ids that come as they do ---


def uuids() -> Iterator[str]:
    for number in itertools.count(1):
        yield str(uuid.UUID(int=number << 80 | 0x4000 << 64 | 0x8 << 60))


def test_ids_without_end_are_read_as_messages_are(mq: Any) -> None:
    count = 2 * BATCH + 1
    assert mq.queue_messages(QUEUE, iter(range(count)), ids=uuids()) == list(itertools.islice(uuids(), count))
    assert mq.queue_messages(QUEUE, range(count), ids=uuids()) == list(itertools.islice(uuids(), count))
    assert mq.stats(QUEUE).ready == count


def test_with_ids_messages_are_not_read_all_at_once(mq: Any) -> None:
    read = 0

    def ids() -> Iterator[str]:
        nonlocal read
        for read, id in enumerate(uuids(), 1):  # noqa: B007
            yield id

    def messages() -> Iterator[int]:
        for number in range(1_000):
            ahead.append(read - number)
            yield number

    ahead: list[int] = []
    mq.queue_messages(QUEUE, messages(), ids=ids())
    assert max(ahead) <= 1


@pytest.mark.parametrize("bad", ["nonsense", None, 5])
def test_a_bad_one_of_ids_that_come_is_raised_with_what_was_sent_in_the_queue(mq: Any, bad: Any) -> None:
    ids = itertools.chain(itertools.islice(uuids(), 300), [bad])
    with pytest.raises(InvalidMessage, match="id="):
        mq.queue_messages(QUEUE, iter(range(400)), ids=ids)
    assert mq.stats(QUEUE).ready == 250


def test_too_few_and_too_many_ids_are_told(mq: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"ids= ended after 300 ids.* in the queue"):
        mq.queue_messages(QUEUE, iter(range(400)), ids=itertools.islice(uuids(), 300))
    assert mq.stats(QUEUE).ready == 250
    listed = list(itertools.islice(uuids(), 600))
    with pytest.raises(InvalidMessage, match="ids= has 200 ids more than there are messages"):
        mq.queue_messages(QUEUE, iter(range(400)), ids=listed)
    assert mq.stats(QUEUE).ready == 400
    with pytest.raises(InvalidMessage, match="ids= has 600 ids for 3 messages"):
        mq.queue_messages(QUEUE, [1, 2, 3], ids=listed)
