"""A delivery as it goes to and from Redis: what a claim gives, and how an attempt failed. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a delivery: the message's 16-byte id, the attempt, and the nonce of the claim."""

    id: bytes
    attempt: int
    nonce: str


class Claimed(NamedTuple):
    """One delivery as the claim gave it: the encoded request, and what is stored before it, see `store.record.Head`.

    `failed` is how often its handler has failed before. A tuple, as one is made for each delivery.
    """

    receipt: Receipt
    body: bytes
    head: bytes = b"0"
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave. `lease` and `wait` are seconds; `wait` is None when nothing is due, 0 to claim again.

    The first `suspects` deliveries are of messages that may have taken their last worker down; an `isolated` one may
    share its worker with no other suspect. See `redisq.claims.suspects`. `time` is the server's, in seconds since 1970.
    A repeat may give a part of what the claim gave: then `rest` are still to come. `max_attempts` is the queue's own, 0
    when it has none.
    """

    deliveries: Sequence[Claimed]
    lease: float
    wait: float | None
    suspects: int = 0
    isolated: bool = False
    time: float = 0.0
    rest: int = 0
    max_attempts: int = 0


class Renewal(NamedTuple):
    """What a renewal tells: the lease in seconds from then on, and whether the message is to be cancelled."""

    lease: float
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """How a delivery failed: its encoded error and what shall follow.

    `cause` is `failed` or `rejected`. `delay` is in seconds; None takes the queue's backoff. `final` allows no retry.
    `told` is what the message's history says of it: the error's type and text.
    """

    receipt: Receipt
    error: bytes
    cause: str = "failed"
    delay: float | None = None
    final: bool = False
    told: tuple[str, str] | None = None


class Failed(NamedTuple):
    """What became of a message whose delivery failed.

    `delay` is in seconds, until its next attempt; None: it is dead. Its handler has failed `failures` times, and may
    `max_attempts` times.
    """

    delay: float | None
    failures: int
    max_attempts: int
