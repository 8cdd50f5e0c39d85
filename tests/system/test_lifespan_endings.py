"""A worker's lifespan in a process of its own: by which ways out it is left, and what a kill in it costs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.shell import Shell
from tests.system.conftest import eventually

WORKER = """
import os, signal, time
from pathlib import Path
from redisq import Worker

worker = Worker()
HOW = os.environ.get("HOW", "")

def note(what):
    with open("notes", "a") as notes:
        notes.write(f"{what} {os.getpid()}\\n")

def opened():
    note("enter")
    if HOW == "killed at its start" and not Path("once").exists():
        Path("once").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if HOW == "fails":
        raise ConnectionError("no database")
    yield {"pool": 1}
    note("leave")
    if HOW == "killed at its end":
        os.kill(os.getpid(), signal.SIGKILL)
    if HOW == "hangs":
        time.sleep(3600)

if "in a thread" in os.environ["KIND"]:
    worker.lifespan(opened)
else:
    @worker.lifespan
    async def opened_on_loop():
        for state in opened():
            yield state

@worker.handler("tasks", concurrency=2)
async def handle(delivery):
    note("start")
    if delivery.request == "hold the loop":
        time.sleep(3600)
    return delivery.state
"""
KINDS = pytest.mark.parametrize("kind", ["on the loop", pytest.param("in a thread", marks=pytest.mark.full)])


@pytest.fixture
def pooled(shell: Shell) -> Shell:
    (shell.folder / "pooled.py").write_text(WORKER)
    shell.environment |= {"REDISQ_GRACE": "0.1", "REDISQ_LEASE": "2"}
    return shell


def notes(folder: Path) -> list[tuple[str, int]]:
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(words[0], int(words[1])) for words in map(str.split, lines)]


@KINDS
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_a_signal_leaves_it(pooled: Shell, kind: str, number: int) -> None:
    id = pooled.text("queue", "tasks", "1")
    worker = pooled.start("worker", "pooled:worker", KIND=kind)
    assert pooled.json("get", "tasks", id, "--wait", "60")["result"] == {"pool": 1}
    worker.send_signal(number)
    assert worker.wait(60) == 0
    assert notes(pooled.folder) == [("enter", worker.pid), ("start", worker.pid), ("leave", worker.pid)]


@KINDS
@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.full)])
def test_a_burst_leaves_it_once_in_each_process(pooled: Shell, kind: str, processes: str) -> None:
    pooled.text("queue", "tasks", "1")
    done = pooled.run("worker", "pooled:worker", "--burst", "--processes", processes, KIND=kind)
    assert done.returncode == 0
    seen = notes(pooled.folder)
    for word in ("enter", "leave"):
        pids = [pid for what, pid in seen if what == word]
        assert len(pids) == len(set(pids)) == int(processes)


@KINDS
def test_one_that_fails_ends_the_process_with_1_and_says_why(pooled: Shell, kind: str) -> None:
    id = pooled.text("queue", "tasks", "1")
    done = pooled.run("worker", "pooled:worker", KIND=kind, HOW="fails")
    assert done.returncode == 1
    assert "failed at its start, and nothing is claimed: ConnectionError" in done.stderr
    assert "no database" in done.stderr
    assert pooled.json("get", "tasks", id)["attempts"] == 0


@KINDS
@pytest.mark.parametrize("where", ["start", "end"])
def test_a_kill_in_it_costs_nothing(pooled: Shell, kind: str, where: str) -> None:
    ids = [pooled.text("queue", "tasks", str(number)) for number in range(3)]
    how = f"killed at its {where}"
    if where == "start":
        assert pooled.run("worker", "pooled:worker", "--burst", KIND=kind, HOW=how).returncode == -signal.SIGKILL
        assert pooled.json("get", "tasks", ids[0])["attempts"] == 0
        assert pooled.run("worker", "pooled:worker", "--burst", KIND=kind, HOW=how).returncode == 0
    else:
        assert pooled.run("worker", "pooled:worker", "--burst", KIND=kind, HOW=how).returncode == -signal.SIGKILL
    for id in ids:
        message = pooled.json("get", "tasks", id)
        assert (message["status"], message["attempts"]) == ("COMPLETE", 1), "outcomes are sent before it is left"


@pytest.mark.parametrize("kind", ["in a thread", pytest.param("on the loop", marks=pytest.mark.full)])
@pytest.mark.parametrize("end", ["a second signal", pytest.param("its time", marks=pytest.mark.full)])
def test_one_that_will_not_end_does_not_hold_the_process(pooled: Shell, kind: str, end: str) -> None:
    pooled.text("queue", "tasks", "1")
    worker = pooled.start("worker", "pooled:worker", KIND=kind, HOW="hangs")
    eventually(lambda: len(notes(pooled.folder)) == 2, "the handler")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: notes(pooled.folder)[-1][0] == "leave", "the end")
    if end == "a second signal":
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == (0 if kind == "on the loop" else 1)  # the watchdog ends a loop that is held
    assert "TimeoutError" in pooled.log.read_text() or "keeps the event loop" in pooled.log.read_text()


@pytest.mark.full
def test_a_worker_whose_loop_is_held_is_ended_without(pooled: Shell) -> None:
    pooled.text("queue", "tasks", '"hold the loop"')
    worker = pooled.start("worker", "pooled:worker", KIND="in a thread")
    eventually(lambda: len(notes(pooled.folder)) == 2, "the handler")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(90) == 0
    assert [what for what, _ in notes(pooled.folder)] == ["enter", "start"]
