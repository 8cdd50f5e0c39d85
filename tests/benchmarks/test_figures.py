"""What samples come to, and when a target is met."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.benchmarks.figures import ANY_PEER, TARGETS, Samples, Target, percentile, written
from tests.benchmarks.peers import ADAPTERS, OURS, PEERS, RAW, THREADS, chosen, last_line

NUMBERS = some.lists(some.floats(0, 1e6), min_size=1)


@pytest.mark.parametrize(
    ("percent", "value"), [(1, 1), (50, 5), (51, 6), (90, 9), (99, 10), (100, 10), (0.1, 1), (10.1, 2)]
)
def test_percentiles_are_by_nearest_rank(percent: float, value: float) -> None:
    assert percentile([7, 3, 1, 9, 5, 10, 2, 4, 6, 8], percent) == value


@given(NUMBERS, some.floats(0.1, 100))
def test_so_many_percent_are_not_above_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100
    assert sum(value < found for value in values) <= len(values) * percent / 100


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_there_is_no_such_percentile(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


@given(some.lists(NUMBERS, min_size=1, max_size=4))
def test_figures_are_medians_of_rounds(rounds: list[list[float]]) -> None:
    samples = Samples()
    for latencies in rounds:
        samples.add("drain", OURS, latencies[0])
        samples.add_latencies("latency", OURS, latencies)
    figures = samples.figures()
    assert figures["drain"][OURS] == statistics.median(latencies[0] for latencies in rounds)
    assert figures["latency:p99"][OURS] == statistics.median(percentile(latencies, 99) for latencies in rounds)
    assert samples.latencies["latency"][OURS] == [value for latencies in rounds for value in latencies]


def test_who_failed_is_forgotten() -> None:
    samples = Samples()
    for name in ("huey", "rq"):
        samples.add("drain", name, 1)
        samples.add_latencies("latency", name, [1])
    samples.forget("rq")
    assert {measure: list(subjects) for measure, subjects in samples.figures().items()} == {
        "drain": ["huey"],
        "latency:p50": ["huey"],
        "latency:p99": ["huey"],
    }
    assert list(samples.latencies["latency"]) == ["huey"]


# --- Targets ---


def test_the_best_peer_counts_and_the_floor_is_none() -> None:
    figures = {"drain": {OURS: 100.0, RAW: 900.0, "huey": 10.0, "rq": 30.0, "saq": 20.0}}
    verdict = Target("", "drain", OURS, 3, ANY_PEER).judge(figures)
    assert verdict is not None
    assert (verdict.subject, verdict.value, verdict.met) == ("rq", 30.0, True)
    assert verdict.ratio == pytest.approx(10 / 3)
    assert not Target("", "drain", OURS, 4, ANY_PEER).judge(figures).met  # type: ignore[union-attr]


def test_at_most_goes_by_the_least() -> None:
    figures = {"latency:p50": {OURS: 1.05, RAW: 0.1, "huey": 1.0, "rq": 9.0}}
    target = Target("", "latency:p50", OURS, 1.1, ANY_PEER, at_most=True)
    verdict = target.judge(figures)
    assert verdict is not None
    assert (verdict.subject, verdict.met) == ("huey", True)
    figures["latency:p50"][OURS] = 1.11
    assert not target.judge(figures).met  # type: ignore[union-attr]


def test_beside_the_floor_beside_another_measure_and_alone() -> None:
    figures = {"queue": {THREADS: 9.0, RAW: 10.0, "rq": 3.0}, "callers:64": {OURS: 12.0, "saq": 50.0}}
    floor = Target("", "queue", THREADS, 0.9, RAW).judge(figures)
    assert floor is not None
    assert (floor.subject, floor.met) == (RAW, True)
    other = Target("", "callers:64", OURS, 4, ANY_PEER, theirs="queue").judge(figures)
    assert other is not None
    assert (other.subject, other.ratio, other.met) == ("rq", 4.0, True)
    alone = Target("", "queue", THREADS, 8.9, at_most=True).judge(figures)
    assert alone is not None
    assert (alone.subject, alone.met) == ("", False)


@pytest.mark.parametrize(
    "figures", [{}, {"drain": {"rq": 1.0}}, {"drain": {OURS: 1.0}}, {"drain": {OURS: 1.0, RAW: 1.0}}]
)
def test_what_was_not_measured_is_not_judged(figures: dict[str, dict[str, float]]) -> None:
    assert Target("", "drain", OURS, 15, ANY_PEER).judge(figures) is None


def test_each_target_names_what_there_is() -> None:
    assert {target.ours for target in TARGETS} <= {OURS, THREADS}
    assert {target.than for target in TARGETS} == {RAW, ANY_PEER, None}
    assert len({(target.title, target.than) for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize(
    ("measure", "number", "text"),
    [
        ("drain", 12_345.6, "12,346/s"),
        ("drain:64", 1.0, "1/s"),
        ("latency:p50", 0.00123, "1.23 ms"),
        ("waiting", 145.4, "145 B"),
        ("growth", 1.234, "1.23 x"),
        ("idle", 2.66, "2.7/s"),
    ],
)
def test_figures_have_units(measure: str, number: float, text: str) -> None:
    assert written(measure, number) == text


# --- Peers ---


def test_redisq_is_always_measured_and_others_are_chosen() -> None:
    assert [adapter.name for adapter in chosen([])] == [OURS, THREADS]
    assert [adapter.name for adapter in chosen(["saq", RAW])] == [RAW, OURS, THREADS, "saq"]
    assert {adapter.name for adapter in chosen([RAW, *PEERS])} == set(ADAPTERS)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("", "it said nothing"),
        ("Traceback:\n  x\nValueError: no\n", "ValueError: no"),
        ("    | redis.Error: unknown command\n    +-----\n\n", "redis.Error: unknown command"),
    ],
)
def test_the_last_words_of_a_program(said: str, line: str) -> None:
    assert last_line(said) == line
