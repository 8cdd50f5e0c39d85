"""Samples, what they come to, and how much is enough. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.benchmarks.peers import OURS, PEERS, RAW, THREADS

Figures: TypeAlias = Mapping[str, Mapping[str, float]]  # by measure, then by subject: an adapter, or a size


def percentile(values: Iterable[float], percent: float) -> float:
    """Give the smallest value that so many percent of all do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or it is no percentage.
    """
    ordered = sorted(values)
    if not ordered or not 0 < percent <= 100:
        raise ValueError("a percentile takes values, and more than 0 percent up to 100")
    rank = -(-len(ordered) * percent // 100)
    return ordered[int(rank) - 1]


@dataclass
class Samples:
    """One number for each round, by measure and subject; and whole distributions, to be drawn."""

    numbers: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    latencies: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, measure: str, subject: str, value: float) -> None:
        """Take a sample down."""
        self.numbers[measure][subject].append(value)

    def add_latencies(self, measure: str, subject: str, seconds: Sequence[float]) -> None:
        """Take the latencies of one round down, and their percentiles as its samples."""
        self.latencies[measure][subject] += seconds
        for percent in (50, 99):
            self.add(f"{measure}:p{percent}", subject, percentile(seconds, percent))

    def figures(self) -> dict[str, dict[str, float]]:
        """Give the median of each."""
        return {
            measure: {subject: statistics.median(values) for subject, values in subjects.items()}
            for measure, subjects in self.numbers.items()
        }

    def forget(self, subject: str) -> None:
        """Remove what was taken down of a subject that failed later."""
        for subjects in (*self.numbers.values(), *self.latencies.values()):
            subjects.pop(subject, None)


@dataclass(frozen=True)
class Target:
    """A figure of ours, and what it shall come to: at least or at most `factor` times `than`.

    `than` is the floor, or the peers, of whom the best one counts; None: `factor` is the bound itself. Theirs is the
    same measure unless `theirs` names another.
    """

    title: str
    measure: str
    ours: str
    factor: float
    than: str | None = None
    theirs: str | None = None
    at_most: bool = False

    def judge(self, figures: Figures) -> Verdict | None:
        """Compare; None when something of it was not measured."""
        own = figures.get(self.measure, {}).get(self.ours)
        other = self._other(figures.get(self.theirs or self.measure, {}))
        if own is None or other is None:
            return None
        subject, value = other
        bound = self.factor * value
        met = own <= bound if self.at_most else own >= bound
        return Verdict(self, own, subject, value, met)

    def _other(self, found: Mapping[str, float]) -> tuple[str, float] | None:
        if self.than is None:
            return "", 1.0
        if self.than == RAW:
            return (RAW, found[RAW]) if RAW in found else None
        rivals = [(found[name], name) for name in PEERS if name in found]
        if not rivals:
            return None
        value, name = min(rivals) if self.at_most else max(rivals)
        return name, value


@dataclass(frozen=True)
class Verdict:
    """How a target was met: our figure, and whose figure it was compared with."""

    target: Target
    own: float
    subject: str
    value: float
    met: bool

    @property
    def ratio(self) -> float:
        """Our figure as a multiple of the other."""
        return self.own / self.value


ANY_PEER = "peers"
#: Long waits at a gateway: for messages to end and for messages to come, of one queue and of a hundred.
WAITS = {
    "waits get": "1,000 waits for messages",
    "waits get spread": "1,000 waits for messages of 100 queues",
    "waits claim": "1,000 waits of workers",
    "waits claim spread": "1,000 waits of workers at 100 queues",
}
#: The parts of a call that queues one message.
CALL = {
    "call token": "of a queueing in Python: its token",
    "call options": "its id and options",
    "call body": "its body and digest",
    "call call": "its call",
    "call pack": "packing the command",
}
CALLERS = 64
#: Idle connections beside; how Redis appends to its file; worker processes at once.
CROWD = 1_000
POLICIES = ("everysec", "always")
PROCESSES = (1, 2, 4, 8)
TARGETS = (
    Target("drain, async handler", "drain", OURS, 15, ANY_PEER),
    Target("drain, async handler", "drain", OURS, 0.45, RAW),
    Target("drain, plain handler in 8 threads", "drain", THREADS, 5, ANY_PEER),
    Target("queue one by one", "queue", THREADS, 0.95, RAW),
    Target("queue one by one", "queue", THREADS, 1, ANY_PEER),
    Target(f"queue, {CALLERS} callers at once", f"callers:{CALLERS}", OURS, 4, ANY_PEER, theirs="queue"),
    Target("queue in bulk", "bulk", THREADS, 0.6, RAW),
    Target("queue in bulk", "bulk", THREADS, 5, ANY_PEER),
    Target("queue in bulk, asyncio", "bulk", OURS, 0.6, RAW),
    Target("queue in bulk, asyncio", "bulk", OURS, 5, ANY_PEER),
    Target("server time of a message queued alone", "queue:cpu", THREADS, 1.3, RAW, at_most=True),
    Target("server time of a message queued alone, asyncio", "queue:cpu", OURS, 1.3, RAW, at_most=True),
    Target("server time of a whole life at a trickle", "trickle:cpu", THREADS, 1.4, ANY_PEER, at_most=True),
    Target("server time of a whole life at a trickle, asyncio", "trickle:cpu", OURS, 1.4, ANY_PEER, at_most=True),
    Target("idle latency, p50", "latency:p50", OURS, 1.1, ANY_PEER, at_most=True),
    Target("idle latency, p99", "latency:p99", OURS, 1.1, ANY_PEER, at_most=True),
    Target("latency at half the maximum rate, p99", "load:p99", OURS, 0.020, at_most=True),
    Target("memory of a waiting message", "waiting", OURS, 165, at_most=True),
    Target("memory of a finished message", "kept", OURS, 330, at_most=True),
    Target("commands of an idle worker", "idle", OURS, 3, at_most=True),
    Target("server time over backlog, largest to smallest", "growth", OURS, 1.3, at_most=True),
    Target("memory per message over backlog", "growth:memory", OURS, 1.3, at_most=True),
    Target(f"POST /{{queue}}, {CALLERS} connections, beside parsing JSON", "http:edge", OURS, 0.6),
    Target(f"POST /{{queue}}, {CALLERS} connections, p99", "http:p99", OURS, 0.025, at_most=True),
    *(
        target
        for measure, title in WAITS.items()
        for target in (
            Target(f"{title}, commands", measure, OURS, 50, at_most=True),
            Target(f"{title}, memory", f"{measure}:memory", OURS, 100e6, at_most=True),
        )
    ),
    Target("import redisq, CPU", "import", OURS, 0.15, at_most=True),
    Target("redisq --help, CPU", "help", OURS, 0.4, at_most=True),
)


def rate(number: float) -> str:
    """Write messages per second."""
    return f"{number:,.0f}/s"


def milliseconds(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1e3:,.2f} ms"


def microseconds(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1e6:,.0f} us"


def tenths(seconds: float) -> str:
    """Write a short time."""
    return f"{seconds * 1e6:,.1f} us"


def megabytes(number: float) -> str:
    """Write bytes."""
    return f"{number / 1e6:,.1f} MB"


#: How the figures of a measure are written; what is not here is in `rate`.
WRITTEN: dict[str, Callable[[float], str]] = {
    "latency:p50": milliseconds,
    "latency:p99": milliseconds,
    **dict.fromkeys(("queue:cpu", "drain:cpu", "trickle:cpu"), microseconds),
    "load:p50": milliseconds,
    "load:p99": milliseconds,
    "waiting": "{:,.0f} B".format,
    "disk": "{:,.0f} B".format,
    "kept": "{:,.0f} B".format,
    "idle": "{:,.1f}/s".format,
    "growth": "{:.2f} x".format,
    "growth:memory": "{:.2f} x".format,
    "http:edge": "{:.2f} x".format,
    "http:bare": "{:.2f} x".format,
    **{
        f"{http}:p{percent}": milliseconds for http in ("http", "http parse", "http parse bare") for percent in (50, 99)
    },
    **dict.fromkeys(WAITS, "{:,.1f}/s".format),
    **{f"{measure}:calls": "{:,.1f}/s".format for measure in WAITS},
    **{f"{measure}:memory": megabytes for measure in WAITS},
    **dict.fromkeys(CALL, tenths),
    "import": milliseconds,
    "import client": milliseconds,
    "help": milliseconds,
}


def written(measure: str, number: float) -> str:
    """Write a figure with its unit."""
    return WRITTEN.get(measure, rate)(number)
