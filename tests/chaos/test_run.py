"""Whole runs: redisq keeps its promises while everything around it breaks, and a redisq that does not is found out."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.__main__ import name, servers
from tests.chaos.processes import ROOT
from tests.chaos.round import Round
from tests.chaos.sabotage import OF_THE_HARNESS, plant
from tests.chaos.schedule import WORKERS, Fault, Plan, draw

pytestmark = pytest.mark.chaos

MESSAGES, SECONDS, FAULTS = 50_000, 75.0, 28
_AT_ONCE = 3  # runs of planted bugs
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
    assert report.deaths
    assert report.verdict.cancelled


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


def run_planted(bug: str | None, folder: Path, server: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the project with a bug, or without one; the workers take naps in turn, which lose nothing.

    What a bug does shows only when its moment comes: up to three schedules are drawn until it has shown itself.
    """
    plant(OF_THE_HARNESS[bug][1] if bug else None, folder)
    run = _run_naps(folder, server)
    for _ in range(2 if bug else 0):
        if run.returncode == 0:
            run = _run_naps(folder, server)
    return run


def _run_naps(folder: Path, server: str) -> subprocess.CompletedProcess[str]:
    naps = tuple(Fault(3.5 + 2.2 * index, "worker_nap", worker, 2.0, 0, "") for index, worker in enumerate(2 * WORKERS))
    Plan(random.SystemRandom().randrange(1_000_000), 2_000, 4.0, naps, server, "always").write(folder / "plan.json")
    options = ["--replay", "plan.json", "--patience", "14"]
    return subprocess.run([sys.executable, "-m", "tests.chaos", *options], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def planted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """Give the runs of the bugs that are asked for, some at a time: mostly they wait for leases."""
    own = [item for item in request.session.items if isinstance(item, pytest.Function)]
    bugs = [item.callspec.params["bug"] for item in own if item.function is test_a_bug_is_found_out]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {bug: pool.submit(run_planted, bug, tmp_path_factory.mktemp("planted"), str(SERVERS[0])) for bug in bugs}


@pytest.mark.parametrize("server", SERVERS[:1], ids=name)
@pytest.mark.parametrize("bug", OF_THE_HARNESS)
def test_a_bug_is_found_out(
    bug: str, server: str, planted: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    run = planted[bug].result()
    assert run.returncode == 1, run.stdout + run.stderr
    assert OF_THE_HARNESS[bug][0] in run.stdout, run.stdout + run.stderr
