"""What a run showed, as numbers and as a table."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checker import SECOND, Verdict
from tests.chaos.history import events, files
from tests.chaos.nemesis import Occurrence


@dataclass
class Report:
    """The outcome of one round, or of several added up. Times are seconds."""

    seed: int
    server: str
    appendfsync: str
    verdict: Verdict = field(default_factory=Verdict)
    faults: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)  # of workers, by the place in their own code
    complaints: list[str] = field(default_factory=list)  # what is wrong beside the messages
    recovery: float = 0.0
    recovered_from: str = ""
    seconds: float = 0.0
    rounds: int = 1

    @property
    def ok(self) -> bool:
        """Whether redisq kept its promises."""
        return not self.verdict.findings and not self.complaints

    @classmethod
    def sum(cls, reports: Sequence[Report]) -> Report:
        """Add rounds up."""
        first = reports[0]
        total = cls(first.seed, first.server, first.appendfsync, rounds=0)
        for one in reports:
            total.verdict += one.verdict
            total.faults += one.faults
            total.deaths += one.deaths
            total.complaints += one.complaints
            total.recovery, total.recovered_from = max(
                (total.recovery, total.recovered_from), (one.recovery, one.recovered_from)
            )
            total.seconds += one.seconds
            total.rounds += one.rounds
        return total

    def table(self) -> str:
        """Draw it."""
        rows = list(self._rows())
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _rows(self) -> Iterator[tuple[str, str]]:
        verdict = self.verdict
        yield "seed", str(self.seed)
        yield "server", f"{self.server}, appendfsync {self.appendfsync}"
        yield "time", f"{self.seconds:,.0f} s in {self.rounds} round{'s'[: self.rounds > 1]}"
        yield "faults", f"{self.faults.total()} of {len(self.faults)} kinds: {_counts(self.faults)}"
        yield "killed", _counts(self.deaths) or "nobody in code of its own"
        yield "attempted", f"{verdict.attempted:,}"
        yield "accepted", f"{verdict.accepted:,}"
        yield "refused", f"{verdict.refused:,}"
        yield "unknown", f"{verdict.unknown:,}, of which {verdict.recovered:,} had been accepted"
        yield "completed", f"{verdict.completed:,}"
        yield "dead", f"{verdict.dead:,}"
        yield "cancelled", f"{verdict.cancelled:,}; {_counts(verdict.cancels) or 'nobody asked'}"
        yield "deleted", f"{verdict.deleted:,}"
        yield "executions", f"{verdict.executions:,}"
        yield "repeated", _counts(verdict.repeats) or "none"
        yield "unexplained", f"{verdict.findings['unexplained'] + verdict.findings['doubled']:,}"
        yield "lost", f"{verdict.findings['lost']:,}"
        if self.appendfsync != "always":
            yield "forgotten", f"{verdict.forgotten:,} accepted within 2 s before a kill of Redis"
        for kind in sorted(verdict.findings.keys() - {"lost"}):
            yield kind, f"{verdict.findings[kind]:,}"
        yield "longest recovery", f"{self.recovery:.2f} s after {self.recovered_from or 'nothing'}"
        for number, text in enumerate([*verdict.texts, *self.complaints]):
            yield "" if number else "WRONG", text


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def longest_recovery(history: Path, occurrences: Sequence[Occurrence]) -> tuple[float, str]:
    """Find the longest time from the beginning of a fault until a handler that began after it ended, and the fault."""
    began = sorted(one.began for one in occurrences)
    first: list[float] = [float("inf")] * len(began)  # end of a handler that began after this fault, before the next
    for start, end in _ends(history):
        index = bisect_right(began, start) - 1
        if index >= 0:
            first[index] = min(first[index], end)
    longest, kind = 0.0, ""
    names = {one.began: one.kind for one in occurrences}
    soonest = float("inf")
    for index in reversed(range(len(began))):
        soonest = min(soonest, first[index])
        if longest < soonest - began[index] < float("inf"):
            longest, kind = soonest - began[index], names[began[index]]
    return longest / SECOND, kind


def _ends(history: Path) -> Iterable[tuple[int, int]]:
    for path in files(history, "worker-*"):
        for event in events(path):
            if event.what == "end":
                yield int(event.detail), event.time
