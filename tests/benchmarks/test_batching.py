"""The measurement of batches runs, and counts what it measures."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.batching import compare


def test_it_compares_both_ways(tmp_path: Path) -> None:
    found = compare(tmp_path, 200, rounds=1)
    assert set(found) == {"single", "batched", "ratio"}
    assert all(figure > 0 for figure in found.values())
