"""Bulk queueing: what is kept of messages that are under way."""

from __future__ import annotations

import gc

from redisq.operations import queueing
from redisq.operations.options import Options, Terms


def no_options(options: Options) -> Terms:
    raise AssertionError


def test_chunks_keep_nothing_of_a_message_that_the_collector_goes_through() -> None:
    """Ten thousand tuples that are kept for a while bring on a full collection."""
    (*chunks,) = queueing._Made(({"hello": "world"} for _ in range(1_000)), None, no_options).chunks()
    assert [len(chunk.numbers) for chunk in chunks] == [250] * 4
    kept = [item for chunk in chunks for items in (chunk.numbers, chunk.ids, chunk.bodies) for item in items]
    assert not any(map(gc.is_tracked, kept))
