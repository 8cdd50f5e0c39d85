"""Whole runs: redisq keeps its promises while everything around it breaks, and a redisq that does not is found out."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import name, servers
from tests.chaos.processes import ROOT
from tests.chaos.round import Round
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


#: what has to be found -> a script of redisq, words in it, and what to put in their place
SABOTAGE = {
    "unexplained": ("claim", "math.min(now, lapsed_by)", "now + 1000000"),  # takes leases over that have not lapsed
    "corrupted": ("claim", "ids[i], bodies[i]", "ids[i], bodies[1]"),
    "lost": ("queue", "for i = 1, #accepted do", "for i = 1, #accepted - (#accepted > 20 and 1 or 0) do"),
}


@pytest.mark.parametrize("server", SERVERS[:1], ids=name)
@pytest.mark.parametrize("kind", SABOTAGE)
def test_a_broken_redisq_is_found_out(kind: str, server: str, tmp_path: Path) -> None:
    for package in ("redisq", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    script, right, wrong = SABOTAGE[kind]
    source = tmp_path / "redisq" / "scripts" / f"{script}.lua"
    assert source.read_text("utf-8").count(right) == 1
    source.write_text(source.read_text("utf-8").replace(right, wrong), "utf-8")
    options = ["--messages", "1000", "--duration", "4", "--faults", "0", "--server", server]
    run = subprocess.run([sys.executable, "-m", "tests.chaos", *options], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{kind}: " in run.stdout
