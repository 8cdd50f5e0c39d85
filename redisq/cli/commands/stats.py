"""Count what queues hold: once, or again and again with rates."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import clients, options, output, tables

if TYPE_CHECKING:
    from rich.table import Table

    from redisq.client import RedisQ

Row = dict[str, Any]

_NONE = "There is no queue yet."
_COLUMNS = ("ready", "scheduled", "in_progress", "finished", "dead", "oldest_age", "queued", "completed", "failed")
_WATCHED = ("ready", "scheduled", "in_progress", "dead", "oldest_age")
_RATES = ("queued", "completed", "failed")  # totals that are shown per second


def _interval(value: str) -> float:
    number = options.seconds(value)
    if not 0.1 <= number <= 86_400:
        raise typer.BadParameter("Looks are from 0.1 seconds to a day apart.")
    return number


def stats(
    queue: options.SomeQueue = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, options.valued("--every", "SECONDS", "With --watch: look this often.", _interval)] = 1.0,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Count what a queue holds, and its running totals; without QUEUE, of all queues."""
    with clients.opened(url, queue, token, op="stats") as mq:  # one that is dropped while it is watched shows as empty
        if watch:
            _watch(mq, queue, token, every, as_json)
            return
        rows = _look(mq, queue, token)
    if as_json:
        output.document({"queues": rows} if queue is None else rows[0])
    elif not rows:
        output.text(_NONE)
    else:
        tables.show(table(rows) if queue is None else one(rows[0]))


def _look(mq: RedisQ, queue: str | None, token: str | None) -> list[Row]:
    from redisq.errors import UpgradeNeeded

    if queue is not None:
        return [mq.stats(queue, token).to_dict()]
    rows: list[Row] = []
    for name in mq.queues(token):
        try:
            rows.append(mq.stats(name, token).to_dict())
        except UpgradeNeeded as error:
            output.complain(f"{name}: {error}")
    return rows


def _watch(mq: RedisQ, queue: str | None, token: str | None, every: float, as_json: bool) -> None:
    with contextlib.suppress(KeyboardInterrupt), _view(as_json) as show:  # which is how a watch ends
        for rows in _looks(mq, queue, token, every):
            show(rows)


@contextlib.contextmanager
def _view(as_json: bool) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Give what shows a look: a table that stays in its place on a terminal; else a line for each queue, or as JSON."""
    console = output.console()
    if as_json:
        yield lambda rows: output.document({"queues": rows})
    elif not sys.stdout.isatty() or console.is_dumb_terminal:  # FORCE_COLOR makes rich take a pipe for one
        yield lambda rows: output.text("\n".join(map(_line, rows)) or _NONE)
    else:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            yield lambda rows: live.update(tables.fitted(_watched(rows), console) if rows else _NONE, refresh=True)


def _looks(mq: RedisQ, queue: str | None, token: str | None, every: float) -> Iterator[list[Row]]:
    """Look for ever. Each row has its totals' `rates` per second since the last look, which are None at its first."""
    before: dict[str, Row] = {}
    then = due = time.monotonic()
    while True:
        rows, now = _look(mq, queue, token), time.monotonic()
        for row in rows:
            last = before.get(row["queue"])
            row["rates"] = _rates(last, row, now - then) if last else None
        yield rows
        before, then = {row["queue"]: row for row in rows}, now
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _rates(before: Row, after: Row, seconds: float) -> dict[str, float]:
    """Return what was added per second to each total; a queue that was dropped meanwhile began anew at 0."""
    return {name: round(max(0, after[name] - before[name]) / seconds, 1) for name in _RATES}


def table(rows: Sequence[Row]) -> Table:
    """Show several queues, one in each row."""
    return _table("queue", *_COLUMNS, rows=[[row["queue"], *_counts(row, _COLUMNS)] for row in rows])


def one(row: Row) -> Table:
    """Show one queue, one count in each row."""
    made = _table(row["queue"], "")
    for name, value in row.items():
        if name != "queue":
            made.add_row(_label(name), _shown(name, value), end_section=name == "paused")
    return made


def _watched(rows: Sequence[Row]) -> Table:
    made = _table("queue", *_WATCHED, *(f"{name}/s" for name in _RATES))
    for row in rows:
        rates = row["rates"] or dict.fromkeys(_RATES)
        told = ("-" if rate is None else f"{rate:,.1f}" for rate in rates.values())
        made.add_row(row["queue"], *_counts(row, _WATCHED), *told)
    return made


def _line(row: Row) -> str:
    counts = [f"{_label(name)} {_shown(name, row[name])}" for name in _WATCHED]
    rates = [f"{name} {rate:,.1f}/s" for name, rate in (row["rates"] or {}).items()]
    return "  ".join([time.strftime("%H:%M:%S"), row["queue"], *counts, *rates])


def _table(first: str, *columns: str, rows: Iterable[Sequence[str]] = ()) -> Table:
    return tables.begun(first, *(f"{_label(name)}>" for name in columns), rows=rows)


def _counts(row: Row, names: Sequence[str]) -> list[str]:
    return [_shown(name, row[name]) for name in names]


def _label(name: str) -> str:
    return "oldest" if name == "oldest_age" else name.replace("_", " ")


def _shown(name: str, value: float | None) -> str:
    if name == "oldest_age":
        return "-" if value is None else f"{value:,.1f} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}"
