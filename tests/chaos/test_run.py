"""Whole runs: redisq keeps its promises while everything around it breaks, and a redisq that does not is found out."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import name, servers
from tests.chaos.processes import ROOT
from tests.chaos.round import Round
from tests.chaos.sabotage import OF_THE_HARNESS, plant
from tests.chaos.schedule import Plan, draw

pytestmark = pytest.mark.chaos

MESSAGES, SECONDS, FAULTS = 50_000, 75.0, 24
SERVERS = servers() or [pytest.param("", marks=pytest.mark.skip("no real Redis here"))]


@pytest.mark.parametrize("server", SERVERS, ids=name)
def test_nothing_is_lost_or_doubled_without_a_cause(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    plan = Plan(seed, MESSAGES, SECONDS, draw(seed, FAULTS, SECONDS), server, "always")
    report = asyncio.run(Round(plan, tmp_path).run())
    with capsys.disabled():
        print(f"\n{report.table()}")
    assert report.ok, "\n".join([report.table(), *map(str, plan.faults)])
    assert report.verdict.attempted == MESSAGES
    assert report.faults.total() >= 20
    assert len(report.faults) >= 8


@pytest.mark.parametrize("server", SERVERS[:1], ids=name)
def test_a_replay_repeats_the_schedule_and_the_messages(server: str, tmp_path: Path) -> None:
    def chaos(*options: str) -> list[str]:
        command = [sys.executable, "-m", "tests.chaos", "--out", str(tmp_path), *options]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        return [line for line in run.stdout.splitlines() if line.startswith(("seed", "attempted")) or " s  " in line]

    first = chaos("--seed", "7", "--messages", "300", "--duration", "3", "--faults", "3", "--server", server)
    (schedule,) = tmp_path.glob("*/schedule.json")
    schedule.rename(tmp_path / "again.json")
    assert chaos("--replay", str(tmp_path / "again.json")) == first
    assert len(first) == 5


@pytest.mark.parametrize("server", SERVERS[:1], ids=name)
@pytest.mark.parametrize("bug", OF_THE_HARNESS)
def test_a_bug_is_found_out(bug: str, server: str, tmp_path: Path) -> None:
    finding, patch = OF_THE_HARNESS[bug]
    plant(patch, tmp_path)
    options = ["--messages", "1000", "--duration", "4", "--faults", "0", "--server", server]
    run = subprocess.run([sys.executable, "-m", "tests.chaos", *options], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{finding}: " in run.stdout
