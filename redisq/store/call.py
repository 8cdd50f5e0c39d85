"""Operations as values: a `Call` is one script with what it takes, and how to read its reply. Pure.

The only place where seconds become milliseconds. A batch's reply is a list with one outcome per message: its value, or
the RedisQError that refused it, so that one bad message spoils no other.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from redisq.store import scripts
from redisq.store.keys import PartitionKeys
from redisq.store.reply import Outcome, nothing, outcomes

T = TypeVar("T")
Argument = bytes | str | int

#: Messages per call at most: Lua's unpack and the server's latency bound it, and every script's loops.
BATCH = 500
#: A worker's last claim is remembered this long; a repeat comes within seconds, or after an outage within minutes.
CLAIM_MEMORY_MS = 3_600_000


class Call(NamedTuple, Generic[T]):
    """One round trip: a script, its keys and arguments, and how to decode the reply. Safe to send again.

    A call of a client that has a `size` may travel together with others of the same script and keys: after the first
    `head` arguments, which say the same in each, its messages follow with `size` arguments each, and its reply is a
    list with one outcome per message. `most` messages may travel together.

    `parts` is into how many calls its caller can divide it: when there are several, an answer that is lost again and
    again is reported before the time for retries is over, as it may have been too large for the server to send.
    """

    script: scripts.Script
    keys: tuple[str, ...]
    args: Sequence[Argument]
    decode: Callable[[Any], T]
    head: int = 0
    size: int = 0
    most: int = BATCH
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The client's defaults for what a queue may define itself; times in milliseconds."""

    lease_ms: int
    retention_ms: int
    window_ms: int
    dead_ms: int
    max_attempts: int
    max_lost: int
    backoff_base_ms: int
    backoff_cap_ms: int
    max_bytes: int
    max_length: int


def milliseconds(seconds: float) -> int:
    """Convert seconds, rounded up so that nothing is due early (but 0.1 s stays 100 ms)."""
    return math.ceil(round(seconds * 1000, 5))  # a year in milliseconds as a float is off by up to 4e-6


def new_nonce() -> str:
    """Make 72 random bits as 12 characters, for a claim's receipts or a delete's request."""
    return base64.urlsafe_b64encode(os.urandom(9)).decode("ascii")


def call(
    name: str,
    keys: PartitionKeys,
    args: Sequence[Argument],
    decode: Callable[[Any], T],
    head: int = 0,
    size: int = 0,
    most: int = BATCH,
    parts: int = 0,
) -> Call[T]:
    """Return the call of a script on some keys of one queue partition."""
    script, keys_of = _script(name)
    return Call(script, keys_of(keys), args, decode, head, size, most, parts)


@cache
def _script(name: str) -> tuple[scripts.Script, Callable[[PartitionKeys], tuple[str, ...]]]:
    """Return a script and what picks its keys, of which there are several."""
    script = scripts.load(name)
    return script, attrgetter(*script.keys)


def periods(limits: Limits) -> tuple[int, int, int]:
    """Return what each script that writes needs to sweep: how long results, ids and dead letters are kept."""
    return limits.retention_ms, limits.window_ms, limits.dead_ms


def done(reply: Sequence[Any]) -> list[Outcome[None]]:
    """Read a reply that says of each message that it is done, or why not."""
    return outcomes(nothing, reply)
