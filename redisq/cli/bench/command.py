"""Measure how fast redisq is on one's own Redis."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from redisq.cli import logs, options, output, tables
from redisq.runtime import process

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = {
    "round_trip": "round trip, to look a message up",
    "queue_one": "queue, one by one",
    "queue_64": "queue, 64 callers at once",
    "queue_bulk": "queue, in bulk",
    "drain": "drain, one worker process",
    "latency_p50": "from queueing to the handler, p50",
    "latency_p99": "from queueing to the handler, p99",
}


def bench(
    messages: Annotated[
        int, options.valued("--messages", "N", "Queue this many, all measurements together.", min=100, max=1_000_000)
    ] = 10_000,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure how fast redisq is on this Redis, with small messages and a worker of 100 slots in this process.

    They go through a queue of their own, redisq-bench-..., which is removed in the end.
    """
    from redisq.cli.bench.run import run

    logs.warn_of_servers(True)
    with _ended_as_by_ctrl_c():
        figures = run(messages, token, url)
    if as_json:
        output.document({"messages": messages, **{name: round(figure, 6) for name, figure in figures.items()}})
    else:
        tables.show(_table(figures))


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Have other signals end what runs here as Ctrl-C does, which asyncio knows to do between two steps of a task."""
    ended_by = signal.SIGINT

    def end(number: int) -> None:
        nonlocal ended_by
        ended_by = signal.Signals(number)
        signal.raise_signal(signal.SIGINT)

    try:
        with process.catching(end, numbers=(signal.SIGTERM, signal.SIGHUP)):
            yield
    except KeyboardInterrupt:
        if ended_by != signal.SIGINT:
            sys.exit(128 + ended_by)
        raise


def _table(figures: Mapping[str, float]) -> Table:
    def shown(name: str) -> str:
        timed = name.startswith(("round_trip", "latency"))
        return f"{figures[name] * 1000:,.2f} ms" if timed else f"{figures[name]:,.0f} messages/s"

    return tables.of_pairs((title, shown(name)) for name, title in _SHOWN.items())
