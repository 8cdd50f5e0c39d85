"""The checker, fed histories in which something is wrong, has to name it; and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.checker import SECOND, Faults, Final, Judge, Story, Verdict, causes_of
from tests.chaos.history import Event
from tests.chaos.messages import LEASE, TIMEOUT
from tests.chaos.nemesis import Occurrence

ID = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
BODY, OTHER = "00000000000000aa", "00000000000000bb"
CLIENT, A, B = "client-0.10", "worker-0.20", "worker-1.30"


class Tale:
    """The history of one message, told in order; a tenth of a second passes between two events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.faults: list[Occurrence] = []
        self.now = 0

    def tell(
        self, what: str, attempt: int = 0, by: str = CLIENT, digest: str = "-", detail: str = "-", after: float = 0.1
    ) -> Tale:
        self.now += int(after * SECOND)
        self.events.append(Event(self.now, what, ID, attempt, digest, detail, by))
        return self

    def queued(self, outcome: str = "ok", digest: str = BODY) -> Tale:
        return self.tell("queue.invoke", digest=digest).tell(f"queue.{outcome}", digest=digest)

    def deleted(self, outcome: str = "ok") -> Tale:
        return self.tell("delete.invoke").tell(f"delete.{outcome}")

    def cancelled(self, outcome: str) -> Tale:
        return self.tell("cancel.invoke").tell(f"cancel.{outcome}")

    def looked(self, outcome: str) -> Tale:
        return self.tell("get.invoke").tell(f"get.{outcome}")

    def start(self, attempt: int = 1, by: str = A, digest: str = BODY, after: float = 0.1) -> Tale:
        return self.tell("start", attempt, by, digest, after=after)

    def ran(self, attempt: int = 1, by: str = A, how: str = "end", after: float = 0.1) -> Tale:
        return self.start(attempt, by, after=after).tell(how, attempt, by)

    def fault(self, kind: str, process: str, seconds: float = 0.0) -> Tale:
        self.faults.append(Occurrence(kind, process, self.now, self.now + int(seconds * SECOND)))
        return self

    def final(
        self, status: str, attempts: int = 1, result: int | None = None, digest: str = BODY, **causes: str
    ) -> Tale:
        recorded = {int(name[1:]): cause for name, cause in causes.items()}
        final = Final(status, attempts, attempts if result is None else result, digest, recorded)
        return self.tell("final", attempts, "audit.1", detail=final.detail())

    def verdict(self, forgiving: bool = False) -> Verdict:
        return Judge(Faults(self.faults), forgiving).judge([(ID, self.events)])


def clean() -> Tale:
    return Tale().queued().ran().final("COMPLETE")


def test_a_clean_history_passes() -> None:
    verdict = clean().verdict()
    assert not verdict.findings
    assert (verdict.attempted, verdict.accepted, verdict.completed, verdict.executions) == (1, 1, 1, 1)
    assert not verdict.repeats


