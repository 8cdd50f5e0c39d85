"""Queue messages, look one up, cancel it, delete it."""

from __future__ import annotations

import contextlib
import json
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import clients, documents, options, output, streams
from redisq.cli.commands import trace

if TYPE_CHECKING:
    from rich.text import Text

    from redisq.model.message import Message
    from redisq.operations.options import Options

COLOURS = {"PENDING": "cyan", "INPROGRESS": "yellow", "COMPLETE": "green", "ERROR": "red"}
_INDENT = 11  # columns of a label
_CANCELLED = {
    True: ("cancelled", "The message {id} is cancelled."),
    None: ("told", "The worker of the message {id} is told to cancel it."),
    False: ("finished", "The message {id} had finished before."),
}


def _moment(text: str) -> datetime:
    """Read a time with its offset from UTC; what is wrong is a usage error."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time like 2026-12-24T18:00+01:00.") from None
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: +01:00 after it, or Z for UTC.")
    return at


MessageText = Annotated[
    str | None,
    typer.Argument(
        metavar="JSON|-|FILE",
        help="The message; - reads it from stdin. With --lines the file to read, stdin if left out.",
        show_default=False,
    ),
]
Lines = Annotated[bool, typer.Option("--lines", help="Queue many messages: one JSON document on each line.")]
StopOnError = Annotated[
    bool, typer.Option("--stop-on-error", help="With --lines: end at the first bad line instead of leaving it out.")
]
Items = Annotated[
    bool, typer.Option("--items", help='With --lines: each line is {"request": ...} with options of its own beside it.')
]
Ids = Annotated[
    bool, typer.Option("--ids", help="With --lines: print the id of each line, an empty line where there is none.")
]
Id = Annotated[str | None, options.valued("--id", "UUID", "Its id. Queueing again with the same id is safe.")]
Delay = Annotated[float, options.valued("--delay", "SECONDS", "Deliver it only after this time.", options.seconds)]
At = Annotated[
    datetime | None, options.valued("--at", "TIME", "Deliver it from then on: 2026-12-24T18:00+01:00.", _moment)
]
ExpiresIn = Annotated[
    float | None,
    options.valued("--expires-in", "SECONDS", "Do not deliver it any more after this time.", options.seconds),
]
IdempotencyKey = Annotated[
    str | None,
    options.valued(
        "--idempotency-key", "TEXT", "Queueing the same message again under the same key gives the same id."
    ),
]
Priority = Annotated[
    int, options.valued("--priority", "0-9", "Deliver it before ready ones of a lower priority.", min=0, max=9)
]
Headers = Annotated[
    list[str] | None,
    options.valued("--header", "NAME=VALUE", "Give it a header, text beside the body. May be given several times."),
]
Wait = Annotated[
    float | None, options.valued("--wait", "SECONDS", "Wait this long at most until it has finished.", options.seconds)
]
Raw = Annotated[bool, typer.Option("--raw", help="Print the result alone: text as it is, anything else as JSON.")]


def queue(
    queue: options.Queue,
    message: MessageText = None,
    lines: Lines = False,
    items: Items = False,
    stop_on_error: StopOnError = False,
    ids: Ids = False,
    id: Id = None,
    delay: Delay = 0.0,
    at: At = None,
    expires_in: ExpiresIn = None,
    idempotency_key: IdempotencyKey = None,
    priority: Priority = 0,
    header: Headers = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Queue a message and print its id, or queue many with --lines.

    Bad lines are reported by their numbers on stderr; if there was one, the exit code is 1.
    """
    if lines:
        if delay or priority or (id, at, expires_in, idempotency_key) != (None,) * 4:
            raise typer.BadParameter(
                "--lines goes with none of --id, --delay, --at, --expires-in, --idempotency-key and --priority."
            )
        if ids and as_json:
            raise typer.BadParameter("With --lines, --ids cannot go with --json.")
        source = options.STDIN if message is None else message
        made = _made_of_lines(_headers(header), as_item=items)
        _queue_lines(queue, source, token, url, made, stop_on_error=stop_on_error, ids=ids, as_json=as_json)
        return
    if message is None or stop_on_error or ids or items:
        told = "--items, --stop-on-error and --ids go with --lines."
        raise typer.BadParameter(told if message else "Give a message, or -.")
    if (delay and at) or (id is not None and idempotency_key is not None):
        raise typer.BadParameter("--delay cannot go with --at, nor --id with --idempotency-key.")
    if expires_in == 0:
        raise typer.BadParameter("--expires-in takes more than 0 seconds.")
    request = _document(streams.read_stdin() if message == options.STDIN else message)
    from redisq.store import keys

    if id is None and idempotency_key is None:
        id = keys.id_text(keys.new_id())
    chosen: Options = {"id": id, "idempotency_key": idempotency_key, "priority": priority}
    chosen |= {"delay": delay, "at": at, "expires_in": expires_in, "headers": _headers(header)}
    with clients.opened(url) as mq, _told_when_interrupted(id):
        name = mq.queue_message(queue, request, token, **chosen)
    output.show(as_json, {"id": name}, name, done=f"The message is queued, with the id {name}.")


