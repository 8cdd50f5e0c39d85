"""A delivery as it goes to and from Redis: what a claim gives, and how an attempt failed. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a delivery: the message's 16-byte id, the attempt, and the nonce of the claim."""

    id: bytes
    attempt: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """One delivery as the claim gave it; `body` is the encoded request."""

    receipt: Receipt
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave. `lease` and `wait` are seconds; `wait` is None when nothing is due, 0 to claim again.

    The first `suspects` deliveries are of messages that may have taken their last worker down; an `isolated` one may
    share its worker with no other suspect. See `redisq.claims.suspects`. `time` is the server's, in seconds since 1970.
    A repeat may give a part of what the claim gave: then `rest` are still to come.
    """

    deliveries: Sequence[Claimed]
    lease: float
    wait: float | None
    suspects: int = 0
    isolated: bool = False
    time: float = 0.0
    rest: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How a delivery failed: its encoded error and what shall follow.

    `cause` is `failed` or `rejected`. `delay` is in seconds; None takes the queue's backoff. `final` allows no retry.
    """

    receipt: Receipt
    error: bytes
    cause: str = "failed"
    delay: float | None = None
    final: bool = False
