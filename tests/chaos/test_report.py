"""What a run tells: its table, the longest recovery, and what is wrong beside the messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from redisq import QueueStats
from tests.chaos.audit import wrong_leftovers, wrong_totals
from tests.chaos.checker import SECOND, Verdict
from tests.chaos.nemesis import Occurrence
from tests.chaos.report import Report, longest_recovery

STATS = QueueStats("tasks", finished=95, dead=10, queued=110, completed=82, died=10, deleted=15, cancelled=6)
VERDICT = Verdict(attempted=120, accepted=110, completed=80, dead=10, cancelled=5, cancelled_and_gone=2)


def test_totals_that_add_up_are_right() -> None:
    assert list(wrong_totals(STATS, VERDICT)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"ready": 1},
        {"scheduled": 1},
        {"in_progress": 1},
        {"finished": 96},
        {"dead": 9},
        {"queued": 111},
        {"deleted": 16},
        {"completed": 79},
        {"completed": 96},
        {"cancelled": 4},
        {"cancelled": 8},
    ],
    ids=str,
)
def test_totals_that_do_not_add_up_are_told(values: dict[str, int]) -> None:
    assert list(wrong_totals(replace(STATS, **values), VERDICT)) != []


def test_leftovers_are_told() -> None:
    kept = [b"chaos:1:{tasks}:config", b"chaos:1:{tasks}:counters", b"chaos:1:{tasks}:workers", b"chaos:1:queues"]
    assert list(wrong_leftovers(kept)) == []
    assert list(wrong_leftovers([*kept, b"chaos:1:{tasks}:states"])) == ["chaos:1:{tasks}:states is left"]


def test_recovery_is_the_time_until_work_that_began_after_the_fault_has_ended(tmp_path: Path) -> None:
    def line(began: float, ended: float) -> str:
        return f"{int(ended * SECOND)} end {'a' * 36} 1 digest {int(began * SECOND)}\n"

    (tmp_path / "worker-0.1.log").write_text(line(0.5, 2.1) + line(4.0, 4.5) + line(6.5, 6.6))
    (tmp_path / "worker-1.2.log").write_text(line(3.0, 3.5))
    (tmp_path / "client-0.3.log").write_text(f"{SECOND} queue.invoke {'a' * 36} 0 digest 1\n")

    def fault(kind: str, began: float) -> Occurrence:
        return Occurrence(kind, "redis", int(began * SECOND), int((began + 1) * SECOND))

    assert longest_recovery(tmp_path, [fault("redis_kill", 1.0), fault("redis_stop", 5.0)]) == (2.5, "redis_kill")
    assert longest_recovery(tmp_path, [fault("redis_kill", 7.0)]) == (0.0, "")
    assert longest_recovery(tmp_path, []) == (0.0, "")


def test_rounds_add_up_and_the_table_tells_all() -> None:
    rounds = []
    for number in range(2):
        verdict = replace(VERDICT, repeats=Counter({"failed": 2, "lost, worker_kill": 1}))
        rounds.append(Report(7, "Redis 7.0.15", "always", verdict, Counter({"redis_kill": 1}), recovery=number))
        rounds[-1].recovered_from = f"fault {number}"
    total = Report.sum(rounds)
    assert total.ok
    table = total.table()
    for text in ("Redis 7.0.15", "redis_kill 2", "240", "failed 4, lost, worker_kill 2", "1.00 s after fault 1"):
        assert text in table
    assert "WRONG" not in table


def test_a_finding_or_a_complaint_makes_it_wrong() -> None:
    found = Report(7, "Redis 7.0.15", "always")
    found.verdict.find("lost", "an id", "gone")
    complained = Report(7, "Redis 7.0.15", "always", complaints=["worker-1.out: 1 tracebacks"])
    for report, text in ((found, "lost: an id: gone"), (complained, "worker-1.out: 1 tracebacks")):
        assert not report.ok
        assert text in report.table()
