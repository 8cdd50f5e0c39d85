"""Bugs that redisq could have, each a patch of one file in a copy of the project. Whoever looks must find them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import ROOT


@dataclass(frozen=True, slots=True)
class Bug:
    """Words of a file of the package, and what stands in their place."""

    file: str
    right: str
    wrong: str


#: Found by the state machine, step by step beside its model.
OF_THE_MODEL = {
    "the fence removed": Bug(
        "store/scripts/lib/receipts.lua",
        "record and record.attempt == attempt and record.nonce == nonce",
        "record",
    ),
    "the remembered claim removed": Bug(
        "store/scripts/claim.lua", "if last and string.sub(", "if last and '' == string.sub("
    ),
    "tombstones removed": Bug(
        "store/scripts/lib/tombstone.lua", "redis.call('HSET', states, id, 'T '", "redis.call('HDEL', states, id, 'T '"
    ),
    "a completion that writes before it checks": Bug(
        "store/scripts/complete.lua",
        "local records = read_records(states, ids)",
        "redis.call('ZREM', leases, unpack(ids))\nlocal records = read_records(states, ids)",
    ),
}

#: Found by the harness under load, each with what it has to say of it.
OF_THE_HARNESS = {
    "leases taken over before they lapse": (
        "unexplained: ",
        Bug("store/scripts/claim.lua", "math.min(now, lapsed_by)", "now + 1000000"),
    ),
    "bodies mixed up": (
        "corrupted: ",
        Bug("store/scripts/lib/deliver.lua", "id, ordinal, claim.bodies[i]", "id, ordinal, claim.bodies[1]"),
    ),
    "the last of many accepted and dropped": (
        "lost: ",
        Bug(
            "store/scripts/queue.lua",
            "for i = 1, #accepted do",
            "for i = 1, #accepted - (#accepted > 20 and 1 or 0) do",
        ),
    ),
    "a renewal that extends no lease": (
        "unexplained: ",
        Bug("store/scripts/renew.lua", "now + lease, id", "now + 1, id"),
    ),
    "a heartbeat that skips a message": (
        "unexplained: ",
        Bug("worker/heartbeat.py", "every, hinted = list(leases.held)", "every, hinted = list(leases.held)[1:]"),
    ),
    "a heartbeat that waits for the loop": (
        "unexplained: ",
        Bug(
            "worker/heartbeat.py",
            "sent, at = time.monotonic(), datetime.now(UTC)",
            "asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()\n"
            "        sent, at = time.monotonic(), datetime.now(UTC)",
        ),
    ),
    "an outbox that forgets the last of many outcomes": (
        "lost: ",
        Bug("worker/outbox.py", "return taken", "return taken[:-1] or taken"),
    ),
    "a forked child that keeps its parent's signal handlers": (
        "ended with 0",
        Bug(
            "runtime/process.py",
            "    if _replaced:\n        signal.set_wakeup_fd(-1)",
            "    if not _replaced:\n        pass",
        ),
    ),
    "a forked child that goes on as a second worker": (
        "WRONG",
        Bug(
            "runtime/process.py",
            "    global pid\n    pid = os.getpid()\n",
            "    global pid\n",
        ),
    ),
}


def plant(bug: Bug | None, folder: Path) -> None:
    """Copy the project into `folder`, with the bug."""
    for package in ("redisq", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    if bug is not None:
        (folder / "redisq" / bug.file).write_text(with_bug(bug), "utf-8")


def with_bug(bug: Bug) -> str:
    """Return the text of the bug's file with the bug in it."""
    text = (ROOT / "redisq" / bug.file).read_text("utf-8")
    assert text.count(bug.right) == 1, f"{bug.file} has changed: plant this bug anew"
    return text.replace(bug.right, bug.wrong)
