"""Run a worker in this process, or keep several processes that do."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from redisq.cli import logs, modules, options, output, streams
from redisq.errors import RedisQError
from redisq.runtime import process


def worker(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:WORKER", help="Where the Worker is, for example shop.work:worker.")
    ],
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Run this many worker processes.")
    ] = 1,
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues have nothing ready.")] = False,
    url: options.Url = None,
    log_format: logs.FormatOption = None,
    log_level: logs.LevelOption = None,
    lifeline: Annotated[
        bool, typer.Option("--lifeline", hidden=True, help="Stop when stdin ends; report a failed start on it.")
    ] = False,
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
    line = hold_lifeline() if lifeline else None
    try:
        modules.current_folder()  # which has to be there, here as in the processes
        if processes > 1:
            code = _keep_processes(target, processes, burst, log_format, log_level)
        else:
            code = _work(target, burst, log_format, log_level)
    except (RedisQError, output.CommandError) as error:
        if line is None or not tell(line, error):
            raise
        code = 1
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


def hold_lifeline() -> int:
    """Stop this process, as SIGTERM does, when stdin ends; whoever holds its other end is gone then, however it ended.

    Returns a descriptor to report on. Stdin is empty from now on.
    """
    line = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=_end_with, args=(line,), name="redisq-lifeline", daemon=True).start()
    return line


def _end_with(line: int) -> None:
    try:
        while os.read(line, 1):
            pass
    except ConnectionError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def tell(line: int, error: Exception) -> bool:
    """Report why this process cannot work; False when nobody reads."""
    try:
        os.write(line, output.spelled(error).encode(errors="replace"))
    except OSError:
        return False
    return True
