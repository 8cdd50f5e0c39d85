"""What operations on many messages share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from redisq.errors import (
    MessageNotFound,
    RedisQError,
    Unavailable,
)
from redisq.store import keys

T = TypeVar("T")


def known(id: object) -> bytes | None:
    """Give the 16 bytes of an id; None for what can be the id of no message."""
    try:
        return keys.known_id(id)
    except MessageNotFound:
        return None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Divide what an iterable gives, as it comes."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def not_sent(earlier: RedisQError) -> RedisQError:
    """Say why the rest of a batch stays behind: for each call of it to wait in vain would take far too long."""
    return Unavailable(f"Not sent, after this: {earlier}") if isinstance(earlier, Unavailable) else earlier
