"""The circuit breaker before a server: who may try when. Driven by a clock that the tests move."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq.link import circuit as module
from redisq.link.circuit import FIRST_PAUSE, LONGEST_PAUSE, Circuit, Permit


def entered(circuit: Circuit, now: float) -> Permit:
    """Enter a circuit that must give a permit."""
    permit = circuit.enter(now)
    assert permit is not None
    return permit


def shut(now: float = 0.0) -> Circuit:
    """A circuit that was opened at `now`: nothing listened there."""
    circuit = Circuit()
    circuit.lost(entered(circuit, now), now, "Connection refused.", connected=False)
    return circuit


def opening(circuit: Circuit, now: float) -> float:
    """When the next probe is permitted, found by waiting as long as it says. None is under way."""
    while circuit.enter(now, probe=False) is None and (pause := circuit.pause(now)) > module._SHORTEST_LOOK:
        now += pause
    return now


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each pause be as long as it may."""
    monkeypatch.setattr(module.random, "uniform", lambda low, high: high)


# --- Open ---


def test_an_open_gate_gives_everybody_the_same_leave() -> None:
    circuit = Circuit()
    permit = entered(circuit, 0)
    assert permit.stands
    for now in (0.0, 1.0, 5.0):
        assert circuit.enter(now) is circuit.enter(now, probe=False) is permit
        assert circuit.pause(now) == 0
        circuit.answered(permit)
        circuit.let_go(permit)


# --- Shut ---


def test_a_failure_shuts_it_for_all(longest: None) -> None:
    circuit = Circuit()
    permit = entered(circuit, 0)
    circuit.lost(permit, 0, "Connection refused.", connected=False)
    assert not permit.stands
    assert circuit.enter(0) is circuit.enter(FIRST_PAUSE * 0.99) is None
    assert circuit.pause(0) == pytest.approx(FIRST_PAUSE)
    assert circuit.reason == "Connection refused."


def test_each_opening_is_for_one_probe(longest: None) -> None:
    circuit = shut()
    probe = entered(circuit, 0.02)
    assert probe.stands
    assert [circuit.enter(now) for now in (0.02, 0.03, 0.5, 1.0)] == [None] * 4


def test_an_answered_probe_opens_for_all(longest: None) -> None:
    circuit = shut()
    probe = entered(circuit, 0.02)
    circuit.answered(probe)
    circuit.let_go(probe)
    assert circuit.enter(0.03) is circuit.enter(0.03, probe=False) is probe
    assert circuit.pause(0.03) == 0
    circuit.lost(probe, 1, "Connection refused.", connected=False)
    assert opening(circuit, 1) == pytest.approx(1 + FIRST_PAUSE)  # patient at first, again


def test_a_probe_that_fails_shuts_it_for_longer(longest: None) -> None:
    circuit, now, pauses = shut(), 0.0, []
    for _ in range(9):
        opens = opening(circuit, now)
        pauses.append(opens - now)
        now = opens
        circuit.lost(entered(circuit, now), now, "Connection refused.", connected=False)
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1])


def test_the_jitter_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(module.random, "uniform", lambda low, high: asked.append((low, high)) or 0.0)
    circuit = shut()
    for _ in range(3):
        circuit.lost(entered(circuit, 0), 0, "Connection refused.", connected=False)
    assert asked == [(0, 0.02), (0, 0.04), (0, 0.08), (0, 0.16)]


def test_two_gates_do_not_open_in_step() -> None:
    one, other = shut(), shut()
    apart = []
    for now in range(10):
        openings = [opening(circuit, now) for circuit in (one, other)]
        apart.append(openings[0] != openings[1])
        for circuit in (one, other):
            circuit.lost(entered(circuit, now + 1), now + 1, "Connection refused.", connected=False)
    assert any(apart)


