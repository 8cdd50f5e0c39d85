"""Schedules: when the ticks are, what a schedule is made of, and how the loop that queues them takes time and failure.

The clock is the test's, and a stand-in takes what would go to Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq import InvalidQueueName, MessageConflict, QueueFull, Settings, Unavailable, Worker
from redisq.operations.caller import Caller
from redisq.store.keys import derived_id
from redisq.worker import schedule as module
from redisq.worker.schedule import Cron, Schedule, Scheduler

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 29, tzinfo=BERLIN)  # 02:00 becomes 03:00
AUTUMN = datetime(2026, 10, 25, tzinfo=BERLIN)  # 03:00 becomes 02:00


def ticks(expression: str, start: datetime, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """The first ticks from `start` on, as the clock on the wall shows them."""
    cron, found = Cron.parse(expression, zone), []
    moment = start.astimezone(UTC) - timedelta(microseconds=1)
    for _ in range(count):
        moment = cron.after(moment)
        assert moment.tzinfo is UTC
        found.append(moment.astimezone(cron.zone).strftime("%d %H:%M:%S %z").replace(":00 ", " "))
    return found


# --- When the ticks are ---


def test_ticks_on_ordinary_days() -> None:
    day = datetime(2026, 2, 27, 23, 50, tzinfo=UTC)
    assert ticks("*/5 * * * *", day, 3, "UTC") == ["27 23:50 +0000", "27 23:55 +0000", "28 00:00 +0000"]
    assert ticks("*/20 * * * * *", day, 2, "UTC") == ["27 23:50 +0000", "27 23:50:20 +0000"]
    assert ticks("30 7 * * MON-FRI", day, 2, "America/New_York") == ["02 07:30 -0500", "03 07:30 -0500"]
    assert ticks("0 0 L * *", day, 2) == ["31 00:00 +0200", "30 00:00 +0200"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("30 1,2,3 * * *", ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200", "30 01:30 +0200"]),
        ("*/30 2 * * *", ["30 02:00 +0200"]),
        ("*/30 1-3 * * *", ["29 01:00 +0100", "29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]),
        ("0 30 2 * * *", ["30 02:30 +0200"]),
    ],
)
def test_an_hour_that_is_left_out(expression: str, expected: list[str]) -> None:
    assert ticks(expression, SPRING, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("30 1,2,3 * * *", ["25 01:30 +0200", "25 02:30 +0200", "25 03:30 +0100", "26 01:30 +0100"]),
        ("*/30 2 * * *", ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "26 02:00 +0100"]),
        ("0 30 2 * * *", ["25 02:30 +0200", "25 02:30 +0100", "26 02:30 +0100"]),
    ],
)
def test_an_hour_that_comes_twice(expression: str, expected: list[str]) -> None:
    assert ticks(expression, AUTUMN, len(expected)) == expected


EXPRESSIONS = [
    "30 2 * * *",
    "*/30 * * * *",
    "*/30 2 * * *",
    "0 30 2 * * *",
    "15 1-3 * * *",
    "0 */2 * * *",
    "59 2 * * SUN",
]


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from([SPRING, AUTUMN]),
    st.timedeltas(timedelta(0), timedelta(hours=27)),
)
def test_a_worker_that_starts_at_any_moment_joins_in_the_same_ticks(
    expression: str, day: datetime, passed: timedelta
) -> None:
    cron = Cron.parse(expression, "Europe/Berlin")
    moment, tick = day.astimezone(UTC) + passed, day.astimezone(UTC) - timedelta(days=8)
    while tick <= moment:
        earlier, tick = tick, cron.after(tick)
        assert tick > earlier
    assert cron.after(moment) == tick


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "a b c d e",
        "* * 31 2 *",
    ],
)
def test_a_bad_expression_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ValueError, match=r"is no cron expression of 5 fields, or of 6 with seconds first: "):
        Worker().every(expression, queue="reports")


def test_an_expression_that_never_comes_true_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="never comes true"):
        Worker().every("* * */5 2 MON#5", queue="reports")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/passwd", "Europe/Berlin\0"])
def test_an_unknown_time_zone_is_refused_at_once(zone: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Worker().every("* * * * *", queue="reports", timezone=zone)


def test_a_bad_queue_name_is_refused_at_once() -> None:
    with pytest.raises(InvalidQueueName):
        Worker().every("* * * * *", queue="a b")


def test_without_the_library_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"cronsim: pip install 'cronsim>=[\d.]+'$"):
        Worker().every("* * * * *", queue="reports")


# --- What a schedule is made of ---

TICK = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def report() -> str:
    return "report"


async def summary(tick: datetime) -> str:
    return tick.isoformat()


class Maker:
    def __call__(self, tick: datetime) -> str:
        return f"made {tick:%H:%M}"

    async def slowly(self) -> str:
        return "slowly"


def made(function: Callable[..., Any], name: str | None = None, expression: str = "* * * * *") -> Schedule:
    return Schedule.of(Cron.parse(expression, "Europe/Berlin"), "reports", name, function)


def test_a_schedule_is_named_after_its_function() -> None:
    assert made(report).name == f"{__name__}.report"
    assert made(Maker().slowly).name == f"{__name__}.Maker.slowly"
    assert made(report, "nightly").name == "nightly"


@pytest.mark.parametrize("name", ["", "x" * 492, "\ud800"], ids=ascii)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name= of a schedule takes text"):
        made(report, name)
    assert made(report, "x" * 491).name == "x" * 491


def test_a_function_without_a_name_needs_one() -> None:
    with pytest.raises(ValueError, match="name="):
        made(functools.partial(report))
    assert made(functools.partial(report), "nightly").name == "nightly"


def test_the_id_of_a_tick_is_the_same_in_every_zone() -> None:
    expected = "nightly@2026-10-25T01:30:00Z"
    assert made(report, "nightly").key(TICK) == expected


@pytest.mark.parametrize(
    ("function", "request_"),
    [
        (report, "report"),
        (summary, "2026-10-25T02:30:00+01:00"),
        (Maker(), "made 02:30"),
        (Maker().slowly, "slowly"),
        (lambda tick: tick.tzinfo is BERLIN, True),
        (lambda limit=7: limit, 7),
        (lambda *ticks: len(ticks), 0),
        (lambda: threading.current_thread() is threading.main_thread(), False),
    ],
)
def test_a_function_takes_the_tick_or_nothing(function: Callable[..., Any], request_: Any) -> None:
    assert asyncio.run(made(function, "name").request(TICK)) == request_


@pytest.mark.parametrize("function", [lambda a, b: a, lambda *, tick: tick, 5, None])
def test_what_is_no_function_of_a_tick_is_refused(function: Any) -> None:
    with pytest.raises(TypeError):
        made(function, "name")


def test_the_function_is_returned_unchanged_and_two_of_one_name_are_refused() -> None:
    worker = Worker()
    assert worker.every("* * * * *", queue="reports")(report) is report
    assert worker.every("* * * * *", queue="other")(report) is report
    with pytest.raises(ValueError, match=r"has a schedule tests\.unit\.test_schedule\.report already"):
        worker.every("0 * * * *", queue="reports")(report)
    worker.every("0 * * * *", queue="reports", name="hourly")(report)
    assert worker.schedules == [f"{__name__}.report", f"{__name__}.report", "hourly"]
    assert worker.queues == []


# --- The loop, with a clock that the test sets ---


class Scene:
    """A scheduler whose clock is set by hand and whose calls end here.

    `refusals` is what the next calls that queue raise. `looks` counts how often the clock was read.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2026, 1, 5, 11, 59, 30, tzinfo=UTC)
        self.looks = 0
        self.queued: list[bytes] = []
        self.refusals: list[Exception] = []
        self.hangs = False
        self.hanging = threading.Event()
        monkeypatch.setattr(module, "_now", self._look)
        monkeypatch.setattr(module, "_LONGEST_SLEEP", 0.002)
        monkeypatch.setattr(module, "pause_after", lambda failures, chance: 0.001)

    def _look(self) -> datetime:
        self.looks += 1
        return self.now

    async def call(self, call: Any, deadline: float) -> Any:
        """Answer as the link would."""
        if call.script.name != "queue":
            return None if call.script.name == "schema" else 1
        if self.hangs:
            self.hanging.set()
            await asyncio.sleep(3600)
        if self.refusals:
            raise self.refusals.pop(0)
        self.queued += [arg for arg in call.args if isinstance(arg, bytes) and len(arg) == 16][:1]
        return [None]

    async def looked(self, times: int = 10) -> None:
        """Return when the scheduler has looked at its clock that often."""
        end = self.looks + times
        await self.until(lambda: self.looks >= end)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)

    def play(self, plot: Callable[[], Awaitable[None]], *schedules: Schedule, window: float = 300.0) -> None:
        """Start a scheduler, run the plot once it waits for its first tick, and stop it then."""

        async def main() -> None:
            settings = Settings(auth="none", app_id=None, app_secret=None, dedup_window=window)
            scheduler = Scheduler(schedules, Caller(settings), self, "me")  # type: ignore[arg-type]
            running = asyncio.create_task(scheduler.run())
            try:
                await self.looked()
                await plot()
            finally:
                scheduler.stop()
                await asyncio.wait_for(running, 20)

        asyncio.run(main())

    def ids(self, *times: str, name: str = "name") -> list[bytes]:
        return [derived_id("", "reports", f"{name}@2026-01-05T{time}Z") for time in times]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-05T{text}Z")


