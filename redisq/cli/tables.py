"""Tables and sentences that fit: on a terminal too narrow for a table, each row is told in words, and none is cut."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from redisq.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table


def begun(*columns: str, rows: Iterable[Sequence[str]] = (), collapsed: bool = False, edge: bool = True) -> Table:
    """Return a table, to which more can be added. Of a name that ends with ">" the column is aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=collapsed, show_edge=edge)
    for name in columns:
        table.add_column(name.removesuffix(">"), justify="right" if name.endswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def of_pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of names and values, without a head."""
    from rich import box
    from rich.table import Table

    table = Table(show_header=False, box=box.SIMPLE, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def show(table: Table) -> None:
    """Print a table in the form that fits stdout."""
    console = output.console()
    console.print(fitted(table, console))


def fitted(table: Table, console: Console) -> Table | str:
    """Return a table, or where the console is too narrow for its columns, what it holds in words.

    A column with a `min_width` gives way down to that, the others need all of theirs. A pipe is never too narrow.
    """
    if needed(table, console) <= console.width:
        return table
    return "\n".join(_told(table, console.width))


def needed(table: Table, console: Console) -> int:
    """Return the columns of the terminal that a table needs at least."""
    widest = console.measure(table, options=console.options.update(width=output.NO_TERMINAL)).maximum
    spare = (_width(column) - column.min_width for column in table.columns if column.min_width is not None)
    return widest - sum(max(0, columns) for columns in spare)


def wrapped(lines: str) -> str:
    """Break lines between words for a terminal, each with its own indentation and a bit more; for a pipe not at all."""
    if not sys.stdout.isatty():
        return lines
    width = output.console().width
    return "\n".join("\n".join(_wrapped(line, width)) for line in output.printable(lines).split("\n"))


def _width(column: Column) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, map(str, (column.header, *column.cells))))


def _told(table: Table, width: int) -> Iterator[str]:
    """Tell each row in some lines: its first cell, and below it the others, each after its column's name."""
    names = [str(column.header) for column in table.columns[1:]]
    for first, *cells in zip(*(map(str, column.cells) for column in table.columns), strict=True):
        yield first
        line = ""
        for part in (f"{name} {cell}" for name, cell in zip(names, cells, strict=True)):
            if line and len(f"  {line}  {part}") > width:
                yield from _wrapped(f"  {line}", width)
                line = ""
            line = f"{line}  {part}" if line else part
        yield from _wrapped(f"  {line}", width)


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
