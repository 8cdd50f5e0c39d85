"""Queue one message, look it up, delete it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import options, output

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = {"PENDING": "cyan", "INPROGRESS": "yellow", "COMPLETE": "green", "ERROR": "red"}
_INDENT = 11  # columns of a label


def queue(
    queue: options.Queue,
    message: Annotated[str, typer.Argument(metavar="JSON|-", help="The message; - reads it from stdin.")],
    id: Annotated[
        str | None, typer.Option(metavar="UUID", help="Its id. Queueing again with the same id is safe.")
    ] = None,
    delay: Annotated[
        float, typer.Option(metavar="SECONDS", parser=options.seconds, help="Deliver it only after this time.")
    ] = 0.0,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Queue a message and print its id."""
    request = _parsed(sys.stdin.buffer.read() if message == options.STDIN else message)
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        name = mq.queue_message(queue, request, token, id=id, delay=delay)
    output.show(as_json, {"id": name}, name)


def get(
    queue: options.Queue,
    id: options.MessageId,
    wait: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", parser=options.seconds, help="Wait this long at most until it has finished."),
    ] = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print a message: its status, request, result or error, and times. The exit code is 0 whatever its status."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        found = mq.get_message(queue, id, token, wait=wait).to_dict()
    if as_json:
        output.document(found)
    else:
        console = output.console()
        console.print(described(found), soft_wrap=True)


def delete(
    queue: options.Queue,
    id: options.MessageId,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete a message, whatever its status."""
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        mq.delete_message(queue, id, token)
    output.show(as_json, {"deleted": id}, "deleted")


def described(message: dict[str, Any]) -> Text:
    """Describe a message, as `to_dict` gives it, in a few lines; what it does not have is left out."""
    from rich.text import Text

    status = message["status"]
    head = (status.ljust(_INDENT), f"bold {COLOURS[status]}")
    lines: list[str | tuple[str, str]] = [head, f"{message['id']} in {message['queue']}"]
    for name, value in message.items():
        if value is None or name in ("id", "queue", "status"):
            continue
        body = value if name.endswith("_at") else output.readable(value)
        lines += ["\n", (name.removesuffix("_at").ljust(_INDENT), "dim"), _hanging(body)]
    return Text.assemble(*lines)


def _hanging(body: str) -> str:
    return textwrap.indent(body, " " * _INDENT).lstrip(" ")


def _parsed(source: str | bytes) -> Any:
    """Read a JSON document.

    Raises:
        CommandError: it is not one, or says something twice.
    """
    try:
        text = source if isinstance(source, str) else source.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"{error.msg}, line {error.lineno} column {error.colno}"
        raise output.CommandError(
            f'The message is not JSON ({place}). In a shell, quote all of it: \'{{"sku": "A-1"}}\''
        ) from None
    except UnicodeDecodeError as error:
        raise output.CommandError(f"The message is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise output.CommandError("The message is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits; a repeated key
        raise output.CommandError(f"The message cannot be read: {error}") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found
