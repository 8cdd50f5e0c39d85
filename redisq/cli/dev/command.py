"""The command `dev`; what it does is in `run`."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from redisq.cli import options, output, streams
from redisq.runtime import process


def dev(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODULE:WORKER",
            help="Workers to run, for example shop.work:worker. Without one, Redis and the gateway run.",
            show_default=False,
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the workers when a Python file below this folder changes.")
    ] = False,
    processes: Annotated[int, options.valued("--processes", "N", "Processes of each worker.", min=1)] = 1,
    http_port: Annotated[
        int | None,
        options.valued(
            "--http-port",
            "PORT",
            "Let the HTTP gateway listen on this port; 8080 or, when that is taken, another one if left out.",
        ),
    ] = None,
    env: Annotated[
        bool, typer.Option("--env", help='Only print the lines to export: eval "$(redisq dev --env)".')
    ] = False,
) -> None:
    """Run a private Redis, the HTTP gateway and your workers for development, and show what they do, until Ctrl-C.

    The gateway runs where the extra `http` is installed.

    Data and credentials stay in .redisq of the current folder. A second `redisq dev` there shows what the first does.

    Running handlers get 5 seconds to end; REDISQ_GRACE sets another time.
    """
    names = list(dict.fromkeys(targets or ()))
    for name in names:
        if not all(name.partition(":")):
            raise typer.BadParameter(f"{name!r} does not name a worker: write MODULE:WORKER, as in shop.work:worker.")
    process.open_standard_streams()
    from redisq.cli.dev.folder import Folder  # takes the token module with it

    folder = Folder.here()
    if env:
        output.text("\n".join(folder.exports()))
        return
    if reload and not importlib.util.find_spec("watchfiles"):
        from redisq.runtime import extras

        raise output.CommandError(f"--reload needs the package watchfiles: {extras.install('cli')}")
    streams.tolerate_loss(of_closed_alone=True)
    from redisq.cli.dev.run import run

    run(folder, names, processes, reload, http_port)