#: what is wrong -> a history in which just that is
WRONG: dict[str, Callable[[], Tale]] = {
    "lost: gone": lambda: Tale().queued().final("ABSENT"),
    "lost: gone though executed": lambda: Tale().queued().ran().final("ABSENT"),
    "lost: never executed": lambda: Tale().queued().final("PENDING", 0),
    "lost: never finished": lambda: Tale().queued().start().final("INPROGRESS"),
    "lost: not found meanwhile": lambda: Tale().queued().looked("missing").ran().final("COMPLETE"),
    "lost: gone, and its deletion was refused": lambda: Tale().queued().deleted("fail").final("ABSENT"),
    "corrupted: another body": lambda: Tale().queued().start(digest=OTHER).tell("end", 1, A).final("COMPLETE"),
    "corrupted: another result": lambda: Tale().queued().ran().final("COMPLETE", digest=OTHER),
    "phantom: never queued": lambda: Tale().ran().final("COMPLETE"),
    "phantom: before it was queued": lambda: Tale().ran().queued().final("COMPLETE"),
    "refused: yet executed": lambda: Tale().queued("fail").ran().final("ABSENT"),
    "refused: yet there": lambda: Tale().queued("fail").final("PENDING", 0),
    "refused: a conflicting body executed": lambda: (
        Tale().queued().queued("fail", OTHER).start(digest=OTHER).tell("end", 1, A).final("COMPLETE")
    ),
    "doubled: the same attempt": lambda: Tale().queued().ran(1, A).ran(1, B).final("COMPLETE"),
    "doubled: a lower attempt": lambda: (
        Tale().queued().start(2, A).start(1, B).tell("end", 2, A).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: nothing had happened": lambda: Tale().queued().ran(1, A).ran(2, B).final("COMPLETE", 2),
    "unexplained: lost, without a fault": lambda: Tale().queued().ran(1, A).ran(2, B).final("COMPLETE", 2, a1="lost"),
    "unexplained: another worker was killed": lambda: (
        Tale().queued().start(1, A).fault("worker_kill", B).ran(2, B).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: the kill came long before": lambda: (
        Tale().queued().fault("worker_kill", A).start(1, A, after=60).ran(2, B).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: what happened doubles nothing": lambda: (
        Tale().queued().start(1, A).fault("scripts_flushed", "redis", 9).ran(2, B).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: killed, but no cause is recorded": lambda: (
        Tale().queued().start(1, A).fault("worker_kill", A).ran(2, B).ran(3, B, "failed").final("ERROR", 9, a2="failed")
    ),
    "unexplained: lost while its loop was kept": lambda: (
        Tale().queued().start(1, A).fault("loop_held", A, 9).ran(2, B, after=9).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: lost while its worker took a nap": lambda: (
        Tale().queued().start(1, A).fault("worker_nap", A, 2).ran(2, B, after=3).final("COMPLETE", 2, a1="lost")
    ),
    "unexplained: failed before it could have overrun its timeout": lambda: (
        Tale().queued().ran(1, A).fault("loop_held", A, 9).ran(2, B, after=9).final("COMPLETE", 2, a1="failed")
    ),
    "stale: an earlier attempt's result": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .fault("worker_stop", A, 9)
        .ran(2, B)
        .tell("end", 1, A)
        .final("COMPLETE", 2, result=1, a1="lost")
    ),
    "stale: no handler finished": lambda: Tale().queued().start().final("COMPLETE"),
    "stale: its handler failed": lambda: Tale().queued().ran(how="failed").final("COMPLETE"),
    "early: attempts were left": lambda: Tale().queued().ran(how="failed").final("ERROR", 1, a1="failed"),
    "undead: executed": lambda: Tale().queued().deleted().ran(after=LEASE + 1).final("ABSENT"),
    "undead: there": lambda: Tale().queued().deleted().final("PENDING", 0),
    "undead: executed after its cancellation": lambda: (
        Tale().queued().cancelled("ended").ran(after=LEASE + 1).final("CANCELLED")
    ),
    "undead: executed anew after its worker was told": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .cancelled("told")
        .fault("worker_kill", A)
        .ran(2, B, after=LEASE + 1)
        .final("COMPLETE", 2, a1="lost")
    ),
    "uncancelled: nobody had asked": lambda: Tale().queued().ran().final("CANCELLED"),
    "uncancelled: complete, though it had ended": lambda: Tale().queued().ran().cancelled("ended").final("COMPLETE"),
    "uncancelled: dead, though its worker was told": lambda: (
        Tale().queued().start(1, A).cancelled("told").tell("failed", 1, A).final("ERROR", 5)
    ),
    "uncancelled: though it had finished": lambda: (
        Tale().queued().ran().cancelled("late").cancelled("unknown").final("CANCELLED")
    ),
    "lost: a cancellation did not find it": lambda: Tale().queued().cancelled("missing").ran().final("COMPLETE"),
    "unexplained: deferred, which its handler was not": lambda: (
        Tale().queued().ran(1, A).ran(2, B).final("COMPLETE", 2, a1="deferred")
    ),
    "unaudited": lambda: Tale().queued(),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_names_what_is_wrong(name: str) -> None:
    kind = name.partition(":")[0]
    verdict = WRONG[name]().verdict()
    assert set(verdict.findings) == {kind}
    assert all(text.startswith(f"{kind}: {ID}: ") for text in verdict.texts)


