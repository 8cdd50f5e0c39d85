"""What goes wrong and when: drawn from a seed, written as JSON, read again to repeat a run."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

WORKERS = ("worker-0", "worker-1", "worker-2")
CLIENTS = ("client-0", "client-1", "client-2")
REDIS = ("redis",)
_NEVER_TWICE_IN = 0.6  # of the time between two faults: they may overlap, but do not begin together


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: whom it may hit, how long it lasts in seconds, and the bounds of its amount."""

    targets: Sequence[str]
    seconds: tuple[float, float] = (0.0, 0.0)
    amount: tuple[int, int] = (0, 0)
    choices: Sequence[str] = ("",)


#: Every kind; `nemesis` carries them out. Leases last 3 s, commands 1 s.
KINDS: dict[str, Kind] = {
    "worker_kill": Kind(WORKERS),
    "worker_stop": Kind(WORKERS, (4.0, 7.0)),  # longer than the lease
    "worker_nap": Kind(WORKERS, (1.8, 2.0)),  # shorter than what is left of a lease that is renewed: loses nothing
    "worker_term": Kind(WORKERS),
    # The process is replaced by one that kills itself in one of `amount` passes of the failpoint.
    "worker_failpoint": Kind(
        WORKERS,
        amount=(1, 200),
        choices=(
            "worker.claimed",
            "worker.started",
            "worker.finished",
            "worker.outcome_sent",
            "client.before_send",
            "client.after_send",
        ),
    ),
    # The same in the worker's own code, see `worker.pass_by`.
    "lifespan_kill": Kind(WORKERS, amount=(1, 1), choices=("lifespan", "plain lifespan")),
    "middleware_kill": Kind(WORKERS, amount=(1, 100), choices=("middleware.before", "middleware.after")),
    "batch_kill": Kind(WORKERS, amount=(1, 50), choices=("batch.middle",)),
    "cancel_kill": Kind(WORKERS, amount=(1, 2), choices=("cancel.told",)),
    "client_kill": Kind(CLIENTS),
    "client_failpoint": Kind(CLIENTS, amount=(1, 200), choices=("client.before_send", "client.after_send")),
    "redis_kill": Kind(REDIS, (0.0, 1.5)),
    "redis_stop": Kind(REDIS, (0.5, 4.0)),
    "redis_pause": Kind(REDIS, (0.5, 3.0)),  # CLIENT PAUSE
    "redis_full": Kind(REDIS, (1.0, 3.0)),  # maxmemory
    "redis_rewrite": Kind(REDIS),  # BGREWRITEAOF
    "clients_cut": Kind(REDIS),  # CLIENT KILL of all
    "scripts_flushed": Kind(REDIS, (0.5, 2.0)),  # SCRIPT FLUSH, again and again
    "link_drop": Kind(WORKERS + CLIENTS, (1.0, 4.0), (10, 40)),  # each n-th reply is dropped, with its connection
    "link_cut": Kind(WORKERS + CLIENTS, (1.0, 4.0), (10, 40)),  # each n-th reply ends in its middle
    "link_hole": Kind(WORKERS + CLIENTS, (0.5, 4.0)),  # all is taken, nothing answered
    "link_freeze": Kind(WORKERS + CLIENTS, (0.5, 4.0)),  # what is under way is held up, and arrives late
    "link_reset": Kind(WORKERS + CLIENTS),
    "link_split": Kind(WORKERS + CLIENTS, (1.0, 3.0)),  # replies arrive byte by byte
    "link_delay": Kind(WORKERS + CLIENTS, (1.0, 4.0), (5, 200)),  # milliseconds
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at` seconds after the beginning of the load, for `seconds`. `amount`, `choice`: see its kind."""

    at: float
    kind: str
    target: str
    seconds: float
    amount: int
    choice: str

    def __str__(self) -> str:
        what = " ".join(str(part) for part in (self.choice, self.amount) if part)
        return f"{self.at:7.2f} s  {self.kind:<16} {self.target:<9} {self.seconds:5.2f} s  {what}".rstrip()


@dataclass(frozen=True, slots=True)
class Plan:
    """One round: a load of `messages` over `duration` seconds, and its faults. All that a repetition needs."""

    seed: int
    messages: int
    duration: float
    faults: tuple[Fault, ...]
    server: str
    appendfsync: str

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read what `write` wrote."""
        values = json.loads(path.read_text("utf-8"))
        return cls(**{**values, "faults": tuple(Fault(**fault) for fault in values["faults"])})


def draw(seed: int, count: int, duration: float) -> tuple[Fault, ...]:
    """Draw `count` faults, spread over `duration` seconds. Each kind comes once before any comes twice."""
    chance = random.Random(f"faults:{seed}")
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(sorted(KINDS), len(KINDS))
    step = duration / max(1, count)
    return tuple(
        _fault(chance, kind, (number + chance.uniform(0, _NEVER_TWICE_IN)) * step)
        for number, kind in enumerate(kinds[:count])
    )


def _fault(chance: random.Random, name: str, at: float) -> Fault:
    kind = KINDS[name]
    target, choice = chance.choice(kind.targets), chance.choice(kind.choices)
    return Fault(
        round(at, 2), name, target, round(chance.uniform(*kind.seconds), 2), chance.randint(*kind.amount), choice
    )
