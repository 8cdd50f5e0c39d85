"""See what queues hold, and give their memory back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from redisq.cli import options, output

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Manage queues.", no_args_is_help=True)

_COLUMNS = ("ready", "scheduled", "in_progress", "finished", "dead", "oldest_age", "queued", "completed", "failed")


def stats(
    queue: options.SomeQueue = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Count what a queue holds, and its running totals; without QUEUE, of all queues."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        names = mq.queues(token) if queue is None else [queue]
        rows = [mq.stats(name, token).to_dict() for name in names]
    if as_json:
        output.document({"queues": rows} if queue is None else rows[0])
    elif not rows:
        output.text("There is no queue yet.")
    else:
        output.console().print(_table(rows) if queue is None else _one(rows[0]))


def sweep(
    queue: options.SomeQueue = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Forget finished messages whose retention has passed; without QUEUE, in all queues. Workers do it anyway."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        names = mq.queues(token) if queue is None else [queue]
        swept = {name: mq.sweep(name, token) for name in names}
    output.show(as_json, {"swept": swept}, f"swept {sum(swept.values()):,}")


@app.command("list")
def list_(token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Print the names of all queues."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        names = mq.queues(token)
    if as_json:
        output.document({"queues": names})
    elif names:
        output.text("\n".join(names))


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("queue", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(_label(name), justify="right")
    for row in rows:
        table.add_row(row["queue"], *(_shown(name, row[name]) for name in _COLUMNS))
    return table


def _one(row: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(row["queue"], box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(justify="right")
    for name, value in row.items():
        if name != "queue":
            table.add_row(_label(name), _shown(name, value), end_section=name == "oldest_age")
    return table


def _label(name: str) -> str:
    return "oldest" if name == "oldest_age" else name.replace("_", " ")


def _shown(name: str, value: float | None) -> str:
    if name == "oldest_age":
        return "-" if value is None else f"{value:,.1f} s"
    return f"{value:,}"
