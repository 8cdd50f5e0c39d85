"""Manage queues: list, pause, empty, remove, sweep."""

from __future__ import annotations

import sys

import typer

from redisq.cli import clients, options, output, streams

app = typer.Typer(help="Manage queues.", no_args_is_help=True)


@app.command("list")
def list_(token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Print the names of all queues."""
    with clients.opened(url) as mq:
        names = mq.queues(token)
    if as_json:
        output.document({"queues": names})
    elif names:
        output.text("\n".join(names))


@app.command("pause")
def pause(
    queue: options.Queue, token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False
) -> None:
    """Let workers claim nothing more from a queue. Messages can be queued, and those in progress end."""
    with clients.opened(url, queue, token) as mq:
        mq.define(queue, token, paused=True)
    output.show(as_json, {"queue": queue, "paused": True}, f"{queue} is paused", done=f"{queue} is paused.")


@app.command("resume")
def resume(
    queue: options.Queue, token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False
) -> None:
    """Let workers claim from a queue again."""
    with clients.opened(url, queue, token) as mq:
        mq.define(queue, token, paused=None)
    output.show(as_json, {"queue": queue, "paused": False}, f"{queue} is not paused", done=f"{queue} is not paused.")


@app.command("purge")
def purge(
    queue: options.Queue,
    yes: options.Yes = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Remove all waiting messages of a queue. Those in progress and finished ones stay."""
    with clients.opened(url, queue, token) as mq:
        if not yes:
            held = mq.stats(queue, token)
            waiting = f"{held.ready:,} ready and {held.scheduled:,} scheduled messages"
            confirm(f"This removes the {waiting} of {queue} for good.")
        purged = mq.purge(queue, token)
    done = f"{purged:,} messages of {queue} are purged."
    output.show(as_json, {"queue": queue, "purged": purged}, f"purged {purged:,}", done)


@app.command("drop")
def drop(
    queue: options.Queue,
    yes: options.Yes = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Remove a queue with all its messages, results, totals and its definition."""
    with clients.opened(url, queue, token) as mq:
        if not yes:
            held = mq.stats(queue, token)
            confirm(
                f"This removes {queue} for good: {held.ready + held.scheduled:,} waiting messages, "
                f"{held.in_progress:,} in progress, {held.finished:,} finished ({held.dead:,} dead), its totals and "
                "its definition."
            )
        mq.drop(queue, token)
    output.show(as_json, {"dropped": queue}, f"dropped {queue}", done=f"{queue} is dropped.")


def sweep(
    queue: options.SomeQueue = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Forget finished messages whose retention has passed; without QUEUE, in all queues. Workers do it anyway."""
    with clients.opened(url, queue, token) as mq:
        names = mq.queues(token) if queue is None else [queue]
        swept = {name: mq.sweep(name, token) for name in names}
    output.show(as_json, {"swept": swept}, f"swept {sum(swept.values()):,}", done="The queues are swept.")


def confirm(loss: str) -> None:
    """Ask on the terminal whether to go on.

    Raises:
        CommandError: the answer is not yes, or there is nobody to ask.
    """
    if not streams.can_ask():
        raise output.CommandError(f"{loss} There is no terminal to ask on: add --yes.")
    print(f"{output.printable(loss)}\nGo on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise output.CommandError("Nothing was changed.")
