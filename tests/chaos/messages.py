"""The messages of a run: from the seed, the client and a number alone, so that a client that was killed can go on."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from dataclasses import dataclass
from typing import Any

#: The queues of the async handler, the plain one, and the one of batches. Seconds; how long an attempt may take.
QUEUES = ("tasks", "plain", "rows")
TIMEOUT = 12.0  # longer than what takes several leases
MAX_ATTEMPTS = 5  # also how often a worker may be lost
LEASE = 3.0

#: What each _ODD_EVERYth message of a client is, in turn, so that a short run has all; see `planned`.
ODD = ("raise", "cancel", "fork", "hold", "thread", "long")
#: What a handler does that was cancelled.
AFTERMATHS = ("stop", "fail", "defer", "return")
_ODD_EVERY = 80
TRACE = "traceparent"  # the header that a repetition may have another of
_HELD_LONG_EVERY = 30  # of those that keep the loop one keeps it for longer than any lease is left alone

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
    headers: dict[str, str]


def planned(seed: int, slot: str, number: int) -> Planned:
    """Make message `number` of one client.

    The body's `do`: `work` for `ms` milliseconds; on the first `times` attempts `fail`, or `hang` beyond the handler's
    timeout; `defer`; `spoil` the whole batch; or what is odd: `raise` what is hard to write down; `fork`; `hold` the
    loop for `seconds`; sit in a `thread` of its own, or run for `long`, both for several leases; or go on until its
    client comes to `cancel` it, and `then` do one of AFTERMATHS. Its `headers` are those it comes with.
    """
    chance = random.Random(f"{seed}:{slot}:{number}")
    id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    headers = {"tenant": f"{slot} {chance.randrange(100)}"} if chance.random() < 0.3 else {}
    body = {"n": number, "slot": slot, "headers": headers, **_orders(chance, slot, number), "pad": _pad(chance)}
    delay = chance.uniform(0.01, 2) if chance.random() < 0.1 else 0.0
    queue = _queue(chance, body["do"], number // (_ODD_EVERY * len(ODD)))
    return Planned(number, id, queue, body, delay, chance.choice((0, 0, 0, 1, 9)), headers)


def _queue(chance: random.Random, do: str, cycle: int) -> str:
    if do in ("hold", "spoil"):
        return "tasks" if do == "hold" else "rows"
    if do in ("raise", "cancel"):
        return QUEUES[cycle % len(QUEUES)]  # by turns, so that a short run has all
    alone = do in ODD or do == "hang"
    return chance.choices(QUEUES, (60, 25, 0 if alone else 15))[0]


def _orders(chance: random.Random, slot: str, number: int) -> dict[str, Any]:
    lot = chance.random()
    ms = round(chance.uniform(0, chance.choices((20, 150, 1000), (60, 35, 5))[0]), 2)
    turn, ordinary = divmod(number + 1, _ODD_EVERY)
    if not ordinary:
        return {"ms": ms, **_odd_orders(chance, slot, turn - 1)}
    if lot < 0.001:
        return {"do": "hang", "ms": ms, "times": 1}
    if lot < 0.006:
        return {"do": "fail", "ms": ms, "times": 1000}  # dead in the end
    if lot < 0.05:
        return {"do": "fail", "ms": ms, "times": chance.randint(1, 2)}
    if lot < 0.06:
        return {"do": "defer", "ms": ms, "times": chance.randint(1, 3)}
    if lot < 0.061:
        return {"do": "spoil", "ms": ms, "times": 1}
    return {"do": "work", "ms": ms}


def _odd_orders(chance: random.Random, slot: str, turn: int) -> dict[str, Any]:
    cycle, kind = divmod(turn, len(ODD))
    others = int(slot.rpartition("-")[2]) * _HELD_LONG_EVERY // 3  # so that a worker is left to take leases over
    do = ODD[kind]
    if do == "raise":
        return {"do": do, "times": 3}  # as many as there are
    if do == "cancel":
        seconds = round(chance.uniform(1, 1.2) * LEASE, 2)
        return {"do": do, "times": 1, "then": AFTERMATHS[cycle % len(AFTERMATHS)], "seconds": seconds}
    if do == "hold":
        leases = chance.uniform(*((0.02, 0.1) if (cycle + others) % _HELD_LONG_EVERY else (1.9, 2.0)))
    else:
        leases = chance.uniform(2, 2.3)
    return {"do": do, "times": 1, "seconds": round(leases * LEASE, 2)}


def _pad(chance: random.Random) -> Any:
    lot = chance.random()
    if lot < 0.7:
        return chance.choice(_ODD_VALUES)
    size = 200 if lot < 0.95 else 4_000 if lot < 0.999 else 100_000
    return f"{chance.getrandbits(8 * size):x}"


def digest(value: object) -> str:
    """Give what tells one request or result from another: 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
