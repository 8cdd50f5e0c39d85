"""Failpoints: inert unless asked for, deadly when asked for, and a bad request is told."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import redisq
from redisq import InvalidSettings
from redisq.runtime import failpoints

ROOT = Path(redisq.__file__).parent


def run(code: str, failpoints: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python in a process with REDISQ_FAILPOINTS set so, or not at all."""
    environment = {name: value for name, value in os.environ.items() if name != "REDISQ_FAILPOINTS"}
    if failpoints is not None:
        environment["REDISQ_FAILPOINTS"] = failpoints
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT.parent, capture_output=True, text=True
    )


PASS_ALL = (
    "from redisq.runtime import failpoints\n"
    "for number in range(1000):\n"
    "    for name in failpoints.NAMES: failpoints.reach(name)\n"
    "    print(number, flush=True)\n"
)


@pytest.mark.parametrize("spec", [None, "", "worker.claimed:kill:0:7"])
def test_they_are_inert_unless_asked_for(spec: str | None) -> None:
    passed = run(PASS_ALL, spec)
    assert (passed.returncode, passed.stderr) == (0, "")
    assert len(passed.stdout.split()) == 1000


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_each_kills_when_asked_to(name: str) -> None:
    died = run(PASS_ALL, f"{name}:kill:1:7")
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == ""
    others = run(
        PASS_ALL.replace("in failpoints.NAMES", f"in set(failpoints.NAMES) - {{{name!r}}}"), f"{name}:kill:1:7"
    )
    assert others.returncode == 0


def test_the_seed_tells_which_pass_is_the_last() -> None:
    lives = {run(PASS_ALL, f"worker.claimed:kill:0.05:{seed}").stdout for seed in (1, 1, 2)}
    assert len(lives) == 2
    both = run(PASS_ALL, "worker.claimed:kill:0.05:1,worker.started:kill:1:1")
    assert both.stdout == ""


@pytest.mark.parametrize(
    "spec",
    [
        "worker.claimed",
        "worker.claimed:kill:0.1",
        "worker.claimed:kill:0.1:7:8",
        "worker.nowhere:kill:0.1:7",
        "worker.claimed:hurt:0.1:7",
        "worker.claimed:kill:1.1:7",
        "worker.claimed:kill:-0.1:7",
        "worker.claimed:kill:nan:7",
        "worker.claimed:kill:often:7",
        "worker.claimed:kill:0.1:seed",
        "worker.claimed:kill:0.1:7,",
        " ",
    ],
)
def test_a_bad_request_is_told(spec: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^REDISQ_FAILPOINTS: "):
        failpoints.parse(spec)


def test_a_bad_request_stops_the_process_at_its_start() -> None:
    refused = run("from redisq import RedisQ", "worker.nowhere:kill:0.1:7")
    assert refused.returncode == 1
    assert "InvalidSettings: REDISQ_FAILPOINTS: 'worker.nowhere:kill:0.1:7' is not name:kill:probability:seed" in (
        refused.stderr
    )


def test_every_failpoint_is_somewhere_and_has_a_name() -> None:
    reached = [
        ast.literal_eval(node.args[0])
        for source in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach"
    ]
    assert set(reached) == set(failpoints.NAMES)
