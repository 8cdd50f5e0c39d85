"""What commands print: one JSON document, or text for people. All text is made safe for a terminal."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL = 10_000  # columns: what goes into a pipe is neither wrapped nor cut


class CommandError(Exception):
    """What a command could not do. Its text is printed as one line, and the exit code is 1."""


def document(value: Any) -> None:
    """Print one JSON document on one line."""
    text(json.dumps(value))


def text(line: str) -> None:
    """Print a line at once, so that a reader that has gone away is noticed here and not when Python ends."""
    print(printable(line), flush=True)


def raw(body: str) -> None:
    """Print text as it is, for a program that reads it; only for a terminal is it made safe."""
    print(printable(body) if sys.stdout.isatty() else body, flush=True)


def show(as_json: bool, value: Any, line: str) -> None:
    """Print `value` as JSON, or else `line`."""
    if as_json:
        document(value)
    else:
        text(line)


def complain(error: Exception | str) -> None:
    """Print an error as one line on stderr."""
    print(f"redisq: {one_line(str(error))}", file=sys.stderr)


def console() -> Console:
    """Give a console for stdout. It shows text as it is: nothing that came from a message is taken for markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _NO_TERMINAL
    return Console(width=width, markup=False, emoji=False, highlight=False)


def readable(value: Any) -> str:
    """Write a JSON value for people: short ones on one line."""
    short = json.dumps(value, ensure_ascii=False)
    return printable(short if len(short) <= 100 else json.dumps(value, ensure_ascii=False, indent=2))


def one_line(text: str) -> str:
    """Bring text to one line, made safe for a terminal."""
    return " ".join(printable(text).split())


def printable(line: str) -> str:
    """Escape what could control a terminal; messages and errors come from anywhere."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in line)
