"""What operations on many messages share. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TypeAlias, TypeVar

from redisq.errors import Indeterminate, InvalidArgument, MessageNotFound, RedisQError, Unavailable
from redisq.link.faults import is_cut
from redisq.operations import options
from redisq.operations.flow import Flow
from redisq.store import keys
from redisq.store.call import Call
from redisq.store.portions import Portion

T = TypeVar("T")
Id: TypeAlias = str | uuid.UUID


def ids_of(ids: object) -> Iterable[Id]:
    """Return what is looked up, deleted or redriven. Of a list each is checked before any is given, else as it comes.

    Nothing of the caller's runs when their texts are made later: subclasses are brought to what they are made of.

    Raises:
        InvalidArgument: it is no list, or one of them is neither text nor a UUID.
    """
    items = options.several("ids", ids)
    return list(map(_plain, items)) if isinstance(items, Collection) else map(_plain, items)


def _plain(id: object) -> Id:
    if isinstance(id, str):
        return str.__str__(id)
    if isinstance(id, uuid.UUID):
        return id if type(id) is uuid.UUID else uuid.UUID(int=id.int)
    raise InvalidArgument(f"ids= takes ids, as text or as uuid.UUID, and one of them is of type {type(id).__name__}")


def known(id: object) -> bytes | None:
    """Return the 16 bytes of an id; None for what can be the id of no message."""
    try:
        return keys.known_id(id)
    except MessageNotFound:
        return None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Divide what an iterable gives, as it comes."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def in_portion(portion: Portion, wanted: int, make: Callable[[int], Call[T]]) -> Flow[tuple[int, T]]:
    """Read so many messages in one call, or fewer where a reply with all of them does not get through.

    The answer is how many were asked for, and what came.
    """
    while True:
        asked = min(wanted, portion.most)
        try:
            answer: T = yield make(asked)
        except Indeterminate as error:
            if not is_cut(error):
                raise
            portion.cut(asked)
        else:
            portion.passed()
            return asked, answer


def not_sent(earlier: RedisQError) -> RedisQError:
    """Return why the rest of a batch stays behind: for each call of it to wait in vain would take far too long."""
    return Unavailable(f"Not sent, after this: {earlier}") if isinstance(earlier, Unavailable) else earlier
