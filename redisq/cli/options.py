"""Arguments and options that several commands take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import typer

from redisq.cli import streams
from redisq.cli.completion import queue_names

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(value: str | float) -> float:
    """Read a number of seconds, 0 or more, or of another unit: 90s, 15m, 1h, 7d. What is wrong is a usage error."""
    text = str(value)  # Typer passes defaults through here, too
    unit = _UNITS.get(text[-1:])
    try:
        number = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise typer.BadParameter(f"{value!r} is not a number of seconds, 0 or more, nor like 15m, 1h or 7d.")
    return number


def valued(
    flag: str,
    metavar: str,
    help: str,
    parser: Callable[[str], Any] | None = None,
    min: int | None = None,
    max: int | None = None,
) -> Any:
    """Return an option that takes a value."""
    return typer.Option(flag, metavar=metavar, help=help, parser=parser, min=min, max=max)


STDIN = "-"  # in place of an argument: read it from stdin


def given(text: str, most: int) -> str:
    """Return an argument, or what stdin holds in its place, so many bytes at most."""
    return text if text != STDIN else streams.read_stdin(most).decode(errors="replace").strip()


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Its name.", show_default=False, autocompletion=queue_names)
]
SomeQueue = Annotated[
    str | None,
    typer.Argument(
        metavar="QUEUE", help="Its name; all queues if left out.", show_default=False, autocompletion=queue_names
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="The message's id.", show_default=False)]
Url = Annotated[
    str | None,
    valued("--url", "URL", "Redis to use: redis://, rediss://, unix:// or embedded:// instead of REDISQ_URL."),
]
Token = Annotated[
    str | None,
    valued("--token", "TOKEN", "Access token. Without one, the credentials REDISQ_APP_ID and REDISQ_APP_SECRET count."),
]
