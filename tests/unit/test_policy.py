"""What a worker decides, as numbers."""

from __future__ import annotations

import pytest

from redisq.claims.policy import claimable, sweep_after
from redisq.store.call import BATCH


@pytest.mark.parametrize(
    ("concurrency", "busy", "unconfirmed", "count"),
    [
        (1, 0, 0, 1),
        (8, 0, 0, 8),
        (8, 8, 0, 0),
        (8, 3, 8, 5),  # as many outcomes as there are slots are fine
        (8, 3, 10, 3),  # beyond that Redis is slow: claim less
        (8, 3, 100, 0),
        (100, 0, 0, 50),  # the other half while these run
        (100, 50, 0, 50),
        (100, 90, 0, 10),
        (10_000, 0, 0, BATCH),
    ],
)
def test_as_many_are_claimed_as_there_is_room_for(concurrency: int, busy: int, unconfirmed: int, count: int) -> None:
    assert claimable(concurrency, busy, unconfirmed) == count


@pytest.mark.parametrize(("wait", "after"), [(0.0, 1.0), (0.5, 1.0), (7.0, 7.0), (86_400.0, 20.0)])
def test_sweeps_come_when_something_can_be_due(wait: float, after: float) -> None:
    assert sweep_after(wait) == after