def test_a_tick_is_queued_at_its_time_and_never_before(scene: Scene) -> None:
    async def plot() -> None:
        scene.now = at("11:59:59.999999")
        await scene.looked()
        assert scene.queued == []
        for time in ("12:00:00", "12:01:00"):
            scene.now = at(time)
            await scene.until(lambda: scene.queued[-1:] == scene.ids(scene.now.strftime("%H:%M:%S")))
            await scene.looked()

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("12:00:00", "12:01:00")


def test_each_schedule_has_its_own_ticks(scene: Scene) -> None:
    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: len(scene.queued) == 2)

    scene.play(plot, made(report, "a"), made(summary, "b"), made(report, "c", "1 * * * *"))
    assert sorted(scene.queued) == sorted(scene.ids("12:00:00", name="a") + scene.ids("12:00:00", name="b"))


def test_a_clock_set_forward_makes_up_for_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def plot() -> None:
        scene.now = at("13:00:10")
        await scene.until(lambda: scene.queued)
        await scene.looked()

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("13:00:00")
    (skipped,) = [record.getMessage() for record in caplog.records]
    assert "tick of 2026-01-05 12:00:00+00:00 skipped: this process was held up, or its clock was set" in skipped


def test_a_rare_tick_is_not_lost_by_a_clock_set_over_it(scene: Scene) -> None:
    async def plot() -> None:
        scene.now = at("12:03:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(report, "name", "0 * * * *"))
    assert scene.queued == scene.ids("12:00:00")


def test_a_loop_that_was_held_up_for_seconds_loses_no_tick(scene: Scene) -> None:
    async def plot() -> None:
        scene.now = at("12:00:03.5")
        await scene.until(lambda: len(scene.queued) == 5)
        await scene.looked()

    scene.now = at("11:59:58")
    scene.play(plot, made(report, "name", "* * * * * *"))
    assert scene.queued == scene.ids("11:59:59", "12:00:00", "12:00:01", "12:00:02", "12:00:03")


def test_a_clock_set_back_brings_ticks_again_under_the_ids_they_had(scene: Scene) -> None:
    async def plot() -> None:
        scene.now = at("12:00:01")
        await scene.until(lambda: len(scene.queued) == 1)
        scene.now = at("11:58:30")
        await scene.looked()
        for time in ("11:59:01", "12:00:01", "12:01:01"):
            scene.now = at(time)
            await scene.until(lambda: scene.queued[-1:] == scene.ids(scene.now.strftime("%H:%M:00")))

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("12:00:00", "11:59:00", "12:00:00", "12:01:00")


@pytest.mark.parametrize(
    "error", [ValueError("secret"), SystemExit(3), StopIteration(), asyncio.CancelledError()], ids=repr
)
@pytest.mark.parametrize("plain", [True, False])
def test_a_function_that_raises_skips_its_tick(
    scene: Scene, caplog: pytest.LogCaptureFixture, error: BaseException, plain: bool
) -> None:
    def broken(tick: datetime) -> str:
        if tick == at("12:00:00"):
            raise error
        return "fine"

    async def later(tick: datetime) -> str:
        return broken(tick)

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: caplog.records)
        scene.now = at("12:01:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(broken if plain else later, "name"))
    assert scene.queued == scene.ids("12:01:00")
    (record,) = caplog.records
    kind = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert record.getMessage() == (
        f"queue reports schedule name: tick of 2026-01-05 12:00:00+00:00 skipped: its function raised {kind}"
    )
    assert (record.levelname, record.queue, record.worker) == ("WARNING", "reports", "me")


def test_a_request_that_cannot_be_queued_skips_its_tick(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: caplog.records)

    scene.play(plot, made(lambda: {"secret": object()}, "name"))
    assert scene.queued == []
    assert [record.getMessage().partition("skipped: ")[2] for record in caplog.records] == [
        "its request is refused: InvalidMessage"
    ]


def test_another_body_by_another_worker_counts_as_queued(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "redisq.worker")
    scene.refusals = [MessageConflict()]

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: caplog.records)
        scene.now = at("12:01:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("12:01:00")
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert "by another worker, with another body" in caplog.records[0].getMessage()


def test_a_tick_is_tried_again_while_redis_is_away_or_full(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.refusals = [Unavailable(), QueueFull(), Unavailable()]

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(report, "name"))
    assert (scene.queued, scene.refusals, caplog.records) == (scene.ids("12:00:00"), [], [])


@pytest.mark.parametrize("hangs", [True, False])
def test_a_tick_is_skipped_when_the_next_is_due(scene: Scene, caplog: pytest.LogCaptureFixture, hangs: bool) -> None:
    scene.hangs, scene.refusals = hangs, [Unavailable("Redis is away")] * 1000

    async def plot() -> None:
        scene.now = at("12:00:59.9")  # a tenth of a second is left
        await scene.until(lambda: caplog.records)
        scene.hangs, scene.refusals = False, []
        scene.now = at("12:01:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("12:01:00")
    (record,) = caplog.records
    why = "It was not queued in time." if hangs else "Redis is away"
    assert record.getMessage().endswith(f"tick of 2026-01-05 12:00:00+00:00 skipped: {why}")


def test_a_tick_is_not_tried_beyond_the_deduplication_window(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def plot() -> None:
        scene.now = at("12:00:09.5")
        await scene.until(lambda: caplog.records)
        await scene.looked()

    scene.play(plot, made(report, "name", "0 * * * *"), window=10)
    assert scene.queued == []
    assert "12:00:00+00:00 skipped" in caplog.text


def test_a_function_that_takes_too_long_skips_its_tick(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def slow() -> str:
        scene.now = at("12:01:00")
        return "late"

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: caplog.records)

    scene.play(plot, made(slow, "name", "0 * * * *"), window=10)
    assert scene.queued == []
    assert "It was not queued in time." in caplog.text


def test_a_fault_of_ours_is_logged_and_the_schedule_goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.refusals = [ZeroDivisionError()]

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(lambda: caplog.records)
        scene.now = at("12:01:00")
        await scene.until(lambda: scene.queued)

    scene.play(plot, made(report, "name"))
    assert scene.queued == scene.ids("12:01:00")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("what", ["redis", "plain", "async", "stubborn"])
def test_it_stops_at_once_whatever_hangs(scene: Scene, what: str) -> None:
    begun, let_go = scene.hanging, threading.Event()

    def plain() -> None:
        begun.set()
        assert let_go.wait(20)

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await slow()

    async def plot() -> None:
        scene.now = at("12:00:00")
        await scene.until(begun.is_set)

    scene.hangs = what != "stubborn"
    functions = {"redis": report, "plain": plain, "async": slow, "stubborn": stubborn}
    scene.play(plot, made(functions[what], "name"))
    let_go.set()
    assert scene.queued == (scene.ids("12:00:00") if what == "stubborn" else [])
