"""Dead letters: `dead.lua`, `redrive.lua`. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from redisq.errors import RedisQError
from redisq.model.listing import DeadLetter, DeadPage
from redisq.store.call import Call, Limits, call, done, milliseconds, periods
from redisq.store.keys import PartitionKeys
from redisq.store.messages import read_message
from redisq.store.record import Record
from redisq.store.reply import Outcome


def dead(keys: PartitionKeys, page: DeadPage) -> Call[list[DeadLetter]]:
    """List up to BATCH dead letters, oldest first."""
    max_age = -1 if page.max_age is None else milliseconds(page.max_age)
    min_age = math.floor(page.min_age * 1000)
    args = (page.start, page.skip, min_age, max_age, page.limit, int(page.bodies))
    return call("dead", keys, args, partial(_read_letters, keys.queue), parts=page.limit)


def _read_letters(queue_name: str, reply: Sequence[Sequence[Any]]) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    for id, died, record, stored in reply:
        reason, message = "unreadable", None
        try:
            state = Record.of(record or b"")
            if state.status == b"E":
                reason = state.cause.decode(errors="replace")
                message = read_message(queue_name, id, stored, record, None)
        except (RedisQError, ValueError, IndexError, OverflowError):  # its body or its record was damaged
            pass
        letters.append(DeadLetter(id, int(float(died)), reason, message, len(stored or b"")))
    return letters


def redrive(keys: PartitionKeys, limits: Limits, who: str, ids: Sequence[bytes]) -> Call[list[Outcome[None]]]:
    """Queue up to BATCH dead letters anew; a repeat succeeds and changes nothing. `who` goes into their history."""
    return call("redrive", keys, (*periods(limits), who, *ids), done)
