"""The benchmark itself runs through: the smallest there is, whose figures mean nothing."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import brokers
from tests.benchmarks.__main__ import FULL, arguments, plan_of
from tests.benchmarks.figures import TARGETS
from tests.benchmarks.peers import BROKERS, PEERS, RAW, NotThere
from tests.benchmarks.programs import ROOT
from tests.benchmarks.scenarios import SCENARIOS
from tests.conftest import REAL

#: What a run as small as this may find to be nothing: commands of an idle worker, memory of a few waits, and
#: the time of a trickle beyond an idle server's.
MAY_BE_NONE = ("idle", "waits", "trickle")


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.full
@pytest.mark.system
@pytest.mark.skipif(REAL is None, reason="fakeredis is too slow to be measured")
def test_it_runs_through_and_writes_its_files(tmp_path: Path) -> None:
    options = ["--quick", "--messages", "300", "--rounds", "1", "--peers", "raw", "--backlog", "2000"]
    scenarios = ",".join(name for name in SCENARIOS if name != "brokers")  # which install what they are reached with
    done = run(*options, "--only", scenarios, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text())
    assert document["left_out"] == {}
    assert {"cpu", "cores", "load", "memory_mib", "system"} == set(document["machine"])
    measured = [target for target in document["targets"] if target["met"] is not None]
    assert len(measured) == len([target for target in TARGETS if target.than != "peers"])
    assert all(target["figure"] > 0 for target in measured if not target["measure"].startswith(MAY_BE_NONE))
    pictures = {
        f"{path.stem}-{name}.{form}"
        for name in ("throughput", "latency", "concurrency", "backlog")
        for form in ("svg", "png")
    }
    assert {file.name for file in tmp_path.iterdir()} == {path.name, *pictures}
    assert "Targets" in done.stdout


def test_what_cannot_be_measured_is_told_in_one_line(tmp_path: Path) -> None:
    done = run("--only", "startup", "--peers", "", "--server", str(tmp_path / "none"), "--out", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not measured: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_that_is_not_installed_is_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    with pytest.raises(NotThere, match=f"{BROKERS[name].broker} is not installed"), brokers.running(name, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not installed")
def test_a_broker_ends_with_its_measurement_and_leaves_nothing(tmp_path: Path) -> None:
    with brokers.running("jetstream", tmp_path) as broker:
        port = int(broker.url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_full_unless_told_otherwise() -> None:
    full = plan_of(arguments().parse_args([]))
    assert (full.messages, full.rounds, full.backlog) == (FULL["messages"], FULL["rounds"], 5_000_000)
    assert list(full.scenarios) == list(SCENARIOS)
    some = plan_of(arguments().parse_args(["--quick", "--rounds", "2", "--only", "drain,bulk"]))
    assert (some.rounds, some.backlog, some.scenarios) == (2, 200_000, ["drain", "bulk"])
    assert arguments().parse_args([]).peers == [RAW, *PEERS]


@pytest.mark.parametrize("options", [["--only", "drains"], ["--peers", "huey,hue"], ["--messages", "few"]])
def test_slips_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(options)
    assert "usage:" in capsys.readouterr().err
