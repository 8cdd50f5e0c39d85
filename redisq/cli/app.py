"""The application: which commands there are, and how each of them ends.

What is imported here is paid for by `redisq --help`. So commands import clients, workers and tables when they run.
"""

from __future__ import annotations

from typing import Annotated

import typer

from redisq import __version__
from redisq.cli import completion, logs, output, streams
from redisq.cli.bench import command as bench
from redisq.cli.commands import (
    applications,
    dead,
    definitions,
    doctor,
    guide,
    messages,
    queues,
    serve,
    stats,
    tokens,
    trace,
    work,
)
from redisq.cli.demo import command as demo
from redisq.cli.dev import command as dev
from redisq.errors import RedisQError

_EPILOG = (
    "Settings come from the environment: REDISQ_URL, REDISQ_APP_ID, REDISQ_APP_SECRET and others. "
    "`redisq app create NAME` makes credentials."
)

app = typer.Typer(
    name="redisq",
    no_args_is_help=True,
    add_completion=False,  # Typer's own options want to guess the shell
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
app.command("demo")(demo.demo)
app.command("dev")(dev.dev)
app.command("queue")(messages.queue)
app.command("get")(messages.get)
app.command("cancel")(messages.cancel)
app.command("delete")(messages.delete)
app.command("trace")(trace.trace)
app.command("worker")(work.worker)
app.command("serve")(serve.serve)
app.command("stats")(stats.stats)
app.command("sweep")(queues.sweep)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("guide")(guide.guide)
queues.app.command("show")(definitions.show)
queues.app.command("define")(definitions.define)
app.add_typer(queues.app, name="queues")
app.add_typer(dead.app, name="dead")
app.add_typer(tokens.token_app, name="token")
app.add_typer(applications.app, name="app")


def _version(wanted: bool) -> None:
    if wanted:
        output.text(f"redisq {__version__}")
        raise typer.Exit


@app.callback()
def redisq(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    show_completion: completion.Show = None,
    install_completion: completion.Install = None,
) -> None:
    """Queue messages on Redis or Valkey, work on them, look them up."""


def run() -> int:
    """Run the command that `sys.argv` names and give the exit code."""
    logs.warn_of_servers(False)  # what does one thing and ends need not; services switch it on
    try:
        code = _run()
        streams.finish_output()
    except output.ReaderGone:
        return 1
    except (RedisQError, output.CommandError) as error:
        output.complain(error)
        return 1
    return code


def _run() -> int:
    try:
        app(prog_name="redisq")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
