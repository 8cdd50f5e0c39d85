"""How often who waits for a message looks, over queues and time."""

from __future__ import annotations

import pytest

from redisq.operations.lookup import _pause_of


@pytest.mark.parametrize(
    ("queues", "waited", "pause"),
    [
        (1, 0.3, 0.25),
        (1, 1e6, 0.25),
        (6, 20, 0.25),
        (7, 20, 0.5),
        (24, 20, 1.0),
        (100, 0.3, 1.0),
        (100, 2.4, 1.0),
        (100, 3, 2.5),
        (100, 5, 5.0),
        (100_000, 20, 5.0),
    ],
)
def test_the_pause_grows_with_queues_and_with_the_wait(queues: int, waited: float, pause: float) -> None:
    assert _pause_of(queues, waited) == pause


@pytest.mark.parametrize("queues", range(1, 121))
def test_the_looks_at_all_queues_are_bounded(queues: int) -> None:
    commands = 2  # of a look: the script, and what it runs
    assert commands * queues / _pause_of(queues, waited=10) <= 50
