"""Which of the server's times a worker has seen for long enough."""

from __future__ import annotations

import pytest

from redisq.claims.server_time import ServerTime

PATIENCE = 1.0
EPOCH = 1_700_000_000.0  # the server's clock when this machine's monotonic one is at 0


def told(clock: ServerTime, *moments: float) -> list[bool]:
    return [clock.learn(EPOCH + at, PATIENCE, at - 0.001, at) for at in moments]


def test_nothing_is_seen_before_an_answer() -> None:
    assert ServerTime().seen(PATIENCE, 5.0) == 0


def test_a_time_is_seen_once_it_is_old_enough() -> None:
    clock = ServerTime()
    told(clock, 10.0)
    assert clock.seen(PATIENCE, 10.9) == 0
    assert clock.seen(PATIENCE, 11.0) == EPOCH + 10
    assert clock.seen(PATIENCE, 99.0) == EPOCH + 10


def test_a_busy_worker_sees_a_time_between_one_and_two_patiences_old() -> None:
    clock = ServerTime()
    for number in range(1, 1000):
        at = number / 100
        told(clock, at)
        age = EPOCH + at - clock.seen(PATIENCE, at)
        assert age >= PATIENCE - 1e-6
        assert at <= 2 or age <= 2 * PATIENCE + 0.02


def test_the_first_answer_after_the_server_stood_still_is_not_old_enough() -> None:
    clock = ServerTime()
    told(clock, 0.0, 0.5, 1.0, 1.5, 9.0)  # it stood still from 1.5 on, and its clock did not
    assert clock.seen(PATIENCE, 9.0) <= EPOCH + 1.5
    assert clock.seen(PATIENCE, 9.9) <= EPOCH + 1.5
    assert clock.seen(PATIENCE, 10.0) == EPOCH + 9


@pytest.mark.parametrize("leap", [3600, -3600, 2, -2])
def test_a_clock_that_leaps_is_noticed_and_seen_anew(leap: float) -> None:
    clock = ServerTime()
    assert told(clock, 0.0, 5.0) == [False, False]
    assert clock.learn(EPOCH + 6 + leap, PATIENCE, 5.999, 6.0) is True
    assert clock.seen(PATIENCE, 6.9) == 0
    assert clock.seen(PATIENCE, 7.0) == EPOCH + 6 + leap


def test_an_answer_that_is_read_late_is_no_leap() -> None:
    """A handler kept the loop between the answer and its reading, for ever again."""
    clock = ServerTime()
    assert [
        clock.learn(EPOCH + at, PATIENCE, at - 0.001, at + late)
        for at, late in [(1.0, 0.0), (3.0, 1.5), (5.0, 0.0), (8.0, 2.5), (12.0, 3.0), (16.0, 0.0)]
    ] == [False] * 6
    assert clock.seen(PATIENCE, 17.1) > EPOCH + 8
