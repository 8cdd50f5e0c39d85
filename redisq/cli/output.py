"""What commands print: one JSON document, or text for people. All text is made safe for a terminal."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redisq.errors import InvalidArgument, InvalidMessage, MessageConflict, MissingCredentials

if TYPE_CHECKING:
    from rich.console import Console

NO_TERMINAL = 1_000_000  # columns: what goes into a pipe is neither wrapped nor cut

#: Errors of what a caller gave, and the arguments of Python that an option sets, mostly one of the same name.
_OF_ARGUMENTS = (InvalidArgument, InvalidMessage, MessageConflict, MissingCredentials)
_ARGUMENTS = re.compile(
    r"(?<![\w.$\"])(?:idempotency_key\b=?|(?:id|delay|at|expires_in|priority|headers|wait|token|reason|min_age|max_age|limit)="
    r"(?!\w))"
)
_OTHER_NAMES = {"min_age": "older_than", "max_age": "younger_than", "headers": "header"}


class CommandError(Exception):
    """What a command could not do. Its text is printed as one line, and the exit code is 1."""


class OutputLost(CommandError):
    """Nothing more can be written to standard output: it is closed or full, or nobody reads it."""


class ReaderGone(OutputLost):
    """Nobody reads standard output any more, which whoever had enough of it knows: it is told only `after` a change."""


@contextlib.contextmanager
def after(done: str) -> Iterator[None]:
    """Print what was done in this block: where that is lost, the error says `done`, so that nobody repeats it blindly.

    `done` is a sentence without any secret.
    """
    try:
        yield
    except OutputLost as error:
        raise OutputLost(f"{error} {done}") from None


def document(value: Any) -> None:
    """Print one JSON document on one line."""
    text(json.dumps(value))


def text(line: str) -> None:
    """Print a line at once, so that a reader that has gone away is noticed here and not when Python ends."""
    print(printable(line), flush=True)


def raw(body: str) -> None:
    """Print text as it is, for a program that reads it; only for a terminal is it made safe."""
    print(printable(body) if sys.stdout.isatty() else body, flush=True)


def show(as_json: bool, value: Any, line: str, done: str = "") -> None:
    """Print `value` as JSON, or else `line`. `done` is what was changed, see `after`."""
    with after(done) if done else contextlib.nullcontext():
        if as_json:
            document(value)
        else:
            text(line)


def complain(error: Exception | str) -> None:
    """Print an error as one line on stderr, as `spelled` has it."""
    print(f"redisq: {one_line(spelled(error))}", file=sys.stderr)


def spelled(error: Exception | str) -> str:
    """Return the text of an error. Arguments of Python that it names are spelled as the options that set them."""
    return _ARGUMENTS.sub(_option, str(error)) if isinstance(error, _OF_ARGUMENTS) else str(error)


def _option(found: re.Match[str]) -> str:
    name = found[0].removesuffix("=")
    return f"--{_OTHER_NAMES.get(name, name).replace('_', '-')}"


def console() -> Console:
    """Return a console for stdout. It shows text as it is: nothing that came from a message is taken for markup."""
    from rich.console import Console

    # Both, or rich takes a dumb terminal's 80 columns where FORCE_COLOR makes it believe in one.
    width, height = (None, None) if sys.stdout.isatty() else (NO_TERMINAL, NO_TERMINAL)
    return Console(width=width, height=height, markup=False, emoji=False, highlight=False)


def iso(seconds: float) -> str:
    """Return a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def listed(names: Sequence[str], most: int) -> str:
    """Return some names in a row, the first ones only, and how many more there are."""
    more = f" and {len(names) - most:,} more" * (len(names) > most)
    return f"{', '.join(names[:most])}{more}"


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
