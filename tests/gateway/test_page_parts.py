"""What the page is made of: samples, charts, and how values read. No server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from redisq.errors import Unavailable
from redisq.gateway.page import charts, formats, history
from redisq.gateway.page.history import EVERY, MOST, History, Sample, rates_of
from redisq.gateway.server.stopping import Stopping
from redisq.model.queue import QueueStats

DASH, MINUS = "\u2013", "\u2212"

# --- Samples ---


class Queues:
    """Queues that count how often they are asked, and a clock that a test moves."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 1000.0
        self.away = False
        self.held: asyncio.Event | None = None

    async def stats(self, name: str) -> QueueStats:
        self.asked.append(name)
        if self.held:
            await self.held.wait()
        if self.away:
            raise Unavailable
        return QueueStats(name, ready=len(self.asked), queued=10 * len(self.asked))


Check = Callable[[Queues, History], Awaitable[None]]


def run(check: Check) -> None:
    async def main() -> None:
        queues, stopping = Queues(), Stopping()
        kept = History(queues.stats, stopping, lambda: queues.now)
        await check(queues, kept)
        stopping.set()
        if kept._task:
            await kept._task

    asyncio.run(main())


def test_figures_are_asked_for_once_however_many_look() -> None:
    async def check(queues: Queues, kept: History) -> None:
        queues.held = asyncio.Event()
        looks = [asyncio.create_task(kept.look(["orders"])) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queues.held.set()
        found = await asyncio.gather(*looks)
        assert queues.asked == ["orders"]
        assert {stats.ready for (stats,) in found} == {1}
        await kept.look(["orders"])
        assert queues.asked == ["orders"]
        queues.now += 2 * EVERY
        await kept.look(["orders"])
        assert queues.asked == ["orders"] * 2
        assert [sample.ready for sample in kept.fine("orders")] == [1, 2]

    run(check)


def test_an_outage_is_told_and_leaves_a_gap() -> None:
    async def check(queues: Queues, kept: History) -> None:
        await kept.look(["orders"])
        queues.away = True
        queues.now += 100
        with pytest.raises(Unavailable):
            await kept.look(["orders"])
        queues.away = False
        await kept.look(["orders"])
        assert len(kept.fine("orders")) == 2
        (rate,) = rates_of(kept.fine("orders"), EVERY)
        assert rate.queued is None

    run(check)


def test_memory_is_bounded() -> None:
    async def check(queues: Queues, kept: History) -> None:
        names = [f"q-{number}" for number in range(3 * MOST)]
        assert len(await kept.look(names)) == len(names)
        assert kept.fine("q-0") == []
        assert len(kept.fine(names[-1])) == 1
        for _ in range(400):
            queues.now += 2 * EVERY
            await kept.look(names[-1:])
        assert len(kept.fine(names[-1])) == history._FINE
        steps = [after.at - before.at for before, after in pairwise(kept.coarse(names[-1]))]
        assert min(steps) >= history._COARSE_EVERY - EVERY
        assert len(kept.coarse(names[-1])) <= history._COARSE

    run(check)


def test_sampling_goes_on_without_a_look_and_ends_when_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "EVERY", 0.001)

    async def check(queues: Queues, kept: History) -> None:
        await kept.look(["orders"])
        assert kept._task is not None
        while len(queues.asked) < 3:
            queues.now += 1.0
            await asyncio.sleep(0.001)
        queues.away = True  # which does not end it
        while len(queues.asked) < 6:
            queues.now += 1.0
            await asyncio.sleep(0.001)
        queues.now += 10 * history._LOOKED
        await kept._task
        asked = len(queues.asked)
        queues.away = False
        await kept.look(["orders"])
        assert len(queues.asked) == asked + 1
        assert not kept._task.done()

    run(check)


def sample(at: float, queued: int, completed: int = 0, failed: int = 0) -> Sample:
    return Sample(at, 0, 0, 0, 0, queued, completed, failed)


def test_rates_are_per_second_and_never_negative() -> None:
    rates = rates_of([sample(0, 10, 5, 1), sample(2, 30, 6, 1), sample(4, 0)], 2)
    assert [rate[1:] for rate in rates] == [(10.0, 0.5, 0.0), (0.0, 0.0, 0.0)]


# --- Charts ---


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 20), (61, 80), (100, 100), (0.2, 1)],
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert charts.round_up(value) == top