def _headers(given: list[str] | None) -> dict[str, str]:
    """Read headers, each a name and its text; what is wrong is a usage error."""
    found: dict[str, str] = {}
    for one in given or ():
        name, mark, text = one.partition("=")
        if not (name and mark):
            raise typer.BadParameter("--header takes a name and its text, like tenant=a.")
        if name in found:
            raise typer.BadParameter(f"--header gives {name} twice.")
        found[name] = text
    return found


@contextlib.contextmanager
def _told_when_interrupted(id: str | None) -> Iterator[None]:
    """Say what a message that may be queued goes by, if this block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        how = "the same --idempotency-key" if id is None else f"--id {id}"
        output.complain(f"Interrupted: the message may be queued. Queueing it again with {how} is safe.")
        raise


def get(
    queue: options.Queue,
    id: options.MessageId,
    wait: Wait = None,
    raw: Raw = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print a message: its status, request, result or error, and times.

    The exit code is 0 whatever its status, but 1 with --raw when there is no result.
    """
    if raw and as_json:
        raise typer.BadParameter("--raw cannot go with --json.")
    with clients.opened(url) as mq:
        message = mq.get_message(queue, id, token, wait=wait)
    if raw:
        output.raw(_raw(message))
    elif as_json:
        output.document(message.to_dict())
    else:
        output.console().print(described(message.to_dict()), soft_wrap=True)


def cancel(
    queue: options.Queue,
    id: options.MessageId,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Cancel a message, and print what that came to: `cancelled`, `told` or `finished`.

    One that waits has ended; the handler of one in progress is told, and what it does then decides: a result counts.
    Of one that had finished before nothing changes. With --json that is true, null or false.
    """
    with clients.opened(url) as mq:
        cancelled = mq.cancel_message(queue, id, token)
    line, done = _CANCELLED[cancelled]
    output.show(as_json, {"cancelled": cancelled}, line, done=done.format(id=id))


def delete(
    queue: options.Queue,
    id: options.MessageId,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete a message, whatever its status."""
    with clients.opened(url) as mq:
        mq.delete_message(queue, id, token)
    output.show(as_json, {"deleted": id}, "deleted", done=f"The message {id} is deleted.")


def described(message: dict[str, Any], history: str | None = None) -> Text:
    """Describe a message, as `to_dict` gives it, in a few lines; what it does not have is left out.

    `history` stands in place of a short one.
    """
    from rich.text import Text

    status = message["status"]
    head = (status.ljust(_INDENT), f"bold {COLOURS[status]}")
    lines: list[str | tuple[str, str]] = [head, f"{message['id']} in {message['queue']}"]
    error = dict(message["error"] or {})
    texts = {"traceback": error.pop("traceback", None), "history": history or trace.brief(message["history"]) or None}
    for name, value in {**message, "error": error or None, **texts}.items():
        if value is None or name in ("id", "queue", "status") or (name in ("priority", "headers") and not value):
            continue
        body = output.printable(value) if name in texts or name.endswith("_at") else output.readable(value)
        lines += ["\n", (name.removesuffix("_at").ljust(_INDENT), "dim"), _hanging(body)]
    return Text.assemble(*lines)


def _hanging(body: str) -> str:
    return textwrap.indent(body, " " * _INDENT).lstrip(" ")


def _raw(message: Message) -> str:
    """Write a result alone: text as it is, anything else as JSON.

    Raises:
        CommandError: there is none, and why.
    """
    from redisq.model.message import Status

    if message.status is Status.COMPLETE:
        result = message.to_dict()["result"]
        return result if isinstance(result, str) else json.dumps(result)
    if message.error is not None and message.finished:
        error = message.error
        raise output.CommandError(f"It ended as ERROR ({error['reason']}): {error['type']}: {error['message']}")
    raise output.CommandError(f"There is no result yet, the message is {message.status}. --wait SECONDS waits for it.")


def _document(source: str | bytes) -> Any:
    try:
        return documents.read(source)
    except documents.Unreadable as error:
        hint = """ In a shell, quote all of it: '{"sku": "A-1"}'""" * ("JSON" in str(error))
        raise output.CommandError(f"The message {error}.{hint}") from None


def _made_of_lines(headers: dict[str, str], *, as_item: bool) -> Callable[[Any], Any]:
    """Return what makes of each line's document what is queued."""
    from redisq.operations.options import headers_of, of_line

    return partial(of_line, headers=headers_of(headers) or {}, as_item=as_item)


def _queue_lines(
    queue: str,
    source: str,
    token: str | None,
    url: str | None,
    made: Callable[[Any], Any],
    *,
    stop_on_error: bool,
    ids: bool,
    as_json: bool,
) -> None:
    from redisq.cli.commands.lines import queue_lines

    with clients.opened(url) as mq:
        feed = queue_lines(mq, queue, token, source, made, stop_on_error=stop_on_error, ids=ids)
    if not ids:
        counts = {"queued": feed.queued, "refused": feed.refused, "read": feed.read}
        output.show(as_json, counts, feed.counted(), done=f"That was {feed.told()}")
    if feed.halted:
        raise output.CommandError(feed.halted)
    if feed.refused:
        raise typer.Exit(1)
