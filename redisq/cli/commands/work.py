"""Run a worker in this process, or keep several processes that do."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from redisq.cli import lifeline, logs, modules, options, output, streams
from redisq.runtime import process


def worker(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:WORKER", help="Where the Workers are, for example shop.work:worker."),
    ],
    processes: Annotated[int, options.valued("--processes", "N", "Run this many worker processes.", min=1)] = 1,
    queues: Annotated[str | None, options.valued("--queues", "NAME,NAME", "Work on these queues only.")] = None,
    concurrency: Annotated[
        int | None,
        options.valued("--concurrency", "N", "Work on so many messages at once, whatever the code says.", min=1),
    ] = None,
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues have nothing ready.")] = False,
    url: options.Url = None,
    log_format: logs.FormatOption = None,
    log_level: logs.LevelOption = None,
    kept: lifeline.Option = False,
) -> None:
    """Work on queues until SIGTERM, SIGHUP or Ctrl-C; a second one cuts running handlers short.

    Several workers run in one process, and open what they need in this order. With --queues their schedules are kept,
    and only the handlers of these queues run; with --concurrency these share so many slots.

    The current folder can be imported from, after the standard library. --url counts for workers that take their
    settings from the environment.
    """
    names = _names(queues)
    streams.tolerate_loss()
    logs.warn_of_servers(True)
    os.environ.pop("REDISQ_MASTER_KEY", None)  # handlers, and what they start, need none to make applications with
    if url is not None:
        os.environ["REDISQ_URL"] = url  # the worker reads its settings itself, here or in a child
    with lifeline.held(kept):
        modules.current_folder()  # which has to be there, here as in the processes
        if processes > 1:
            code = _keep_processes(targets, processes, burst, names, concurrency, log_format, log_level)
        else:
            code = _work(targets, burst, names, concurrency, log_format, log_level)
    raise typer.Exit(code)


def _names(queues: str | None) -> list[str] | None:
    """Read the names of queues, separated by commas."""
    if queues is None:
        return None
    names = [name.strip() for name in queues.split(",")]
    if not all(names):
        raise typer.BadParameter("--queues takes names of queues, separated by commas.")
    return names


def _keep_processes(
    targets: list[str],
    processes: int,
    burst: bool,
    queues: list[str] | None,
    concurrency: int | None,
    form: logs.Format | None,
    level: logs.Level | None,
) -> int:
    from redisq.cli.processes import Processes

    logs.log_to_stderr(form, level)
    command = modules.command("worker", *targets, "--lifeline", *(["--burst"] if burst else []))
    for option, value in (
        ("--queues", queues and ",".join(queues)),
        ("--concurrency", concurrency),
        ("--log-format", form),
        ("--log-level", level),
    ):
        command += [option, str(value)] if value is not None else []
    return Processes(command, processes, restart=not burst).run()


def _work(
    targets: list[str],
    burst: bool,
    queues: list[str] | None,
    concurrency: int | None,
    form: logs.Format | None,
    level: logs.Level | None,
) -> int:
    from redisq.worker.worker import run_together

    workers = {target: modules.load(target) for target in targets}
    logs.log_to_stderr(form, level)  # now: a module that configured logging has its way
    for target, found in workers.items():
        if not (found.queues or found.schedules):
            raise output.CommandError(
                f"The worker {target} has no handler: decorate a function with @worker.handler(QUEUE)"
            )
    distinct = list({id(found): found for found in workers.values()}.values())
    return process.leave(run_together(distinct, burst=burst, queues=queues, concurrency=concurrency))
