"""Names: which are taken, how keys are spelled, and that ids survive."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq.errors import InvalidMessage, InvalidQueueName, InvalidSettings, MessageNotFound
from redisq.store.keys import (
    PartitionKeys,
    check_namespace,
    check_queue_name,
    derived_id,
    given_id,
    id_text,
    known_id,
    new_id,
    partition_keys,
    partition_of,
    queues_key,
    read_key,
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
    assert len(spelled) == 13
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


DERIVED = [
    (("shop", "orders", "order-7"), "3509c735-53a6-5b35-a966-ae48cf98e31e"),
    (("", "orders", "order-7"), "fa243d40-87e8-5cf7-93cb-4ac2741223d0"),
    (("shop", "orders", "Zoë\n✓"), "98b4c9d1-0032-5200-9e08-bd468b456304"),
    (("shop", "reports", "shop.report@2026-10-25T00:30:00Z"), "e06fe60f-86ba-525d-ae32-a9638f7c67f6"),
]


@pytest.mark.parametrize(("parts", "id"), DERIVED)
def test_the_id_of_a_key(parts: tuple[str, str, str], id: str) -> None:
    """These may never change, and a client in another language makes the same ones."""
    assert id_text(derived_id(*parts)) == id
    namespace = bytes.fromhex("16cb2774e5984f7980bb1d15e9103b4b")
    made = bytearray(hashlib.sha1(namespace + "\n".join(parts).encode()).digest()[:16])
    made[6], made[8] = made[6] & 0x0F | 0x50, made[8] & 0x3F | 0x80
    assert bytes(made) == derived_id(*parts)


def test_the_id_of_a_key_is_like_no_other() -> None:
    triples = [("a", "b", "c"), ("", "b", "c"), ("b", "a", "c"), ("a", "b", "c\n"), ("a", "b.c", ""), ("a", "b", "C")]
    assert len({derived_id(*parts) for parts in triples}) == len(triples)
    made = uuid.UUID(bytes=derived_id("shop", "orders", "order-7"))
    assert (made.version, made.variant) == (5, uuid.RFC_4122)


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


@pytest.mark.parametrize("name", NAMES)
def test_keys_of_queues_are_read_back(name: str) -> None:
    for keys in (partition_keys("my.ns", name), partition_keys("my.ns", name, 3, 8)):
        for field in fields(keys)[2:]:
            assert read_key("my.ns", getattr(keys, field.name)) == (name, field.name)


@pytest.mark.parametrize(
    "key",
    [
        *("my.ns:1:queues", "my.ns:1:{orders}:attic", "my.ns:1:{orders}:queue", "my.ns:1:{orders}:partition"),
        *("myxns:1:{orders}:stream", "my.ns:2:{orders}:stream", "my.ns:1:{or ders}:stream", "my.ns:1:orders:stream"),
        *("my.ns:1:{orders#x}:stream", "my.ns:1:{orders}:stream\n", "my.ns:1:{orders}:stream:1", ""),
    ],
)
def test_other_keys_are_not(key: str) -> None:
    assert read_key("my.ns", key) is None
