"""What a process that another one of ours keeps does at its end of their socket, which is its stdin.

See `redisq.cli.processes` for the other end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from redisq.cli.output import CommandError, spelled
from redisq.errors import RedisQError

Option = Annotated[
    bool, typer.Option("--lifeline", hidden=True, help="Stop when stdin ends; report a failed start on it.")
]


@contextmanager
def held(wanted: bool) -> Iterator[None]:
    """Stop this process, as SIGTERM does, when stdin ends: whoever holds its other end is gone then, however it ended.

    Stdin is empty from now on. An error of what runs here is reported to the other end, while somebody reads there.
    """
    if not wanted:
        yield
        return
    line = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_end_with, args=(line,), name="redisq-lifeline", daemon=True).start()
    try:
        yield
    except (RedisQError, CommandError) as error:
        with suppress(OSError):
            os.write(line, spelled(error).encode(errors="replace"))
            raise typer.Exit(1) from None
        raise


def _end_with(line: int) -> None:
    try:
        while os.read(line, 1):
            pass
    except ConnectionError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
