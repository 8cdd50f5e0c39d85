"""The gate before a server: who may try when. Driven by a clock that the tests move."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq.link import circuit as module
from redisq.link.circuit import FIRST_PAUSE, LONGEST_PAUSE, Gate, Leave


def entered(gate: Gate, now: float) -> Leave:
    """Enter a gate that must give leave."""
    leave = gate.enter(now)
    assert leave is not None
    return leave


def shut(now: float = 0.0) -> Gate:
    """A gate that was shut at `now`: nothing listened there."""
    gate = Gate()
    gate.lost(entered(gate, now), now, "Connection refused.", connected=False)
    return gate


def opening(gate: Gate, now: float) -> float:
    """When the gate opens for the next probe, found by waiting as long as it says. None is under way."""
    while gate.enter(now, probe=False) is None and (pause := gate.pause(now)) > module._SHORTEST_LOOK:
        now += pause
    return now


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each pause be as long as it may."""
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)


# --- Open ---


def test_an_open_gate_gives_everybody_the_same_leave() -> None:
    gate = Gate()
    leave = entered(gate, 0)
    assert leave.stands
    for now in (0.0, 1.0, 5.0):
        assert gate.enter(now) is gate.enter(now, probe=False) is leave
        assert gate.pause(now) == 0
        gate.answered(leave)
        gate.let_go(leave)


# --- Shut ---


def test_a_failure_shuts_it_for_all(longest: None) -> None:
    gate = Gate()
    leave = entered(gate, 0)
    gate.lost(leave, 0, "Connection refused.", connected=False)
    assert not leave.stands
    assert gate.enter(0) is gate.enter(FIRST_PAUSE * 0.99) is None
    assert gate.pause(0) == pytest.approx(FIRST_PAUSE)
    assert gate.reason == "Connection refused."


def test_each_opening_is_for_one_probe(longest: None) -> None:
    gate = shut()
    probe = entered(gate, 0.02)
    assert probe.stands
    assert [gate.enter(now) for now in (0.02, 0.03, 0.5, 1.0)] == [None] * 4


def test_an_answered_probe_opens_for_all(longest: None) -> None:
    gate = shut()
    probe = entered(gate, 0.02)
    gate.answered(probe)
    gate.let_go(probe)
    assert gate.enter(0.03) is gate.enter(0.03, probe=False) is probe
    assert gate.pause(0.03) == 0
    gate.lost(probe, 1, "Connection refused.", connected=False)
    assert opening(gate, 1) == pytest.approx(1 + FIRST_PAUSE)  # patient at first, again


def test_a_probe_that_fails_shuts_it_for_longer(longest: None) -> None:
    gate, now, pauses = shut(), 0.0, []
    for _ in range(9):
        opens = opening(gate, now)
        pauses.append(opens - now)
        now = opens
        gate.lost(entered(gate, now), now, "Connection refused.", connected=False)
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1])


def test_the_jitter_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(module.random, "uniform", lambda low, high: asked.append((low, high)) or 0.0)
    gate = shut()
    for _ in range(3):
        gate.lost(entered(gate, 0), 0, "Connection refused.", connected=False)
    assert asked == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16)]


def test_two_gates_do_not_open_in_step() -> None:
    one, other = shut(), shut()
    apart = []
    for now in range(10):
        openings = [opening(gate, now) for gate in (one, other)]
        apart.append(openings[0] != openings[1])
        for gate in (one, other):
            gate.lost(entered(gate, now + 1), now + 1, "Connection refused.", connected=False)
    assert any(apart)


def test_a_dead_connection_alone_is_found_out_at_once(longest: None) -> None:
    gate = Gate()
    gate.lost(entered(gate, 3), 3, "Connection closed by server.", connected=True)
    probe = entered(gate, 3)
    assert gate.enter(3) is None
    gate.lost(probe, 3, "Connection closed by server.", connected=True)
    assert gate.enter(3) is None
    assert opening(gate, 3) == pytest.approx(3 + FIRST_PAUSE)


def test_who_does_not_probe_waits_until_it_is_open(longest: None) -> None:
    gate = shut()
    assert gate.enter(10, probe=False) is None
    probe = entered(gate, 10)
    assert gate.enter(10, probe=False) is None
    gate.answered(probe)
    assert gate.enter(10, probe=False) is probe


# --- Old news ---


def test_failures_of_what_was_under_way_count_once(longest: None) -> None:
    gate = Gate()
    leave = entered(gate, 0)
    for _ in range(100):
        gate.lost(leave, 0, "Connection reset.", connected=False)
    assert opening(gate, 0) == pytest.approx(FIRST_PAUSE)


def test_an_answer_from_before_does_not_open(longest: None) -> None:
    gate = Gate()
    leave = entered(gate, 0)
    gate.lost(leave, 0, "Connection reset.", connected=False)
    gate.answered(leave)
    assert gate.enter(0) is None


def test_a_late_probe_does_not_shut_what_another_opened(longest: None) -> None:
    gate = shut()
    slow = entered(gate, 1)
    quick = entered(gate, 1 + LONGEST_PAUSE)
    assert slow.stands
    gate.answered(quick)
    assert not slow.stands
    gate.lost(slow, 5, "it did not answer in time", connected=True)
    gate.answered(slow)
    gate.let_go(slow)
    assert gate.enter(5) is quick


# --- Probes that bring nothing ---


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_probe_without_outcome_does_not_shut_it_for_ever(cancelled: bool) -> None:
    gate = shut()
    probe = entered(gate, 1)
    if cancelled:
        gate.let_go(probe)
        assert not probe.stands
    assert gate.enter(1) is None
    assert gate.enter(1 + LONGEST_PAUSE) not in (None, probe)


def test_a_waiter_looks_often_while_a_probe_is_young_and_never_without_pause() -> None:
    gate = shut()
    entered(gate, 1)
    for age in (0.0, 0.01, 0.1, 0.5):
        assert module._SHORTEST_LOOK <= gate.pause(1 + age) <= max(module._SHORTEST_LOOK, age)
    assert gate.pause(100) == module._SHORTEST_LOOK


# --- Many at once ---


def test_of_many_threads_one_gets_the_probe() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places in every unlucky moment there is
    try:
        with ThreadPoolExecutor(20) as pool:
            for now in range(1, 30):
                gate, start = shut(), threading.Barrier(20)

                def enter(_: int, gate: Gate = gate, start: threading.Barrier = start, now: int = now) -> object:
                    start.wait()
                    return gate.enter(now)

                assert sum(leave is not None for leave in pool.map(enter, range(20))) == 1
    finally:
        sys.setswitchinterval(interval)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["enter", "answered", "lost", "dead", "let_go", "wait"]), st.integers(0, 30)),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_leaves_are_few_and_a_second_later_somebody_may_try(events: list[tuple[str, int]]) -> None:
    gate, now, leaves = Gate(), 0.0, [Leave()]  # the first is of no gate
    for event, number in events:
        leave = leaves[number % len(leaves)]
        if event == "enter" and (given := gate.enter(now)) is not None:
            leaves.append(given)
        elif event == "wait":
            now += number / 20
        elif event == "answered":
            gate.answered(leave)
        elif event == "let_go":
            gate.let_go(leave)
        elif leave in leaves[1:]:
            gate.lost(leave, now, "gone", connected=event == "dead")
        standing = {given for given in leaves[1:] if given.stands}
        if (everybodys := gate.enter(now, probe=False)) is not None:
            assert standing <= {everybodys}
    assert gate.enter(now + LONGEST_PAUSE) is not None
