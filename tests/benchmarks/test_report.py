"""What a run shows: tables, a document, pictures."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import plots, report
from tests.benchmarks.figures import CALLERS, TARGETS, Samples
from tests.benchmarks.growth import BYTES, SERVER_TIME, judge, sizes
from tests.benchmarks.peers import OURS, RAW, THREADS

COSTS = ("client_cpu", "cpu", "scripts", "commands", "to_server", "from_server")


@pytest.fixture
def samples() -> Samples:
    """Two rounds of everything, of redisq, the floor and two peers."""
    made = Samples()
    for number in (1.0, 3.0):
        for rank, name in enumerate((OURS, THREADS, RAW, "huey", "saq"), 1):
            for measure in ("queue", f"callers:{CALLERS}", "bulk", "drain"):
                made.add(measure, name, 1000 * number * rank)
                for cost in COSTS:
                    made.add(f"{measure}:{cost}", name, number * rank * 1e-6)
            made.add("trickle:cpu", name, number * rank * 1e-6)
            for measure in ("waiting", "kept", "idle"):
                made.add(measure, name, number * rank)
            made.add_latencies("latency", name, [rank * number * 1e-3 + step * 1e-5 for step in range(100)])
        for callers in (1, 8, 128):
            made.add(f"callers:{callers}", OURS, 100 * callers)
            made.add(f"drain:{callers}", OURS, 200 * callers)
        for size in (1_000, 5_000_000):
            made.add(BYTES, str(size), 140 + number)
            made.add(f"{SERVER_TIME}claim 50", str(size), 500e-6 * number)
        made.add_latencies("load", OURS, [0.002, 0.004 * number])
        for measure in ("growth", "growth:memory", "import", "help"):
            made.add(measure, OURS, number / 10)
    return made


def shown(samples: Samples) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.show(console, samples.figures())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of the rows that begin with `first`, without it."""
    found = [line.strip() for line in text.splitlines() if line.strip().startswith(first)]
    return [re.split(r" {2,}", line.removeprefix(first).strip()) for line in found]


def test_tables(samples: Samples) -> None:
    text = shown(samples)
    (huey,) = rows(text, "huey ")
    assert huey == [
        "8,000/s",
        "8,000/s",
        "8,000/s",
        "8,000/s",
        "8.49 ms",
        "8.98 ms",
        "8 us",
        "8 us",
        "8 us",
        "8 B",
        "8 B",
        "8.0/s",
    ]
    (cost,) = rows(text, "queue one by one, raw")
    assert cost == ["6.0 us", "6.0 us", "6.0 us", "0.0", "0 B", "0 B"]
    (claim,) = rows(text, "claim 50")
    assert claim == ["1,000 us", "1,000 us"]
    assert rows(text, "bytes per message") == [["142 B", "142 B"]]
    assert ["2,000/s", ">= 15 x", "0.20 x saq 10,000/s", "missed"] in rows(text, "drain, async handler")
    assert rows(text, "latency at half the maximum rate, p99") == [["8.00 ms", "<= 20.00 ms", "met"]]


def test_what_was_not_measured_is_left_out() -> None:
    assert shown(Samples()) == ""
    some = Samples()
    some.add("drain", OURS, 5)
    some.add("drain:client_cpu", OURS, 1)
    for cost in COSTS:
        some.add(f"drain:{cost}", OURS, 1)
    text = shown(some)
    assert rows(text, "redisq, asyncio") == [["5/s", "1,000,000 us"]]
    assert "Targets" not in text


def test_the_document_holds_every_sample(samples: Samples) -> None:
    about = {"machine": {"cores": 2}, "versions": {"redisq": "1"}}
    document = report.document(samples, about, {"rq": "pip: no"}, {"messages": 10})
    read = json.loads(json.dumps(document))
    assert (read["machine"], read["left_out"], read["options"]) == ({"cores": 2}, {"rq": "pip: no"}, {"messages": 10})
    assert read["samples"]["drain"]["huey"] == [4000, 12000]
    assert read["figures"]["drain"]["huey"] == 8000
    assert read["latencies_us"]["load"][OURS] == [2000, 4000, 2000, 12000]
    assert len(read["targets"]) == len(TARGETS)
    judged = {(target["title"], target["than"]): target for target in read["targets"]}
    assert judged["memory of a waiting message", None]["met"] is True
    assert judged["drain, async handler", "peers"]["met"] is False
    assert judged["drain, async handler", "peers"]["other"] == "saq"


def test_pictures(samples: Samples, tmp_path: Path) -> None:
    drawn = plots.draw(samples, tmp_path / "run")
    names = {
        f"run-{name}.{form}" for name in ("throughput", "latency", "concurrency", "backlog") for form in ("svg", "png")
    }
    assert {path.name for path in drawn} == names == {path.name for path in tmp_path.iterdir()}
    for path in drawn:
        head = path.read_bytes()[:400]
        assert b"<svg" in head if path.suffix == ".svg" else head.startswith(b"\x89PNG")


def test_the_pictures_of_the_readme_are_small() -> None:
    pictures = sorted(Path(plots.__file__).parent.glob("latest-*"))
    assert len(pictures) == 4
    assert all(path.stat().st_size < 40_000 for path in pictures)


def test_the_same_samples_make_the_same_picture(tmp_path: Path) -> None:
    samples = Samples()
    samples.add_latencies("latency", OURS, [0.001, 0.002])
    drawn = [plots.draw(samples, tmp_path / name) for name in ("a", "b")]
    for first, second in zip(*drawn, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_nothing_makes_no_picture(tmp_path: Path) -> None:
    assert plots.draw(Samples(), tmp_path / "run") == []


def test_backlogs_grow_tenfold() -> None:
    assert sizes(5_000_000) == [1_000, 10_000, 100_000, 1_000_000, 5_000_000]
    assert sizes(1_000) == [1_000]
    assert sizes(10_000) == [1_000, 10_000]


def test_growth_is_judged_within_a_cycle() -> None:
    samples = Samples()
    for busy in (1, 1, 50):  # what else the machine does
        for size, seconds in (("1000", 2.0), ("9000", 3.0)):
            samples.add(f"{SERVER_TIME}claim 50", size, seconds * busy)
            samples.add(f"{SERVER_TIME}get one", size, 1.0 * busy)
    samples.add(BYTES, "1000", 100)
    samples.add(BYTES, "9000", 120)
    judge(samples, "1000", "9000")
    figures = {measure: subjects[OURS] for measure, subjects in samples.figures().items() if "growth" in measure}
    assert figures == {"growth:claim 50": 1.5, "growth:get one": 1.0, "growth": 1.5, "growth:memory": 1.2}
