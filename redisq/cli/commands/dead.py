"""Dead letters: list them, show one, redrive or purge them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from redisq.cli import clients, options, output, tables
from redisq.cli.commands import trace
from redisq.cli.commands.messages import described
from redisq.cli.commands.queues import confirm
from redisq.errors import BatchError

if TYPE_CHECKING:
    from rich.table import Table

    from redisq.model.message import Message

app = typer.Typer(help="Look at dead letters, redrive them, purge them.", no_args_is_help=True)

_SHOWN = 10  # ids in a text


def _age(value: str) -> float:
    from redisq.operations.options import LONGEST

    number = options.seconds(value)
    if number > LONGEST:
        raise typer.BadParameter("An age is a year at most.")
    return number


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Their ids.", show_default=False)]
Reason = Annotated[
    Literal["failed", "lost", "expired", "unreadable", "rejected"] | None,
    typer.Option("--reason", help="Only those that died of this.", show_default=False),
]
OlderThan = Annotated[
    float | None, options.valued("--older-than", "AGE", "Only those that died earlier: 90, 15m, 1h or 7d ago.", _age)
]
YoungerThan = Annotated[float | None, options.valued("--younger-than", "AGE", "Only those that died since.", _age)]
All = Annotated[bool, typer.Option("--all", help="All of the queue's.")]


@app.command("list")
def list_(
    queue: options.Queue,
    reason: Reason = None,
    older_than: OlderThan = None,
    younger_than: YoungerThan = None,
    limit: Annotated[int, options.valued("--limit", "N", "So many at most.", min=1, max=10_000)] = 100,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """List a queue's dead letters, the oldest first."""
    with clients.opened(url, queue, token) as mq:
        found = mq.dead_letters(queue, token, reason=reason, min_age=older_than, max_age=younger_than, limit=limit)
    if as_json:
        output.document({"queue": queue, "dead_letters": [message.to_dict() for message in found]})
    elif not found:
        output.text("There are none.")
    else:
        tables.show(_table(found, time.time()))
        if len(found) == limit:
            output.text(f"These are the oldest {limit:,}; there may be more: --limit N.")


@app.command("show")
def show(
    queue: options.Queue,
    id: options.MessageId,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print a dead letter as `redisq get` does, with its whole history."""
    with clients.opened(url) as mq:
        message = mq.get_message(queue, id, token).to_dict()
    if message["status"] != "ERROR":
        raise output.CommandError(f"The message is no dead letter: it is {message['status']}.")
    if as_json:
        output.document(message)
    else:
        output.console().print(described(message, trace.history(message)), soft_wrap=True)


@app.command("redrive")
def redrive(
    queue: options.Queue,
    ids: Ids = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    younger_than: YoungerThan = None,
    all: All = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Queue dead letters anew: those with the IDs, those that the options choose, or --all.

    Each keeps its id and has all its attempts before it again. One whose request has got lost cannot be redriven.
    """
    filters = _filters(ids, reason, older_than, younger_than, all)
    with clients.opened(url, queue, token) as mq:
        count = _counted("redriven", queue, lambda: mq.redrive(queue, ids or None, token, **filters))
    done = f"{count:,} dead letters of {queue} are redriven."
    output.show(as_json, {"queue": queue, "redriven": count}, f"redriven {count:,}", done)


@app.command("purge")
def purge(
    queue: options.Queue,
    ids: Ids = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    younger_than: YoungerThan = None,
    all: All = False,
    yes: options.Yes = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete dead letters: those with the IDs, those that the options choose, or --all."""
    filters = _filters(ids, reason, older_than, younger_than, all)
    with clients.opened(url, queue, token) as mq:
        if not yes:
            dead = f"{len(set(ids)) if ids else mq.stats(queue, token).dead:,} dead letters of {queue}"
            chosen = f"the {dead}" if ids or all else f"those of the {dead} that the options choose"
            confirm(f"This removes {chosen} for good.")
        count = _counted("purged", queue, lambda: mq.purge_dead(queue, ids or None, token, **filters))
    done = f"{count:,} dead letters of {queue} are purged."
    output.show(as_json, {"queue": queue, "purged": count}, f"purged {count:,}", done)


def _filters(
    ids: Sequence[str] | None, reason: str | None, min_age: float | None, max_age: float | None, all: bool
) -> dict[str, Any]:
    """Return the filters, as `RedisQ.redrive` takes them; a usage error unless there are ids, filters or --all."""
    filters = {"reason": reason, "min_age": min_age, "max_age": max_age}
    given = [bool(ids), any(value is not None for value in filters.values()), all]
    if sum(given) != 1:
        raise typer.BadParameter("Give IDs, or choose by --reason, --older-than and --younger-than, or take --all.")
    return filters


def _counted(done: str, queue: str, change: Callable[[], int]) -> int:
    """Do it and give the count.

    Raises:
        CommandError: some ids were none of dead letters; its text names them.
    """
    try:
        return change()
    except BatchError as error:
        refused = list(dict.fromkeys(error.ids[index] for index in error.errors))
        count = len(set(error.ids)) - len(refused)
        raise output.CommandError(
            f"{done} {count:,}, but these are no dead letters of {queue}, or have lost their request: "
            f"{output.listed(refused, _SHOWN)}"
        ) from None


def _table(found: Sequence[Message], now: float) -> Table:
    from rich.text import Text

    table = tables.begun("id", "died>", "reason", "attempts>", collapsed=True)
    table.add_column("error", min_width=6)
    for message in found:
        error = message.error or {"reason": "", "type": "", "message": ""}
        died = "" if message.finished_at is None else _ago(now - message.finished_at.timestamp())
        reason, text = (output.one_line(part) for part in (error["reason"], f"{error['type']}: {error['message']}"))
        cut = Text(text, no_wrap=True, overflow="ellipsis")
        table.add_row(message.id, died, reason, str(message.attempts), cut)
    return table


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
