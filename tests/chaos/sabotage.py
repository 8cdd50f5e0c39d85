"""Bugs that redisq could have, each a patch of one script in a copy of the project. Whoever looks must find them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import ROOT


@dataclass(frozen=True, slots=True)
class Bug:
    """Words of a script, and what stands in their place."""

    script: str
    right: str
    wrong: str


#: Found by the state machine, step by step beside its model.
OF_THE_MODEL = {
    "the fence removed": Bug(
        "lib/receipts",
        "record and record.attempt == attempt and record.nonce == nonce",
        "record",
    ),
    "the remembered claim removed": Bug("claim", "if last and string.sub(", "if last and '' == string.sub("),
    "tombstones removed": Bug(
        "lib/tombstone", "redis.call('HSET', states, id, 'T '", "redis.call('HDEL', states, id, 'T '"
    ),
    "a completion that writes before it checks": Bug(
        "complete",
        "local records = read_records(states, ids)",
        "redis.call('ZREM', leases, unpack(ids))\nlocal records = read_records(states, ids)",
    ),
}

#: Found by the harness under load, each with the finding that has to tell of it.
OF_THE_HARNESS = {
    "leases taken over before they lapse": ("unexplained", Bug("claim", "math.min(now, lapsed_by)", "now + 1000000")),
    "bodies mixed up": ("corrupted", Bug("claim", "attempt, bodies[i]", "attempt, bodies[1]")),
    "the last of many accepted and dropped": (
        "lost",
        Bug("queue", "for i = 1, #accepted do", "for i = 1, #accepted - (#accepted > 20 and 1 or 0) do"),
    ),
}


def plant(bug: Bug | None, folder: Path) -> None:
    """Copy the project into `folder`, with the bug."""
    for package in ("redisq", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    if bug is None:
        return
    source = folder / "redisq" / "scripts" / f"{bug.script}.lua"
    text = source.read_text("utf-8")
    assert text.count(bug.right) == 1, f"{bug.script}.lua has changed: plant this bug anew"
    source.write_text(text.replace(bug.right, bug.wrong), "utf-8")
