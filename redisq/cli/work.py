"""Run a worker: find it, then work in this process, or keep several processes that do."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redisq.cli import logs, options, output, streams
from redisq.errors import RedisQError

if TYPE_CHECKING:
    from redisq.worker import Worker


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
    """Work on queues until SIGTERM or Ctrl-C; a second one cuts running handlers short.

    The current folder can be imported from. --url counts for workers that take their settings from the environment.
    """
    streams.tolerate_loss()
    logs.warn_of_servers(True)
    os.environ.pop("REDISQ_MASTER_KEY", None)  # handlers, and what they start, need none to make applications with
    if url is not None:
        os.environ["REDISQ_URL"] = url  # the worker reads its settings itself, here or in a child
    line = hold_lifeline() if lifeline else None
    try:
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
    command = [sys.executable, "-m", "redisq", "worker", target, "--lifeline", *(["--burst"] if burst else [])]
    command += ["--log-format", form] if form else []
    command += ["--log-level", level] if level else []
    return Processes(command, processes, restart=not burst).run()


def _work(target: str, burst: bool, form: logs.Format | None, level: logs.Level | None) -> int:
    found = load(target)
    logs.log_to_stderr(form, level)  # now: a module that configured logging has its way
    if not (found.queues or found.schedules):
        raise output.CommandError(
            f"The worker {target} has no handler: decorate a function with @worker.handler(QUEUE)"
        )
    return found.run(burst=burst)


def load(target: str) -> Worker:
    """Import the worker that `module:attribute` names, also from the current folder.

    Raises:
        CommandError: there is no such thing, or it is no Worker; or importing the module failed.
    """
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise output.CommandError(
            f"{target!r} does not name a worker: write MODULE:WORKER, for example shop.work:worker"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(name)
    except Exception as error:
        raise _not_imported(name, error) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise output.CommandError(f"The module {name} has no {attribute!r}. Is it spelled so there?")
        found = getattr(found, part)
    return _checked(found, target)


def _checked(found: object, target: str) -> Worker:
    from redisq.worker import Worker

    if not isinstance(found, Worker):
        raise output.CommandError(f"{target} is no redisq.Worker but of type {type(found).__name__}.")
    return found


def _not_imported(name: str, error: Exception) -> output.CommandError:
    """Tell a module that is not there from one that fails; of the latter, name the line that raised."""
    absent = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
    if absent or (isinstance(error, TypeError | ValueError) and not _frames(error)):
        return output.CommandError(f"There is no module {name} in the current folder, nor is it installed.")
    where = ", ".join(f"{Path(frame.filename).name} line {frame.lineno}" for frame in _frames(error)[-1:])
    return output.CommandError(
        f"Importing {name} failed: {type(error).__name__}: {error}" + (f" ({where})" * bool(where))
    )


def _frames(error: Exception) -> list[traceback.FrameSummary]:
    """The frames of an exception that are neither ours nor the import system's."""
    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame for frame in frames if frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"
    ]


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
        os.write(line, str(error).encode(errors="replace"))
    except OSError:
        return False
    return True
