"""The messages of a run: from the seed, the client and a number alone, so that a client that was killed can go on."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from dataclasses import dataclass
from typing import Any

#: The async handler's queue, and the plain one's. Seconds; how long an attempt may take.
QUEUES = ("tasks", "plain")
TIMEOUT = 5.0
MAX_ATTEMPTS = 5  # also how often a worker may be lost
LEASE = 3.0

_ODD_VALUES = (None, True, -(2**63), 2**63 - 1, 1.5e300, "", "\x00", "é\u2028\U0001f600", [], {}, [[[{"": [None]}]]])


@dataclass(frozen=True, slots=True)
class Planned:
    """A message to queue, and what it tells its handler to do."""

    number: int
    id: str
    queue: str
    body: dict[str, Any]
    delay: float
    priority: int


def planned(seed: int, slot: str, number: int) -> Planned:
    """Make message `number` of one client.

    The body's `do`: `work` for `ms` milliseconds; `fail` on the first `times` attempts; `hang` beyond the handler's
    timeout on the first.
    """
    chance = random.Random(f"{seed}:{slot}:{number}")
    id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    body = {"n": number, "slot": slot, **_orders(chance), "pad": _pad(chance)}
    delay = chance.uniform(0.01, 2) if chance.random() < 0.1 else 0.0
    queue = QUEUES[chance.random() < 0.25]
    return Planned(number, id, queue, body, delay, chance.choice((0, 0, 0, 1, 9)))


def _orders(chance: random.Random) -> dict[str, Any]:
    lot = chance.random()
    ms = round(chance.uniform(0, chance.choices((20, 150, 1000), (60, 35, 5))[0]), 2)
    if lot < 0.001:
        return {"do": "hang", "ms": ms, "times": 1}
    if lot < 0.006:
        return {"do": "fail", "ms": ms, "times": 1000}  # dead in the end
    if lot < 0.05:
        return {"do": "fail", "ms": ms, "times": chance.randint(1, 2)}
    return {"do": "work", "ms": ms}


def _pad(chance: random.Random) -> Any:
    lot = chance.random()
    if lot < 0.7:
        return chance.choice(_ODD_VALUES)
    size = 200 if lot < 0.95 else 4_000 if lot < 0.999 else 100_000
    return f"{chance.getrandbits(8 * size):x}"


def digest(value: object) -> str:
    """Give what tells one request or result from another: 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
