"""Run a worker in this process, or keep several processes that do."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from redisq.cli import lifeline, logs, modules, options, output, streams
from redisq.runtime import process


def worker(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:WORKER", help="Where the Worker is, for example shop.work:worker.")
    ],
    processes: Annotated[int, options.valued("--processes", "N", "Run this many worker processes.", min=1)] = 1,
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues have nothing ready.")] = False,
    url: options.Url = None,
    log_format: logs.FormatOption = None,
    log_level: logs.LevelOption = None,
    kept: lifeline.Option = False,
) -> None:
    """Work on queues until SIGTERM, SIGHUP or Ctrl-C; a second one cuts running handlers short.

    The current folder can be imported from, after the standard library. --url counts for workers that take their
    settings from the environment.
    """
    streams.tolerate_loss()
    logs.warn_of_servers(True)
    os.environ.pop("REDISQ_MASTER_KEY", None)  # handlers, and what they start, need none to make applications with
    if url is not None:
        os.environ["REDISQ_URL"] = url  # the worker reads its settings itself, here or in a child
    with lifeline.held(kept):
        modules.current_folder()  # which has to be there, here as in the processes
        if processes > 1:
            code = _keep_processes(target, processes, burst, log_format, log_level)
        else:
            code = _work(target, burst, log_format, log_level)
    raise typer.Exit(code)


def _keep_processes(
    target: str, processes: int, burst: bool, form: logs.Format | None, level: logs.Level | None
) -> int:
    from redisq.cli.processes import Processes

    logs.log_to_stderr(form, level)
    command = modules.command("worker", target, "--lifeline", *(["--burst"] if burst else []))
    command += ["--log-format", form] if form else []
    command += ["--log-level", level] if level else []
    return Processes(command, processes, restart=not burst).run()


def _work(target: str, burst: bool, form: logs.Format | None, level: logs.Level | None) -> int:
    found = modules.load(target)
    logs.log_to_stderr(form, level)  # now: a module that configured logging has its way
    if not (found.queues or found.schedules):
        raise output.CommandError(
            f"The worker {target} has no handler: decorate a function with @worker.handler(QUEUE)"
        )
    return process.leave(found.run(burst=burst))
