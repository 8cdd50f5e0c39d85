"""Names: which are taken, how keys are spelled, and that ids survive."""

from __future__ import annotations

import uuid
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq.errors import InvalidMessage, InvalidQueueName, InvalidSettings, MessageNotFound
from redisq.keys import (
    PartitionKeys,
    check_namespace,
    check_queue_name,
    given_id,
    id_text,
    known_id,
    new_id,
    partition_keys,
    partition_of,
    queues_key,
)

NAMES = ["orders", "a", "7", "Orders.eu-west_1", "x" * 128]
NO_NAMES = ["", "-a", ".a", "_a", "a b", "a/b", "a{b}", "a:b", "a#b", "a*", "bücher", "a\n", "x" * 129, "a\0", "٣"]


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    assert check_queue_name(name) == name
    assert check_namespace(name) == name


@pytest.mark.parametrize("name", NO_NAMES)
def test_no_names(name: str) -> None:
    with pytest.raises(InvalidQueueName, match="is no queue name: A queue name is 1 to 128 of"):
        check_queue_name(name)
    with pytest.raises(InvalidSettings, match="REDISQ_NAMESPACE"):
        check_namespace(name)


@pytest.mark.parametrize("name", [None, 5, b"orders", ["orders"]])
def test_a_name_is_text(name: object) -> None:
    with pytest.raises(InvalidQueueName, match=f"a {type(name).__name__} is no queue name"):
        check_queue_name(name)


def test_an_error_quotes_the_beginning_of_a_long_name_only() -> None:
    with pytest.raises(InvalidQueueName) as refused:
        check_queue_name("?" * 100_000)
    assert len(str(refused.value)) < 300


def test_the_keys_of_a_queue() -> None:
    keys = partition_keys("ns", "orders")
    spelled = {
        field.name: getattr(keys, field.name)
        for field in fields(PartitionKeys)
        if field.name not in ("queue", "partition")
    }
    assert spelled == {name: f"ns:1:{{orders}}:{name}" for name in spelled}
    assert len(spelled) == 12
    assert (keys.queue, keys.partition) == ("orders", 0)
    assert queues_key("ns") == "ns:1:queues"


def test_the_keys_of_a_partition_share_its_slot() -> None:
    keys = partition_keys("ns", "orders", 3, 8)
    assert (keys.stream, keys.partition) == ("ns:1:{orders#3}:stream", 3)


def test_no_queue_has_the_keys_of_another() -> None:
    assert partition_keys("ns", "a", 1, 2).stream != partition_keys("ns", "a-1").stream
    assert partition_keys("ns", "a").stream != partition_keys("ns", "a", 0, 2).stream


@given(st.uuids())
def test_an_id_survives(id: uuid.UUID) -> None:
    assert given_id(str(id)) == given_id(id) == known_id(str(id)) == id.bytes
    assert id_text(id.bytes) == str(id)


def test_a_new_id_is_a_random_uuid() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {uuid.UUID(bytes=id).version for id in ids} == {4}
    assert {uuid.UUID(bytes=id).variant for id in ids} == {uuid.RFC_4122}


ID = "05749898-74a0-47e1-b10d-5acf29d040c4"
NO_IDS = [
    "",
    ID.upper(),
    ID.replace("-", ""),
    f"{{{ID}}}",
    f"urn:uuid:{ID}",
    f"{ID}\n",
    f" {ID}",
    ID[:-1],
    "g" + ID[1:],
    7,
    None,
]


@pytest.mark.parametrize("id", [*NO_IDS, ID.encode(), "٣" + ID[1:]])
def test_no_ids(id: object) -> None:
    with pytest.raises(InvalidMessage, match="lower-case form"):
        given_id(id)
    with pytest.raises(MessageNotFound, match="There is no such message"):
        known_id(id)


def test_a_partition_is_found_from_the_id_alone() -> None:
    """These numbers may never change: messages lie where they say."""
    id = given_id(ID)
    assert [partition_of(id, partitions) for partitions in (1, 2, 3, 8, 1000)] == [0, 0, 0, 4, 460]


def test_partitions_are_evenly_filled() -> None:
    counts = [0] * 8
    for _ in range(8000):
        counts[partition_of(new_id(), 8)] += 1
    assert min(counts) > 800
