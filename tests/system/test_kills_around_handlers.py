"""What a kill around a handler costs: its message is delivered again, with its cause, and nothing is lost."""

from __future__ import annotations

import signal

import pytest

from tests.support.shell import Shell

WORKER = """
import os, signal
from pathlib import Path
from redisq import Worker

worker = Worker()

def die(where):
    if os.environ["WHERE"] == where and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

@worker.middleware
async def around(delivery, call_next):
    die("before")
    result = await call_next(delivery)
    die("after")
    return result

@worker.handler("rows", batch=10, linger=0.3)
def together(deliveries):
    with open("calls", "a") as calls:
        calls.write(f"{len(deliveries)}\\n")
    die("in the middle")
    return [[delivery.request, delivery.attempt] for delivery in deliveries]

@worker.handler("loop", concurrency=4)
async def on_loop(delivery):
    return [delivery.request, delivery.attempt]

@worker.handler("thread", concurrency=4)
def in_thread(delivery):
    return [delivery.request, delivery.attempt]
"""


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("queue", ["loop", "thread"])
def test_a_kill_in_middleware_has_its_messages_delivered_again(shell: Shell, queue: str, where: str) -> None:
    (shell.folder / "around.py").write_text(WORKER)
    again = {"WHERE": where, "REDISQ_LEASE": "1"}
    ids = [shell.text("queue", queue, str(number)) for number in range(3)]
    assert shell.run("worker", "around:worker", "--burst", **again).returncode == -signal.SIGKILL
    worker = shell.start("worker", "around:worker", **again)
    attempts = set()
    for number, id in enumerate(ids):
        message = shell.json("get", queue, id, "--wait", "60")
        assert (message["status"], message["result"]) == ("COMPLETE", [number, message["attempts"]])
        events = [transition["event"] for transition in message["history"]]
        assert (set(events) <= {"lost", "reclaimed"}, len(events) > 0) == (True, message["attempts"] > 1)
        attempts.add(message["attempts"])
    assert attempts in ({2}, {1, 2})
    worker.terminate()
    assert worker.wait(60) == 0


@pytest.mark.parametrize("where", ["in the middle", pytest.param("after", marks=pytest.mark.full)])
def test_a_kill_in_a_batch_has_each_of_its_messages_run_alone(shell: Shell, where: str) -> None:
    """Nobody knows which of them it was, so none is charged."""
    (shell.folder / "around.py").write_text(WORKER)
    again = {"WHERE": where, "REDISQ_LEASE": "1"}
    ids = [shell.text("queue", "rows", str(number)) for number in range(5)]
    assert shell.run("worker", "around:worker", "--burst", **again).returncode == -signal.SIGKILL
    worker = shell.start("worker", "around:worker", **again)
    for number, id in enumerate(ids):
        message = shell.json("get", "rows", id, "--wait", "60")
        assert (message["status"], message["result"]) == ("COMPLETE", [number, 2])
        assert {transition["event"] for transition in message["history"]} <= {"lost", "reclaimed"}
    worker.terminate()
    assert worker.wait(60) == 0
    assert (shell.folder / "calls").read_text().split() == ["5", "1", "1", "1", "1", "1"]
    assert shell.json("stats", "rows")["dead"] == 0
