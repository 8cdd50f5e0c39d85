"""How `redisq dev` looks: on a terminal, lines that scroll above a live block; elsewhere, lines alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Protocol

from redisq.cli import output, tables
from redisq.cli.dev.state import Line, Process, Queue, Snapshot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

_COLUMNS = ("ready", "scheduled", "in progress", "done", "failed", "dead")
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_OTHER_ROWS = 12  # of the live block and below it, but for queues, processes and errors
_FEW = 3
_TOLD = 3  # rows of a queue where the screen is too narrow for the table
_NAME = 26  # columns
_ROWS = 6  # of one warning or error


class View(Protocol):
    """Shows snapshots until it is closed."""

    def show(self, snapshot: Snapshot) -> None:
        """Show what is new."""

    def close(self) -> None:
        """Give the terminal back."""


def view() -> View:
    """Return the view that fits stdout."""
    console = output.console()
    return TerminalView(console) if sys.stdout.isatty() and not console.is_dumb_terminal else PlainView()


class Lines:
    """Picks the lines of a snapshot that have not been shown."""

    def __init__(self) -> None:
        self._shown = 0

    def new(self, snapshot: Snapshot) -> list[Line]:
        """Return the new lines; what was forgotten before it could be shown is a line, too."""
        fresh = [line for line in snapshot.lines if line.number > self._shown]
        if not fresh:
            return []
        missed = fresh[0].number - self._shown - 1
        if missed and self._shown:
            fresh.insert(0, replace(fresh[0], source="redisq", level="", text=f"{missed:,} lines are left out"))
        self._shown = fresh[-1].number
        return fresh


class PlainView:
    """Prints a line for each event, and for each queue whose figures have changed."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._queues: dict[str, Queue] = {}

    def show(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        width = _width(snapshot)
        for line in self._lines.new(snapshot):
            level = f"{line.level} " if line.level in _COLOURS else ""
            output.text(f"{line.time} {line.source:<{width}} {level}{line.text}")
        for queue in snapshot.queues:
            if self._differs(queue):
                output.text(f"{time.strftime('%H:%M:%S')} {'queue':<{width}} {_told(queue)}")
        self._queues = {queue.name: queue for queue in snapshot.queues}

    def close(self) -> None:
        """Do nothing: a line is whole when it is printed."""

    def _differs(self, queue: Queue) -> bool:
        before = self._queues.get(queue.name)
        return before is None or replace(before, rate=0) != replace(queue, rate=0)


class TerminalView:
    """Prints lines as they come, above a block that tells how things are."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._lines = Lines()
        self._live: Live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        """Print what is new and draw the block again."""
        from rich.text import Text

        width = _width(snapshot)
        if fresh := self._lines.new(snapshot):
            self._console.print(Text("\n").join(_styled(line, width) for line in fresh), soft_wrap=True)
        self._live.update(_block(snapshot, self._console), refresh=True)

    def close(self) -> None:
        """Take the block away and show the cursor again."""
        self._live.stop()


def _width(snapshot: Snapshot) -> int:
    return max(len("redisq"), *(len(process.name) for process in snapshot.processes), 0)


def _told(queue: Queue) -> str:
    figures = ", ".join(f"{value:,} {name}" for name, value in zip(_COLUMNS, _figures(queue), strict=True))
    return f"{queue.name}: {figures}, {queue.rate:,.1f}/s"


def _figures(queue: Queue) -> tuple[int, ...]:
    return astuple(queue)[1:-1]


def _styled(line: Line, width: int) -> Text:
    from rich.text import Text

    source = "bold" if line.source == "redisq" else "cyan"
    parts = [(f"{line.time} ", "dim"), (f"{line.source:<{width}} ", source), (line.text, _COLOURS.get(line.level, ""))]
    return Text.assemble(*parts)


def _block(snapshot: Snapshot, console: Console) -> RenderableType:
    """Draw everything but the lines; when there is more than fits on the screen, the first queues only."""
    from rich.console import Group
    from rich.text import Text

    width = _width(snapshot)
    errors = [_some_rows(_styled(line, width), console.width) for line in snapshot.errors]
    rows = sum(-(-len(error) // console.width) for error in errors)
    room = console.height - _OTHER_ROWS - len(snapshot.processes) - rows
    parts = [*_title(snapshot, console), *_queues(snapshot.queues, room, console)]
    if snapshot.processes:
        parts += [Text(), _processes(snapshot.processes)]
    if errors:
        parts += [Text("\nlast warnings and errors", style="bold"), *errors]
    parts.append(Text("\nCtrl-C ends this.", style="dim"))
    return Group(*parts)


def _some_rows(text: Text, width: int) -> Text:
    """Let a text take some rows of the screen. All of it scrolls by above."""
    text.overflow = "fold"
    text.truncate(_ROWS * width, overflow="ellipsis")
    return text


def _one_row(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _title(snapshot: Snapshot, console: Console) -> list[RenderableType]:
    from rich.rule import Rule
    from rich.text import Text

    title = Text(f"redisq dev, process {snapshot.pid}, {snapshot.redis}", style="bold")
    if len(title) + len(" -") <= console.width:
        return [Rule(title, align="left", style="dim")]
    return [Rule(style="dim"), title]  # in some rows: it ends with the gateway's address


def _queues(queues: Sequence[Queue], room: int, console: Console) -> list[RenderableType]:
    from rich.text import Text

    if not queues:
        return [Text("There is no queue yet.")]
    shown = queues[: max(_FEW, room)]
    if tables.needed(_queue_table(shown), console) > console.width:
        shown = queues[: max(_FEW, room // _TOLD)]
    parts: list[RenderableType] = [tables.fitted(_queue_table(shown), console)]
    if len(queues) > len(shown):
        parts.append(Text(f"and {len(queues) - len(shown):,} more: redisq stats", style="dim"))
    return parts


def _queue_table(queues: Sequence[Queue]) -> Table:
    from rich.text import Text

    table = _table("queue")
    for name in (*_COLUMNS, "per second"):
        table.add_column(name, justify="right", no_wrap=True)
    for queue in queues:
        *figures, failed, dead = (f"{value:,}" for value in _figures(queue))
        colours = ("yellow" if queue.failed else "", "red" if queue.dead else "")
        table.add_row(queue.name, *figures, Text(failed, colours[0]), Text(dead, colours[1]), f"{queue.rate:,.1f}")
    return table


def _processes(processes: Sequence[Process]) -> Table:
    from rich.text import Text

    table = _table("worker", min_width=min(_NAME, max(len(process.name) for process in processes)))
    table.add_column("process", justify="right", no_wrap=True)
    table.add_column("starts", justify="right", no_wrap=True)
    table.add_column("state")  # the only one that gives way
    for process in processes:
        colour = {"running": "green", "ended": "dim"}.get(process.state, "yellow")
        state = _one_row(Text(output.printable(process.state), colour))
        table.add_row(process.name, str(process.pid or "-"), str(process.starts), state)
    return table


def _table(first: str, min_width: int | None = None) -> Table:
    """Begin a table with a column for names, which are cut down to `min_width` where the screen is too narrow."""
    table = tables.begun(edge=False)
    table.add_column(first, no_wrap=True, overflow="ellipsis", min_width=min_width)
    return table