def test_a_path_spans_the_box_and_stops_at_gaps() -> None:
    points = [(0.0, 0.0), (5.0, 5.0), (6.0, None), (10.0, 10.0)]
    assert charts.path_of(points, 0, 10, 10, 100, 20) == "M0.0 20.0L50.0 10.0M100.0 0.0"
    assert charts.path_of([(0.0, 99.0)], 0, 10, 10, 100, 20) == "M0.0 0.0"


def test_a_chart_of_nothing_is_empty() -> None:
    made = charts.chart("Depth", "messages", [("Ready", "a", [])], 300, 1000)
    assert made.empty
    assert made.rows == []
    assert made.times[-1] == "now"


def test_a_chart_spans_what_is_known_and_at_most_what_was_asked_for() -> None:
    def times(known: float, asked: float) -> str:
        points = [(1000 - known, 1.0), (1000.0, 2.0)]
        return charts.chart("Depth", "messages", [("Ready", "a", points)], asked, 1000).times[0]

    assert times(10, 300) == f"{MINUS}30 s"
    assert times(100, 300) == f"{MINUS}2 min"
    assert times(1000, 300) == f"{MINUS}5 min"
    assert times(1000, 3600) == f"{MINUS}60 min"


def test_a_charts_table_is_short_and_begins_with_the_last() -> None:
    points = [(float(at), float(at)) for at in range(100)]
    rows = charts.chart("Depth", "messages", [("Ready", "a", points)], 300, 99).rows
    assert len(rows) == 10
    assert rows[0] == ("0 s ago", [99.0])


def test_a_sparkline_needs_two_points() -> None:
    assert charts.sparkline([(0, 1)], 300, 100) == ("", "")
    line, area = charts.sparkline([(0, 1), (100, 3)], 300, 100)
    assert line.startswith("M0.0 ")
    assert area.startswith(line)
    assert area.endswith("Z")
    assert "nan" not in "".join(charts.sparkline([(0, 0), (100, 0)], 300, 100))


# --- How values read ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, DASH),
        (0, "0 ms"),
        (0.25, "250 ms"),
        (4.2, "4.2 s"),
        (30.0, "30 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (90_000, "1 d 1 h"),
        (2_592_000, "30 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, DASH), (0, "0"), (1234, "1,234"), (0.5, "0.5"), (12_345_678, "12.3 M")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, DASH), (0.0, "0"), (0.333, "0.33"), (9.87, "9.9"), (1234.5, "1,234")]
)
def test_rates(value: float | None, text: str) -> None:
    assert formats.rate(value) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (2048, "2.0 KiB"), (1024**2, "1.0 MiB")])
def test_sizes(count: int, text: str) -> None:
    assert formats.size(count) == text


def test_times() -> None:
    at = datetime(2026, 11, 27, 22, 33, 12, 345_000, tzinfo=UTC)
    assert formats.instant(at) == "2026-11-27 22:33:12.345"
    assert formats.iso(at) == "2026-11-27T22:33:12.345Z"
    assert formats.since(at, at + timedelta(seconds=90)) == "1 min 30 s ago"
    assert formats.since(at, at - timedelta(seconds=5)) == "in 5 s"
    assert formats.since(at, at) == "now"


@pytest.mark.parametrize("sign", ["\0", "\x1b", "\x7f", "\u200b", "\u202e", "\u2066", "\ufeff", "\u2028"])
def test_signs_that_show_nothing_are_shown(sign: str) -> None:
    assert formats.plain(f"a{sign}b") == f"a\\u{ord(sign):04x}b"
    assert sign not in formats.content({"text": f"a{sign}b"})[0]
    assert sign not in formats.brief([sign])


@pytest.mark.parametrize("value", [{"a": 1, "ü": "中文"}, [1, 2.5, None, True], "text\nof lines\tand tabs", b"\0\1", 7])
def test_content_reads_as_json(value: Any) -> None:
    import json

    text, cut = formats.content(value)
    assert json.loads(text) == ("AAE=" if value == b"\0\1" else value)
    assert cut == 0


def test_long_content_is_cut() -> None:
    text, cut = formats.content("x" * 200_000)
    assert (len(text), cut) == (formats.LONGEST, 200_002 - formats.LONGEST)
    assert len(formats.brief("x" * 1000)) == 140
