"""Measure what batches bring where each write has a price of its own: rows into SQLite, with an fsync for each commit.

    python -m tests.benchmarks.batching [--messages 20000] [--folder /var/tmp]

One worker takes the rows one by one, another one a hundred at a time, by turns, each three times. `--folder` is where
the database lies, which has to be a disk.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from redisq import Delivery, RedisQ, Settings, Worker, embedded

BATCH = 100
ROUNDS = 3


@contextmanager
def rows_in(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a new database whose commits are on the disk when they return."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        closing(sqlite3.connect(Path(place, "rows.db"), check_same_thread=False)) as rows,
    ):
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute("PRAGMA synchronous = FULL")
        rows.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, number INTEGER)")
        yield rows


def worker_of(settings: Settings, rows: sqlite3.Connection, batch: int | None) -> Worker:
    """Make a worker whose handler writes rows, each by itself or many with one commit."""
    worker = Worker(settings=settings)

    def insert(deliveries: Sequence[Delivery]) -> None:
        with rows:
            values = [(delivery.id, delivery.request["number"]) for delivery in deliveries]
            rows.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", values)

    if batch is None:
        worker.handler("rows", concurrency=1)(lambda delivery: insert([delivery]))
    else:
        worker.handler("rows", batch=batch)(lambda deliveries: insert(deliveries))
    return worker


def measure(settings: Settings, folder: Path, messages: int, batch: int | None) -> float:
    """Return how many messages a second a worker works off."""
    with rows_in(folder) as rows, RedisQ(settings=settings) as mq:
        mq.queue_messages("rows", ({"number": number} for number in range(messages)))
        began = time.perf_counter()
        assert asyncio.run(worker_of(settings, rows, batch).run_async(burst=True)) == 0
        seconds = time.perf_counter() - began
        (written,) = rows.execute("SELECT count(*) FROM rows").fetchone()
        assert (written, mq.stats("rows").completed) == (messages, messages)
        mq.drop("rows")
    return messages / seconds


def compare(folder: Path, messages: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median messages a second of each way, and their ratio."""
    found: dict[int | None, list[float]] = {None: [], BATCH: []}
    with embedded.start() as server:
        settings = Settings(url=server.url, auth="none")
        for _ in range(rounds):
            for batch, figures in found.items():
                figures.append(measure(settings, folder, messages, batch))
    single, batched = (statistics.median(figures) for figures in found.values())
    return {"single": single, "batched": batched, "ratio": batched / single}


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    chosen: Any = parser.parse_args()
    found = compare(chosen.folder, chosen.messages)
    print(
        f"one by one {found['single']:,.0f} messages/s, {BATCH} at a time {found['batched']:,.0f} messages/s: "
        f"{found['ratio']:.1f} times as many"
    )


if __name__ == "__main__":
    main()
