"""Lists of messages: `page.lua`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redisq.body import codec
from redisq.errors import RedisQError
from redisq.model.listing import Listed, Page
from redisq.store.call import Call, call
from redisq.store.keys import PartitionKeys, id_text
from redisq.store.record import Record, instant, parted


def page(keys: PartitionKeys, structure: str, cursor: str, limit: int, short: int) -> Call[Page]:
    """List up to `limit` (<= BATCH) messages of a structure, with bodies and records of up to `short` bytes."""
    return call("page", keys, (structure, cursor, limit, short), _read_page, parts=limit)


def _read_page(reply: Sequence[Any]) -> Page:
    cursor, *items = reply
    return Page([_listed(*item) for item in items], None if cursor == b"0" else cursor.decode())


def _listed(id: bytes, at: bytes, record: bytes | None, stored: bytes | None, size: int) -> Listed:
    told: dict[str, Any] = {}
    try:
        if stored is not None:
            told.update(request=codec.decode_request(parted(stored)[1])[0], legible=True)
        if record is not None:
            told.update(_told(Record.of(record)))
        elif stored is not None:
            told.update(attempts=0)
    except (RedisQError, ValueError, IndexError, OverflowError):  # its body or its record was damaged
        pass
    return Listed(id_text(id), instant(float(at)), size, **told)


def _told(state: Record) -> dict[str, Any]:
    """Read what a list shows of a record."""
    told: dict[str, Any] = {"attempts": int(state.attempt)}
    if state.status == b"I":
        told.update(worker=state.entry.decode(), started_at=instant(state.at))
    elif state.status == b"E" or (state.status == b"P" and state.payload):
        told.update(error=state.error())
    return told