def test_a_dead_connection_alone_is_found_out_at_once(longest: None) -> None:
    circuit = Circuit()
    circuit.lost(entered(circuit, 3), 3, "Connection closed by server.", connected=True)
    probe = entered(circuit, 3)
    assert circuit.enter(3) is None
    circuit.lost(probe, 3, "Connection closed by server.", connected=True)
    assert circuit.enter(3) is None
    assert opening(circuit, 3) == pytest.approx(3 + FIRST_PAUSE)


def test_who_does_not_probe_waits_until_it_is_open(longest: None) -> None:
    circuit = shut()
    assert circuit.enter(10, probe=False) is None
    probe = entered(circuit, 10)
    assert circuit.enter(10, probe=False) is None
    circuit.answered(probe)
    assert circuit.enter(10, probe=False) is probe


# --- Old news ---


def test_failures_of_what_was_under_way_count_once(longest: None) -> None:
    circuit = Circuit()
    permit = entered(circuit, 0)
    for _ in range(100):
        circuit.lost(permit, 0, "Connection reset.", connected=False)
    assert opening(circuit, 0) == pytest.approx(FIRST_PAUSE)


def test_an_answer_from_before_does_not_open(longest: None) -> None:
    circuit = Circuit()
    permit = entered(circuit, 0)
    circuit.lost(permit, 0, "Connection reset.", connected=False)
    circuit.answered(permit)
    assert circuit.enter(0) is None


def test_a_late_probe_does_not_shut_what_another_opened(longest: None) -> None:
    circuit = shut()
    slow = entered(circuit, 1)
    quick = entered(circuit, 1 + LONGEST_PAUSE)
    assert slow.stands
    circuit.answered(quick)
    assert not slow.stands
    circuit.lost(slow, 5, "it did not answer in time", connected=True)
    circuit.answered(slow)
    circuit.let_go(slow)
    assert circuit.enter(5) is quick


# --- Probes that bring nothing ---


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_probe_without_outcome_does_not_shut_it_for_ever(cancelled: bool) -> None:
    circuit = shut()
    probe = entered(circuit, 1)
    if cancelled:
        circuit.let_go(probe)
        assert not probe.stands
    assert circuit.enter(1) is None
    assert circuit.enter(1 + LONGEST_PAUSE) not in (None, probe)


def test_a_waiter_looks_often_while_a_probe_is_young_and_never_without_pause() -> None:
    circuit = shut()
    entered(circuit, 1)
    for age in (0.0, 0.01, 0.1, 0.5):
        assert module._SHORTEST_LOOK <= circuit.pause(1 + age) <= max(module._SHORTEST_LOOK, age)
    assert circuit.pause(100) == module._SHORTEST_LOOK


# --- Many at once ---


def test_of_many_threads_one_gets_the_probe() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places in every unlucky moment there is
    try:
        with ThreadPoolExecutor(20) as pool:
            for now in range(1, 30):
                circuit, start = shut(), threading.Barrier(20)

                def enter(
                    _: int, circuit: Circuit = circuit, start: threading.Barrier = start, now: int = now
                ) -> object:
                    start.wait()
                    return circuit.enter(now)

                assert sum(permit is not None for permit in pool.map(enter, range(20))) == 1
    finally:
        sys.setswitchinterval(interval)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["enter", "answered", "lost", "dead", "let_go", "wait"]), st.integers(0, 30)),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_leaves_are_few_and_a_second_later_somebody_may_try(events: list[tuple[str, int]]) -> None:
    circuit, now, permits = Circuit(), 0.0, [Permit()]  # the first is of no circuit
    for event, number in events:
        permit = permits[number % len(permits)]
        if event == "enter" and (given := circuit.enter(now)) is not None:
            permits.append(given)
        elif event == "wait":
            now += number / 20
        elif event == "answered":
            circuit.answered(permit)
        elif event == "let_go":
            circuit.let_go(permit)
        elif permit in permits[1:]:
            circuit.lost(permit, now, "gone", connected=event == "dead")
        standing = {given for given in permits[1:] if given.stands}
        if (everybodys := circuit.enter(now, probe=False)) is not None:
            assert standing <= {everybodys}
    assert circuit.enter(now + LONGEST_PAUSE) is not None
