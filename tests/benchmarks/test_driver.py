"""What queues and what counts, without a server: an adapter that only remembers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.benchmarks import driver, scenarios
from tests.benchmarks.figures import POLICIES, PROCESSES
from tests.benchmarks.handled import READY, Tally
from tests.benchmarks.measure import Bench
from tests.benchmarks.peers import ADAPTERS, OURS, RAW, Adapter, NotThere
from tests.benchmarks.programs import Candidate, Worker
from tests.benchmarks.scenarios import SCENARIOS, Plan, Run


class Remembering:
    """An adapter for asyncio that remembers what it was given, and how many were at it at once."""

    def __init__(self, turns: int = 1) -> None:
        self.messages: list[dict[str, Any]] = []
        self.at_once = self.most = 0
        self._turns = turns

    async def put(self, message: dict[str, Any]) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        for _ in range(self._turns):
            await asyncio.sleep(0)
        self.messages.append(message)
        self.at_once -= 1


@pytest.mark.parametrize(("way", "number", "most"), [("one", 0, 1), ("callers", 7, 7), ("spaced", 0, 1)])
def test_as_many_are_queued_as_were_ordered(way: str, number: float, most: int) -> None:
    adapter = Remembering()
    asyncio.run(driver.WAYS[way](adapter, 20, number))
    assert (len(adapter.messages), adapter.most) == (20, most)


def test_plain_adapters_are_called() -> None:
    messages: list[object] = []
    adapter = SimpleNamespace(put=messages.append, bulk=lambda count: messages.extend(range(count)))
    asyncio.run(driver.one(adapter, 3, 0))
    asyncio.run(driver.bulk(adapter, 4, 0))
    assert messages == [driver.MESSAGE] * 3 + [0, 1, 2, 3]


def test_a_pace_is_kept_whatever_is_held_up() -> None:
    adapter = Remembering(turns=50)  # slower than they come
    asyncio.run(driver.paced(adapter, 40, 20_000))
    sent = sorted(message["sent"] for message in adapter.messages)
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert gaps == pytest.approx([1 / 20_000] * 39, abs=1e-9)
    assert adapter.most > 1  # nobody waited for an answer


def test_a_driver_waits_for_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, adapter = tmp_path / "x.ready", Remembering()
    tally = Tally(tmp_path / "x.json", 1)

    async def work() -> None:
        while not adapter.messages:
            await asyncio.sleep(0)
        tally.add(adapter.messages[0])

    async def both() -> None:
        await asyncio.gather(driver.meet_worker(adapter, ready), work())

    asyncio.run(both())
    assert (adapter.messages, ready.exists()) == ([READY], True)
    ready.unlink()
    monkeypatch.setattr(driver, "_PATIENCE", 0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(driver.meet_worker(adapter, ready))


def test_a_tally_reports_once_all_is_handled(tmp_path: Path) -> None:
    report = tmp_path / "x.json"
    tally = Tally(report, 80)
    tally.add(READY)
    for _ in range(79):
        tally.add({"hello": "world"})
    assert not report.exists()
    tally.add({"sent": 0.0})
    told = json.loads(report.read_text())
    assert told["handled"] == 80
    assert told["seconds"] > 0
    assert len(told["latencies"]) == 1


def test_a_tally_counts_in_threads(tmp_path: Path) -> None:
    report = tmp_path / "x.json"
    tally = Tally(report, 4_000)
    threads = [
        threading.Thread(target=lambda: [tally.add({"sent": 0.0}) for _ in range(1_000)] and None) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(report.read_text())["latencies"]) == 4_000


# --- What fails ---


def test_a_worker_that_ends_is_told(tmp_path: Path) -> None:
    report = tmp_path / "x.json"
    report.with_suffix(".log").write_text("Traceback:\nImportError: no such queue\n")
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    worker = Worker(process, report)
    with pytest.raises(NotThere, match=r"its worker ended: ImportError: no such queue"):
        worker.told()
    worker.end()


def test_a_worker_is_ended(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
    Worker(process, tmp_path / "x.json").end()
    assert process.returncode is not None
    assert process.returncode < 0


LATER = ("brokers", "growth", "gateway", "calling", "startup")
PLAN = Plan(scenarios=["drain"], messages=10, rounds=2, backlog=1_000, watch=0.1, concurrencies=[1], waits=4)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that measures nothing: of each queue it takes down that it was asked."""
    run = Run(PLAN, SimpleNamespace(url="redis://127.0.0.1:1/0"), tmp_path, said.append)  # type: ignore[arg-type]

    def drain(bench: Bench, candidate: Candidate) -> None:
        name = candidate.adapter.name
        run.samples.add("drain", name, 1.0)
        if name in ("huey", RAW) and len(run.samples.numbers["drain"][name]) == 2:
            raise NotThere("it broke")

    monkeypatch.setattr(Bench, "drain", drain)
    return run


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(ADAPTERS[name], Path()) for name in names]


def test_a_peer_that_fails_is_left_out_and_named(run: Run, said: list[str]) -> None:
    run.measure(candidates(OURS, "huey", "saq"))
    assert run.samples.numbers["drain"] == {OURS: [1.0, 1.0], "saq": [1.0, 1.0]}
    assert run.left_out == {"huey": "it broke"}
    assert "huey is left out: it broke" in said


def test_without_the_floor_there_is_no_run(run: Run) -> None:
    with pytest.raises(NotThere, match="it broke"):
        run.measure(candidates(OURS, RAW))


def test_what_cannot_be_installed_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(adapter: Adapter, home: Path) -> Path:
        if adapter.name == "rq":
            raise NotThere("pip: no such version")
        return home

    monkeypatch.setattr(scenarios, "environment", environment)
    found = run.prepare([ADAPTERS[OURS], ADAPTERS["rq"]])
    assert found == [Candidate(ADAPTERS[OURS], run.home)]
    assert run.left_out == {"rq": "pip: no such version"}


@pytest.mark.parametrize("chosen", [["drain"], ["callers", "bulk"], list(SCENARIOS)])
def test_only_chosen_scenarios_are_measured(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    asked: list[str] = []
    for name in ("drain", "callers", "bulk", "latency", "load", "durable", "crowd", "processes", "slots"):
        monkeypatch.setattr(Bench, name, lambda bench, candidate, *number, name=name, **how: asked.append(name))
    monkeypatch.setattr(Run, "_measure_brokers", lambda _: asked.append("brokers"))
    monkeypatch.setattr(scenarios.growth, "measure", lambda *_: asked.append("growth"))
    monkeypatch.setattr(scenarios.gateway, "measure", lambda *_: asked.append("gateway"))
    monkeypatch.setattr(scenarios.calling, "measure", lambda *_: asked.append("calling"))
    monkeypatch.setattr(scenarios.startup, "measure", lambda *_: asked.append("startup"))
    plan = Plan(scenarios=chosen, messages=10, rounds=1, backlog=1_000, watch=0.1, concurrencies=[1], waits=4)
    Run(plan, run.server, tmp_path, print).measure(candidates(OURS))
    sweep = ["callers", "slots"] if "concurrency" in chosen else []
    times = {"durable": len(POLICIES), "processes": len(PROCESSES)}
    first = [name for name in chosen if name not in ("concurrency", *LATER) for _ in range(times.get(name, 1))]
    assert asked == first + sweep + [name for name in LATER if name in chosen]