#: what may be -> a history in which it is
RIGHT: dict[str, Callable[[], Tale]] = {
    "no answer, and gone": lambda: Tale().queued("unknown").final("ABSENT"),
    "no answer, and there": lambda: Tale().queued("unknown").ran().final("COMPLETE"),
    "killed before the answer": lambda: Tale().tell("queue.invoke", digest=BODY).ran().final("COMPLETE"),
    "refused, then accepted": lambda: Tale().queued("fail").queued().ran().final("COMPLETE"),
    "queued twice": lambda: Tale().queued().queued().ran().final("COMPLETE"),
    "a conflict refused": lambda: Tale().queued().queued("fail", OTHER).ran().final("COMPLETE"),
    "deleted": lambda: Tale().queued().deleted().looked("missing").final("ABSENT"),
    "perhaps deleted": lambda: Tale().queued().deleted("unknown").final("ABSENT"),
    "perhaps not deleted": lambda: Tale().queued().deleted("unknown").ran().final("COMPLETE"),
    "deleted while it began": lambda: Tale().queued().deleted().ran().final("ABSENT"),
    "deleted while its worker stood still": lambda: (
        Tale().queued().tell("delete.invoke").fault("worker_stop", A, 10).tell("delete.ok").ran(after=9).final("ABSENT")
    ),
    "executed before the answer": lambda: (
        Tale().tell("queue.invoke", digest=BODY).ran().tell("queue.ok", digest=BODY).final("COMPLETE")
    ),
    "failed, then complete": lambda: Tale().queued().ran(how="failed").ran(2, B).final("COMPLETE", 2, a1="failed"),
    "dead": lambda: (
        Tale()
        .queued()
        .ran(1, how="failed")
        .ran(2, how="failed")
        .ran(3, how="failed")
        .ran(4, how="failed")
        .ran(5, how="failed")
        .final("ERROR", 5, a1="failed", a2="failed", a3="failed", a4="failed", a5="failed")
    ),
    "its worker was killed": lambda: (
        Tale().queued().start(1, A).fault("worker_kill", A).ran(2, B).final("COMPLETE", 2, a1="lost")
    ),
    "its worker stood still and came late": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .fault("worker_stop", A, 9)
        .ran(2, B, after=5)
        .tell("end", 1, A, after=5)
        .final("COMPLETE", 2, a1="lost")
    ),
    "its worker stood still just before it began": lambda: (
        Tale()
        .queued()
        .fault("worker_stop", B, 9)
        .ran(2, A, after=5)
        .start(1, B, after=5)
        .tell("cancelled", 1, B)
        .final("COMPLETE", 2, a1="lost")
    ),
    "its worker's link was a black hole": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .fault("link_hole", "worker-0.link", 9)
        .ran(2, B, after=5)
        .final("COMPLETE", 2, a1="lost")
    ),
    "handed back": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .fault("worker_term", A, 2)
        .tell("cancelled", 1, A)
        .ran(2, B)
        .final("COMPLETE", 2, a1="released")
    ),
    "late, as its loop was kept": lambda: (
        Tale()
        .queued()
        .start(1, A)
        .fault("loop_held", A, 9)
        .tell("cancelled", 1, A, after=TIMEOUT)
        .ran(2, B)
        .final("COMPLETE", 2, a1="failed")
    ),
    "deferred": lambda: Tale().queued().ran(how="deferred").ran(2, B).final("COMPLETE", 2, a1="deferred"),
    "cancelled while it waited": lambda: Tale().queued().cancelled("ended").final("CANCELLED", 0),
    "cancelled while it ran": lambda: (
        Tale().queued().start().cancelled("told").tell("cancelled", 1, A).final("CANCELLED")
    ),
    "cancelled, and returned": lambda: Tale().queued().start().cancelled("told").tell("end", 1, A).final("COMPLETE"),
    "cancelled, and deleted": lambda: Tale().queued().cancelled("ended").deleted().final("ABSENT"),
    "perhaps cancelled": lambda: Tale().queued().cancelled("unknown").final("CANCELLED", 0),
    "cancelled too late": lambda: Tale().queued().ran().cancelled("late").final("COMPLETE"),
    "an attempt that never began": lambda: Tale().queued().ran(2, B).final("COMPLETE", 2, a1="lost"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_it_lets_pass_what_may_be(name: str) -> None:
    verdict = RIGHT[name]().verdict()
    assert verdict.texts == []
    assert not verdict.findings


def test_repeats_are_counted_by_cause_and_fault() -> None:
    failed = RIGHT["failed, then complete"]().verdict()
    assert failed.repeats == {"failed": 1}
    killed = RIGHT["its worker was killed"]().verdict()
    assert killed.repeats == {"lost, worker_kill": 1}
    nothing = WRONG["unexplained: nothing had happened"]().verdict()
    assert nothing.repeats == {"unexplained": 1}
    total = failed + killed + killed
    assert total.repeats == {"failed": 1, "lost, worker_kill": 2}
    assert total.attempted == 3


def test_without_a_recorded_cause_the_log_and_the_faults_tell() -> None:
    def causes(tale: Tale) -> dict[int, str]:
        return dict(causes_of(Story(ID, tale.events), Faults(tale.faults)))

    assert causes(Tale().queued().ran(how="failed").ran(2, B)) == {1: "failed"}
    assert causes(Tale().queued().ran(how="hang").ran(2, B)) == {1: "failed"}
    assert causes(Tale().queued().ran(how="deferred").ran(2, B)) == {1: "deferred"}
    assert causes(Tale().queued().start().fault("worker_kill", A).ran(2, B)) == {1: "lost"}
    released = Tale().queued().start().fault("worker_term", A).tell("cancelled", 1, A).ran(2, B)
    assert causes(released) == {1: "released"}
    assert causes(Tale().queued().ran().ran(2, B)) == {}
    recorded = Tale().queued().ran().ran(2, B).final("COMPLETE", 2, a1="released")
    assert causes(recorded) == {1: "released"}


def test_what_got_no_answer_is_counted_apart() -> None:
    gone = RIGHT["no answer, and gone"]().verdict()
    there = RIGHT["no answer, and there"]().verdict()
    assert (gone.accepted, gone.unknown, gone.recovered) == (0, 1, 0)
    assert (there.accepted, there.unknown, there.recovered) == (0, 1, 1)
    assert Tale().queued("fail").final("ABSENT").verdict().refused == 1


# --- appendfsync everysec: what a kill of Redis may undo ---


def soon_killed(tale: Tale) -> Tale:
    return tale.fault("redis_kill", "redis", 0.5)


def test_what_everysec_may_lose_is_counted_and_not_found() -> None:
    verdict = soon_killed(Tale().queued()).final("ABSENT").verdict(forgiving=True)
    assert not verdict.findings
    assert verdict.forgotten == 1


def test_what_was_accepted_long_before_the_kill_is_lost() -> None:
    tale = Tale().queued().looked("ok").tell("get.invoke", after=3)
    assert soon_killed(tale).final("ABSENT").verdict(forgiving=True).findings == {"lost": 1}


def test_with_appendfsync_always_a_kill_explains_no_loss() -> None:
    assert soon_killed(Tale().queued()).final("ABSENT").verdict().findings == {"lost": 1}
    again = soon_killed(Tale().queued().ran(1, A)).ran(1, B).final("COMPLETE")
    assert again.verdict().findings == {"doubled": 1}
    verdict = again.verdict(forgiving=True)
    assert not verdict.findings
    assert verdict.repeats == {"redis_kill (everysec)": 1}


def test_only_the_first_findings_of_a_kind_are_told() -> None:
    judge = Judge(Faults([]))
    tale = WRONG["lost: gone"]()
    verdict = judge.judge([(f"{ID}{number}", tale.events) for number in range(1_000)])
    assert verdict.findings == {"lost": 1_000}
    assert len(verdict.texts) == 10
