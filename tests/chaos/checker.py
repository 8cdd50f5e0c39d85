"""Decides from the histories whether redisq kept its promises, message by message, each on its own.

Every message is a small automaton of its own, so its events in order of time decide everything about it: the whole
takes linear time, and only a share of the messages is in memory at once. What may be wrong with a message:

    lost        accepted, not deleted, and neither complete nor dead in the end; or a look-up did not find it meanwhile
    corrupted   a handler got another body than was queued, or another result came back
    phantom     a handler got a message that nobody had queued
    refused     the client was told that the message was not queued, but it was
    doubled     a repeated execution whose attempt is not higher
    unexplained a repeated execution without a recorded cause, or with one that nothing that went wrong explains
    stale       completed with the result of an attempt that is not its last, or that no handler finished
    early       dead before its attempts ran out
    undead      executed or found after its deletion was confirmed, or executed anew after its cancellation was
    uncancelled its end is not what the cancellation answered, or it ended as cancelled and nobody had asked for that
    unaudited   nobody looked in the end

What a client got no answer to may have happened or not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import Event
from tests.chaos.messages import LEASE, MAX_ATTEMPTS, TIMEOUT
from tests.chaos.nemesis import LOOP_HELD, Occurrence

SECOND = 1_000_000_000
LEASE_NS = int(LEASE * SECOND)
TIMEOUT_NS = int(TIMEOUT * SECOND)
EVERYSEC_WINDOW = 2 * SECOND  # what Redis may hold back before a kill, with appendfsync everysec
CANCELLED = "CANCELLED"  # the status of what ended as ERROR, reason `cancelled`
_SHOWN = 10  # findings of one kind with their text

STANDSTILLS = ("worker_stop", "worker_nap")
#: A worker was asked to end, or to make room for one that will die, or has ended by itself.
_ENDED = (
    *("worker_term", "worker_failpoint", "worker_exit"),
    *("lifespan_kill", "middleware_kill", "batch_kill", "cancel_kill"),
)
#: Which faults explain how a delivery ended. What is not listed, doubles nothing: not a lost reply, not a killed Redis.
#: A loop that a handler keeps, for however long, and a worker that stands still for less than what is left of its
#: leases, make handlers overrun their timeout, and lose no lease.
EXCUSES: Mapping[str, frozenset[str]] = {
    "lost": frozenset({*_ENDED, "worker_kill", "worker_stop", "link_hole", "link_freeze"}),
    "released": frozenset(_ENDED),
    "failed": frozenset({*STANDSTILLS, LOOP_HELD}),  # it overran its timeout
}


#: What cancellations answer that may have an effect, without an answer, too; and how a message may end after an answer.
_MAY_CANCEL = ("ended", "told", "unknown")
_ENDS_AFTER = {"ended": (CANCELLED,), "told": (CANCELLED, "COMPLETE"), "late": ("COMPLETE", "ERROR")}


@dataclass(slots=True)
class Operation:
    """One queueing, look-up, cancellation or deletion, as its client saw it.

    Without an answer, `outcome` is `unknown`.
    """

    what: str
    process: str
    digest: str
    began: int
    ended: int | None = None
    outcome: str = "unknown"


@dataclass(slots=True)
class Run:
    """One execution. `how` it ended: `end`, `failed`, `deferred`, `hang`, `cancelled`, or `` when nobody knows."""

    attempt: int
    process: str
    digest: str
    began: int
    ended: int | None = None
    how: str = ""


@dataclass(slots=True)
class Final:
    """What the audit found: `status` is `ABSENT` when there is no such message. `causes`: attempt -> why it ended."""

    status: str
    attempts: int = 0
    result_attempt: int = 0
    result_digest: str = "-"
    causes: Mapping[int, str] = field(default_factory=dict)

    def detail(self) -> str:
        """Write it as the detail of an event."""
        causes = ",".join(f"{attempt}:{cause}" for attempt, cause in self.causes.items())
        return f"{self.status} {self.result_attempt} {self.result_digest} {causes or '-'}"

    @classmethod
    def read(cls, event: Event) -> Final:
        """Read what `detail` wrote."""
        status, result_attempt, result_digest, causes = event.detail.split(" ")
        pairs = [pair.split(":") for pair in causes.split(",") if pair != "-"]
        recorded = {int(attempt): cause for attempt, cause in pairs}
        return cls(status, event.attempt, int(result_attempt), result_digest, recorded)


class Story:
    """All that is known of one message."""

    def __init__(self, id: str, events: Iterable[Event]) -> None:
        self.id = id
        self.operations: list[Operation] = []
        self.runs: list[Run] = []
        self.final: Final | None = None
        for event in events:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        what, _, outcome = event.what.partition(".")
        if outcome == "invoke":
            self.operations.append(Operation(what, event.process, event.digest, event.time))
        elif outcome:
            for operation in self.operations:
                mine = (operation.what, operation.process, operation.digest) == (what, event.process, event.digest)
                if mine and operation.ended is None:
                    operation.ended, operation.outcome = event.time, outcome
                    break
        elif what == "start":
            self.runs.append(Run(event.attempt, event.process, event.digest, event.time))
        elif what == "final":
            self.final = Final.read(event)
        else:
            for run in reversed(self.runs):
                if (run.process, run.attempt) == (event.process, event.attempt):
                    run.ended, run.how = event.time, "hang" if run.how == "hang" else what
                    break

    def of(self, what: str, *outcomes: str) -> list[Operation]:
        """List the operations of one kind that ended so, or all."""
        return [one for one in self.operations if one.what == what and (not outcomes or one.outcome in outcomes)]


class Faults:
    """What went wrong, to be asked what explains a loss."""

    def __init__(self, occurrences: Iterable[Occurrence]) -> None:
        self.all = sorted(occurrences, key=lambda one: one.began)
        self._redis_kills = [one.began for one in self.all if one.kind == "redis_kill"]
        self._stops = [one for one in self.all if one.kind in STANDSTILLS]

    def explain(self, cause: str, process: str, since: int, until: int) -> str | None:
        """Name a fault that may have ended a delivery to `process`, or on its link, in this time."""
        hit = (process, f"{process.partition('.')[0]}.link")
        for one in self.all:
            if one.process in hit and one.kind in EXCUSES.get(cause, ()) and one.began <= until and one.ended >= since:
                return one.kind
        return None

    def rewound(self, time: int) -> bool:
        """Whether Redis was killed so soon after `time` that, with appendfsync everysec, it may have forgotten that."""
        index = bisect_left(self._redis_kills, time)
        return index < len(self._redis_kills) and self._redis_kills[index] <= time + EVERYSEC_WINDOW

    def killed_between(self, since: int, until: int) -> bool:
        """Whether Redis was killed in this time."""
        index = bisect_left(self._redis_kills, since)
        return index < len(self._redis_kills) and self._redis_kills[index] <= until

    def stopped(self, process: str, since: int, until: int, kinds: Sequence[str] = STANDSTILLS) -> int:
        """Say how long a process stood still in this time."""
        own = (one for one in self._stops if one.process == process and one.kind in kinds)
        return sum(max(0, min(one.ended, until) - max(one.began, since)) for one in own)


def causes_of(story: Story, faults: Faults) -> Mapping[int, str]:
    """Say why each attempt ended that was not the last: as Redis recorded it, else as the handlers and faults tell."""
    if story.final is not None and story.final.causes:
        return story.final.causes
    causes: dict[int, str] = {}
    for run, following in zip(story.runs, story.runs[1:], strict=False):
        if run.how in ("failed", "hang"):
            causes[run.attempt] = "failed"
        elif run.how == "deferred":
            causes[run.attempt] = "deferred"
        elif run.how == "cancelled" and faults.explain("released", run.process, run.began, following.began):
            causes[run.attempt] = "released"
        elif faults.explain("lost", run.process, run.began, following.began):
            causes[run.attempt] = "lost"
    return causes


@dataclass
class Verdict:
    """What became of all messages. `findings` counts what is wrong; `texts` tells of the first few."""

    attempted: int = 0
    accepted: int = 0
    unknown: int = 0
    refused: int = 0
    recovered: int = 0  # got no answer, and is there
    completed: int = 0
    dead: int = 0
    cancelled: int = 0
    cancelled_and_gone: int = 0  # perhaps: deleted since
    deleted: int = 0
    executions: int = 0
    forgotten: int = 0  # lost, but within what appendfsync everysec may lose
    repeats: Counter[str] = field(default_factory=Counter)
    cancels: Counter[str] = field(default_factory=Counter)  # what they answered
    findings: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    def find(self, kind: str, id: str, text: str) -> None:
        """Note something wrong."""
        self.findings[kind] += 1
        if self.findings[kind] <= _SHOWN:
            self.texts.append(f"{kind}: {id}: {text}")

    def __add__(self, other: Verdict) -> Verdict:
        """Add up two rounds."""
        names = [name for name in self.__dataclass_fields__ if name != "texts"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Verdict(**sums, texts=self.texts + other.texts)


class Judge:
    """Judges stories. `forgiving`: what a kill of Redis may undo with appendfsync everysec is counted, not found."""

    def __init__(self, faults: Faults, forgiving: bool = False) -> None:
        self._faults = faults
        self._forgiving = forgiving
        self.verdict = Verdict()

    def judge(self, stories: Iterable[tuple[str, Sequence[Event]]]) -> Verdict:
        """Judge all messages."""
        for id, events in stories:
            self.judge_one(Story(id, events))
        return self.verdict

    def judge_one(self, story: Story) -> None:
        """Judge one message."""
        self._count(story)
        for kind, text in self._wrong(story):
            self.verdict.find(kind, story.id, text)

    def _count(self, story: Story) -> None:
        verdict, final = self.verdict, story.final
        verdict.executions += len(story.runs)
        if not story.of("queue"):
            return
        verdict.attempted += 1
        there = final is not None and final.status != "ABSENT"
        if story.of("queue", "ok"):
            verdict.accepted += 1
        elif story.of("queue", "unknown"):
            verdict.unknown += 1
            verdict.recovered += there or bool(story.runs)
        else:
            verdict.refused += 1
        verdict.completed += final is not None and final.status == "COMPLETE"
        verdict.dead += final is not None and final.status == "ERROR"
        verdict.cancels.update(one.outcome for one in story.of("cancel"))
        verdict.cancelled += final is not None and final.status == CANCELLED
        verdict.cancelled_and_gone += not there and bool(story.of("cancel", *_MAY_CANCEL))
        verdict.deleted += bool(story.of("delete", "ok"))

    def _wrong(self, story: Story) -> Iterator[tuple[str, str]]:
        yield from self._wrong_queueing(story)
        yield from self._wrong_runs(story)
        yield from self._wrong_looks(story)
        yield from self._wrong_deletion(story)
        yield from self._wrong_cancellation(story)
        if story.final is not None and story.of("queue"):
            yield from self._wrong_end(story, story.final)
        elif story.of("queue"):
            yield "unaudited", "nobody looked in the end"

    # --- What came in ---

    def _wrong_queueing(self, story: Story) -> Iterator[tuple[str, str]]:
        queued = story.of("queue")
        possible = {one.digest for one in queued if one.outcome != "fail"}
        known = {one.digest for one in queued}
        for run in story.runs:
            if not queued or run.began < queued[0].began:
                yield "phantom", f"attempt {run.attempt} in {run.process}, never queued before"
            elif run.digest not in known:
                yield "corrupted", f"attempt {run.attempt} got {run.digest}, queued was {', '.join(sorted(known))}"
            elif run.digest not in possible:
                yield "refused", f"attempt {run.attempt} in {run.process} of what the client was refused"

    # --- Executions ---

    def _wrong_runs(self, story: Story) -> Iterator[tuple[str, str]]:
        causes = causes_of(story, self._faults)
        for run, following in zip(story.runs, story.runs[1:], strict=False):
            kind, text = self._repeat(run, following, causes.get(run.attempt))
            if text and self._forgiving and self._faults.killed_between(run.began, following.began):
                kind, text = "redis_kill (everysec)", ""
            self.verdict.repeats[kind] += 1
            if text:
                yield kind, text

    def _repeat(self, run: Run, following: Run, cause: str | None) -> tuple[str, str]:
        """Say what kind of repetition `following` is of `run`, and what is wrong with that, if anything is."""
        between = f"attempt {run.attempt} in {run.process}, then attempt {following.attempt} in {following.process}"
        if following.attempt <= run.attempt:
            late = self._faults.stopped(following.process, run.began - LEASE_NS, following.began, ("worker_stop",))
            allowed = late and following.attempt < run.attempt
            return ("late, worker_stop", "") if allowed else ("doubled", between)
        if cause is None:
            return "unexplained", f"{between}: no cause"
        if cause == "failed" and run.how in ("failed", "hang"):
            return "failed", ""
        if cause == "deferred" and run.how == "deferred":
            return "deferred", ""
        fault = self._faults.explain(cause, run.process, run.began, following.began)
        too_soon = cause == "failed" and following.began - run.began < TIMEOUT_NS  # to have overrun its timeout
        if fault is None or too_soon:
            return "unexplained", f"{between}: {cause}, but nothing had gone wrong there"
        return f"{cause}, {fault}", ""

    # --- What clients saw ---

    def _wrong_looks(self, story: Story) -> Iterator[tuple[str, str]]:
        accepted = min((one.ended for one in story.of("queue", "ok") if one.ended), default=None)
        for look in (*story.of("get", "missing"), *story.of("cancel", "missing")):
            assert look.ended is not None
            may_be_gone = any(one.began < look.ended for one in story.of("delete"))
            if accepted is None or look.began < accepted or may_be_gone:
                continue
            if self._forgiving and self._faults.rewound(accepted):
                self.verdict.forgotten += 1
            else:
                yield "lost", f"a {look.what} did not find it"

    def _wrong_deletion(self, story: Story) -> Iterator[tuple[str, str]]:
        confirmed = min((one.ended for one in story.of("delete", "ok") if one.ended), default=None)
        if confirmed is None or (self._forgiving and self._faults.rewound(confirmed)):
            return
        yield from self._executed_after(story, confirmed, "deletion")
        if story.final is not None and story.final.status != "ABSENT":
            yield "undead", f"{story.final.status} after its deletion was confirmed"

    def _executed_after(self, story: Story, confirmed: int, what: str) -> Iterator[tuple[str, str]]:
        for run in story.runs:
            late = run.began - confirmed - self._faults.stopped(run.process, confirmed - LEASE_NS, run.began)
            if late > LEASE_NS:
                yield "undead", f"attempt {run.attempt} began {late / SECOND:.1f} s after its {what} was confirmed"

    def _wrong_cancellation(self, story: Story) -> Iterator[tuple[str, str]]:
        asked = story.of("cancel", "ended", "told", "late")
        status = story.final.status if story.final is not None else "ABSENT"
        if status == CANCELLED and not story.of("cancel", *_MAY_CANCEL):
            yield "uncancelled", "it ended as cancelled, and nobody had asked for that"
        if self._forgiving and any(self._faults.rewound(one.ended or 0) for one in asked):
            return
        confirmed = min((one.ended for one in asked if one.ended and one.outcome != "late"), default=None)
        if confirmed is not None:
            yield from self._executed_after(story, confirmed, "cancellation")
        for outcome in {one.outcome for one in asked}:
            if status not in (*_ENDS_AFTER[outcome], "ABSENT"):
                yield "uncancelled", f"the answer was {outcome}, its end is {status}"

    # --- The end ---

    def _wrong_end(self, story: Story, final: Final) -> Iterator[tuple[str, str]]:
        accepted = [one for one in story.of("queue", "ok") if one.ended is not None]
        if final.status == "ABSENT":
            if accepted and not story.of("delete", "ok", "unknown"):
                if self._forgiving and any(self._faults.rewound(one.ended or 0) for one in accepted):
                    self.verdict.forgotten += 1
                else:
                    yield "lost", "accepted, and gone"
            return
        if not story.of("queue", "ok", "unknown"):
            yield "refused", f"{final.status} in the end, though the client was refused"
        elif final.status not in ("COMPLETE", "ERROR", CANCELLED):
            if not story.of("delete", "ok"):
                yield "lost", f"{final.status} in the end, after {final.attempts} attempts"
        elif final.status == "ERROR" and final.attempts < MAX_ATTEMPTS:
            yield "early", f"dead after {final.attempts} attempts"
        elif final.status == "COMPLETE":
            yield from self._wrong_completion(story, final)

    def _wrong_completion(self, story: Story, final: Final) -> Iterator[tuple[str, str]]:
        finished = {run.attempt for run in story.runs if run.how == "end"}
        if final.result_attempt != final.attempts:
            yield "stale", f"completed by attempt {final.result_attempt}, its last is {final.attempts}"
        elif final.attempts not in finished:
            yield "stale", f"completed by attempt {final.attempts}, which no handler finished"
        if final.result_digest not in {one.digest for one in story.of("queue", "ok", "unknown")}:
            yield "corrupted", f"its result is that of the body {final.result_digest}"
