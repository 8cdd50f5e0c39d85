"""Names: of queues, of messages, and of every Redis key. The only place that spells a key.

    {namespace}:1:{orders}:stream        a queue's key; "1" is the layout's version
    {namespace}:1:{orders#3}:stream      the same of partition 3, for a queue that has more than one
    {namespace}:1:queues                 the registry of queues
    {namespace}:1:apps                   the registry of applications
    {namespace}:1:rates:billing          how much of its rate an application has used; gone when that is nothing

The braces are Redis Cluster's hash tag: all keys of one partition share a slot, so that one script may touch them.
"""

from __future__ import annotations

import os
import re
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from redisq.errors import InvalidMessage, InvalidQueueName, InvalidSettings, MessageNotFound
from redisq.tokens.scopes import QUEUE_NAME

LAYOUT = 1
_SHOWN = 10  # names of queues in a text
_NAME = re.compile(QUEUE_NAME)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DERIVED = uuid.UUID("16cb2774-e598-4f79-80bb-1d15e9103b4b")  # for ever: another one makes other ids of the same keys


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The Redis keys of one partition of a queue, and the queue's name for error texts."""

    queue: str
    partition: int
    stream: str
    messages: str
    states: str
    scheduled: str
    leases: str
    finished: str
    tombstones: str
    dead: str
    workers: str
    bell: str
    counters: str
    config: str
    urgent: str

    @property
    def hints(self) -> str:
        """The channel on which workers hear of messages that they work on in vain. It is no key."""
        return self.bell.removesuffix("bell") + "hints"


def check_queue_name(name: object) -> str:
    """Return `name`, or raise InvalidQueueName."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    shown = repr(name[:40]) if isinstance(name, str) else f"a {type(name).__name__}"
    raise InvalidQueueName(f"{shown} is no queue name: {InvalidQueueName.__doc__}")


def check_namespace(name: str) -> str:
    """Return `name`, or raise InvalidSettings; a namespace follows the rule for queue names."""
    if _NAME.fullmatch(name):
        return name
    raise InvalidSettings(f"{name[:40]!r} is no namespace: use 1 to 128 of A-Z a-z 0-9 . _ - (REDISQ_NAMESPACE)")


def partition_keys(namespace: str, queue: str, partition: int = 0, partitions: int = 1) -> PartitionKeys:
    """Spell the keys of one partition. `queue` has been checked."""
    tag = queue if partitions == 1 else f"{queue}#{partition}"
    prefix = f"{namespace}:{LAYOUT}:{{{tag}}}:"
    return PartitionKeys(
        queue=queue,
        partition=partition,
        stream=prefix + "stream",
        messages=prefix + "messages",
        states=prefix + "states",
        scheduled=prefix + "scheduled",
        leases=prefix + "leases",
        finished=prefix + "finished",
        tombstones=prefix + "tombstones",
        dead=prefix + "dead",
        workers=prefix + "workers",
        bell=prefix + "bell",
        counters=prefix + "counters",
        config=prefix + "config",
        urgent=prefix + "urgent",
    )


def read_key(namespace: str, key: str) -> tuple[str, str] | None:
    """Read a key of a queue in this namespace: the queue's name, and which of its keys it is; None for any other."""
    found = re.fullmatch(rf"{re.escape(namespace)}:{LAYOUT}:\{{({_NAME.pattern})(?:#\d+)?\}}:(\w+)", key)
    if found is None or found[2] not in PartitionKeys.__slots__ or found[2] in ("queue", "partition"):
        return None
    return found[1], found[2]


def keys_pattern(namespace: str) -> str:
    """Spell what all keys of a namespace match, in SCAN's way."""
    return f"{namespace}:{LAYOUT}:*"


def others(queue: str, known: Sequence[str]) -> str:
    """Return which queues there are in place of `queue`: those whose names resemble it, or else the first few."""
    from difflib import get_close_matches  # for the rare case, as it takes its time to load

    if not known:
        return "There is no queue yet."
    if close := get_close_matches(queue, known, n=3):
        return f"Did you mean {' or '.join(close)}?"
    more = f" and {len(known) - _SHOWN:,} more" * (len(known) > _SHOWN)
    return f"There are: {', '.join(sorted(known)[:_SHOWN])}{more}."


def queues_key(namespace: str) -> str:
    """Spell the key of the registry of queues."""
    return f"{namespace}:{LAYOUT}:queues"


def apps_key(namespace: str) -> str:
    """Spell the key of the registry of applications."""
    return f"{namespace}:{LAYOUT}:apps"


def rate_key(namespace: str, application: str) -> str:
    """Spell the key of an application's rate of requests."""
    return f"{namespace}:{LAYOUT}:rates:{application}"


def partition_of(message: bytes, partitions: int) -> int:
    """Find the partition of a message, from its 16-byte id alone, so that every client agrees without asking."""
    return zlib.crc32(message) % partitions if partitions > 1 else 0


def new_id() -> bytes:
    """Make the 16 bytes of a random UUID (version 4)."""
    random = bytearray(os.urandom(16))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    return bytes(random)


#: What makes the 7th and the 9th of 16 random bytes those of a UUID of version 4.
_VERSION = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


def new_ids(count: int) -> list[bytes]:
    """Make so many ids at once, at a third of what each costs alone."""
    random = bytearray(os.urandom(16 * count))
    random[6::16], random[8::16] = random[6::16].translate(_VERSION), random[8::16].translate(_VARIANT)
    made = bytes(random)
    return [made[start : start + 16] for start in range(0, 16 * count, 16)]


def derived_id(application: str, queue: str, key: str) -> bytes:
    """Make the id that belongs to an idempotency key, the same in every process: the 16 bytes of a UUID.

    Any language can: it is version 5 of RFC 9562, that is SHA-1, in the namespace 16cb2774-e598-4f79-80bb-1d15e9103b4b,
    of application, queue and key, as UTF-8, joined by newlines. Neither the application's id, "" without one, nor a
    queue's name can hold a newline, so no two triples make one text. The key is taken as it is, not normalised.

    Raises:
        UnicodeEncodeError: the key holds a lone surrogate.
    """
    return uuid.uuid5(_DERIVED, f"{application}\n{queue}\n{key}").bytes


def id_text(message: bytes) -> str:
    """Write 16 bytes as the text of a UUID."""
    digits = message.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def given_id(text: object) -> bytes:
    """Read the id a caller chose for a new message: the lower-case text of a UUID, or a uuid.UUID.

    Raises:
        InvalidMessage: it is neither.
    """
    if isinstance(text, uuid.UUID):
        return text.bytes
    if isinstance(text, str) and _ID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    raise InvalidMessage("id= takes a UUID in its lower-case form, like 05749898-74a0-47e1-b10d-5acf29d040c4")


def known_id(text: object) -> bytes:
    """Read the id of a message that is looked up.

    Raises:
        MessageNotFound: it is no id, so no message can have it.
    """
    try:
        return given_id(text)
    except InvalidMessage:
        raise MessageNotFound("There is no such message: an id is the lower-case text of a UUID.") from None
