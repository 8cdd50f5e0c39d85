"""Histories: what is noted is found again, also when the last line was cut off, and in shares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from tests.chaos.history import Log, by_message, events, files
from tests.chaos.processes import ROOT


def test_what_is_noted_is_read(tmp_path: Path) -> None:
    log = Log(tmp_path, "worker-1")
    at = log.note("start", "a" * 36, 3, "digest")
    log.note_all("queue.invoke", [("b" * 36, "digest", 1), ("c" * 36, "digest", 2)])
    log.note("final", "a" * 36, detail="COMPLETE 1 - 1:lost")
    log.close()
    (path,) = files(tmp_path, "worker-1")
    process = f"worker-1.{os.getpid()}"
    first, second, third, last = events(path)
    assert first == (at, "start", "a" * 36, 3, "digest", "-", process)
    assert (second.id, second.detail, third.id, third.detail) == ("b" * 36, "1", "c" * 36, "2")
    assert second.time == third.time
    assert last.detail == "COMPLETE 1 - 1:lost"
    assert files(tmp_path, "worker-2") == []


def test_a_killed_process_loses_nothing_it_noted(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from tests.chaos.history import Log\n"
        f"log = Log(Path({str(tmp_path)!r}), 'client-0')\n"
        "for n in range(1000): log.note('start', 'a' * 36, n)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert run.returncode == -signal.SIGKILL
    (path,) = files(tmp_path)
    assert [event.attempt for event in events(path)] == list(range(1000))


def test_a_line_that_was_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "worker-1.7.log").write_text(f"1 start {'a' * 36} 1 digest -\n2 end {'a' * 36} 1 dig")
    assert [event.what for event in events(tmp_path / "worker-1.7.log")] == ["start"]
    ((_, found),) = by_message(tmp_path)
    assert [event.what for event in found] == ["start"]


def test_a_messages_events_come_together_in_order_of_time_however_many_shares(tmp_path: Path) -> None:
    ids = [str(uuid.uuid4()) for _ in range(500)]
    for number, slot in enumerate(("client-0", "worker-0", "worker-1")):
        lines = [f"{1000 * (3 - number) + n} start {id} {number} digest -\n" for n, id in enumerate(ids)]
        (tmp_path / f"{slot}.{number + 1}.log").write_text("".join(lines))
    size = sum(path.stat().st_size for path in files(tmp_path))
    for share in (size + 1, size // 10, 1):
        found = dict(by_message(tmp_path, share))
        assert set(found) == set(ids)
        for own in found.values():
            assert [event.process for event in own] == ["worker-1.3", "worker-0.2", "client-0.1"]
    assert len(list(tmp_path.iterdir())) == 3
