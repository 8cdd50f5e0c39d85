"""Places where a process kills itself on request, so that tests see what is left then. Inert unless asked for.

    REDISQ_FAILPOINTS=worker.claimed:kill:0.01:7

kills the process in one of a hundred passes of `worker.claimed`, drawn from the seed 7; commas separate several.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping

from redisq.errors import InvalidSettings

#: Every failpoint, and where a process is that has reached it.
NAMES: Mapping[str, str] = {
    "client.before_send": "connected, nothing sent",
    "client.after_send": "a command was sent, its reply not read",
    "worker.claimed": "a claim was answered, none of its messages begun",
    "worker.started": "a message is with its handler",
    "worker.finished": "a handler returned or raised, its outcome was not sent",
    "worker.outcome_sent": "outcomes were sent and confirmed, the worker does not know it yet",
}


def parse(text: str) -> dict[str, tuple[float, random.Random]]:
    """Read what REDISQ_FAILPOINTS holds, `name:kill:probability:seed`, separated by commas, as odds and chances.

    Raises:
        InvalidSettings: an unknown name or action, or a number that is invalid.
    """
    armed = {}
    for spec in text.split(",") if text else ():
        name, action, probability, seed = (spec.split(":") + [""] * 4)[:4]
        if name not in NAMES or spec.count(":") != 3:
            raise InvalidSettings(
                f"REDISQ_FAILPOINTS: {spec[:80]!r} is not name:kill:probability:seed with one of {', '.join(NAMES)}"
            )
        try:
            odds, number = float(probability), int(seed)
        except ValueError:
            odds, number = -1.0, 0
        if action != "kill" or not 0 <= odds <= 1:
            raise InvalidSettings(
                f"REDISQ_FAILPOINTS: {spec[:80]!r} wants the action kill, a probability from 0 to 1 and a whole seed"
            )
        armed[name] = odds, random.Random(number)
    return armed


_armed = parse(os.environ.get("REDISQ_FAILPOINTS", ""))


def reach(name: str) -> None:
    """Pass the failpoint `name`, or die there."""
    if _armed and name in _armed:
        odds, chance = _armed[name]
        if chance.random() < odds:
            os.kill(os.getpid(), signal.SIGKILL)
