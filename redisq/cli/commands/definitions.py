"""Show and change queues' definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import options, output, streams, tables
from redisq.cli.commands.queues import check_exists, exists

if TYPE_CHECKING:
    from rich.table import Table

    from redisq.model.queue import Definition
    from redisq.settings import Settings

_NO_SETTING = {"paused": False, "security": "token", "schema": None, "check_formats": True}  # what is not in `Settings`
_DEFAULT = "default"  # as a value: take the setting out of the definition
_MOST_BYTES = 1024 * 1024  # of a schema's file; one that is longer is refused for its size in any case


def _setting(flag: str, metavar: str, help: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=help, show_default=False)


def _unbuilt(flag: str) -> Any:
    return typer.Option(flag, hidden=True)  # there to be refused by name


def _flag(spelled: str, help: str) -> Any:
    return typer.Option(spelled, help=help, show_default=False)


def show(
    queue: options.Queue, token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False
) -> None:
    """Print a queue's definition, each setting with where it comes from, and what the queue holds."""
    from redisq.cli.commands.stats import one
    from redisq.client import RedisQ

    with RedisQ(url) as mq:
        check_exists(mq, queue, token, "stats")
        own, held = mq.define(queue, token), mq.stats(queue, token).to_dict()
        definition = _explained(own, mq.settings)
    if as_json:
        output.document({"queue": queue, "definition": definition, "stats": held})
        return
    tables.show(_table(definition))
    if own.schema is not None:
        output.console().print_json(data=own.schema, highlight=False, ensure_ascii=True)
    tables.show(one(held))


def define(
    queue: options.Queue,
    max_length: Annotated[str | None, _setting("--max-length", "N", "Waiting messages at most; 0 is no limit.")] = None,
    max_bytes: Annotated[
        str | None, _setting("--max-bytes", "N", "Bytes of one request, and of one result, at most.")
    ] = None,
    max_attempts: Annotated[
        str | None, _setting("--max-attempts", "N", "Failed attempts after which a message is dead.")
    ] = None,
    max_lost: Annotated[
        str | None, _setting("--max-lost", "N", "Lapsed leases of its own fault after which it is dead.")
    ] = None,
    backoff_base: Annotated[
        str | None, _setting("--backoff-base", "SECONDS", "Longest wait after the first failure.")
    ] = None,
    backoff_cap: Annotated[str | None, _setting("--backoff-cap", "SECONDS", "Longest wait after any failure.")] = None,
    lease: Annotated[
        str | None, _setting("--lease", "SECONDS", "A worker's exclusive right to a message; it is renewed.")
    ] = None,
    retention: Annotated[
        str | None, _setting("--retention", "SECONDS", "How long finished messages can be looked up.")
    ] = None,
    dead_retention: Annotated[
        str | None, _setting("--dead-retention", "SECONDS", "How long dead letters are kept.")
    ] = None,
    dedup_window: Annotated[
        str | None, _setting("--dedup-window", "SECONDS", "How long the ids of messages are remembered.")
    ] = None,
    paused: Annotated[str | None, _setting("--paused", "true|false", "Whether workers claim nothing.")] = None,
    security: Annotated[
        str | None,
        _setting(
            "--security",
            "token|none",
            "Whether a gateway asks for a token; none lets anybody in where REDISQ_HTTP_OPEN_QUEUES names it.",
        ),
    ] = None,
    schema: Annotated[
        str | None, _setting("--schema", "FILE", "JSON Schema that requests have to fit; - reads it here.")
    ] = None,
    check_formats: Annotated[
        bool | None, _flag("--check-formats/--no-check-formats", "Whether the schema's format is checked, as it is.")
    ] = None,
    durability: Annotated[str | None, _unbuilt("--durability")] = None,
    partitions: Annotated[str | None, _unbuilt("--partitions")] = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Change settings of a queue for all services at once, and print what changes. The queue is made if need be.

    The value `default` goes back to the default.
    """
    from redisq.client import RedisQ
    from redisq.model.bounds import check_definition
    from redisq.store.queues import stored_setting

    given = {
        "max_length": max_length,
        "max_bytes": max_bytes,
        "max_attempts": max_attempts,
        "max_lost": max_lost,
        "backoff_base": backoff_base,
        "backoff_cap": backoff_cap,
        "lease": lease,
        "retention": retention,
        "dead_retention": dead_retention,
        "dedup_window": dedup_window,
        "paused": paused,
        "security": security,
        "schema": schema,
        "check_formats": check_formats,
        "durability": durability,
        "partitions": partitions,
    }
    changes = {name: _value(name, text) for name, text in given.items() if text is not None}
    if not changes:
        raise typer.BadParameter("Say what to change, for example --lease 60. `redisq queues show` prints what is set.")
    for name, value in check_definition(changes).items():
        stored_setting(name, value)
    with RedisQ(url) as mq:
        new = not exists(mq, queue, token)
        before = mq.define(queue, token)
        differing = {name: value for name, value in changes.items() if value != getattr(before, name)}
        if not as_json:
            with output.after("Nothing was changed."):
                output.text(_difference(queue, new, before, differing, mq.settings))
        changing = differing or new or "schema" in changes  # one that is damaged looks as if there were none
        after = mq.define(queue, token, **changes) if changing else before
        if as_json:
            changed = {name: {"before": getattr(before, name), "after": value} for name, value in differing.items()}
            definition = _explained(after, mq.settings)
            document = {"queue": queue, "created": new, "changes": changed, "definition": definition}
            output.show(True, document, "", done=f"{queue} is defined so now.")


def _value(name: str, text: str | bool) -> Any:
    """Read an option's value: None for the default, else what `RedisQ.define` takes; it checks the bounds."""
    from redisq.model.bounds import NOT_BUILT_YET
    from redisq.model.queue import Definition

    if isinstance(text, bool):
        return text
    if text == _DEFAULT:
        return None
    if name in NOT_BUILT_YET or name == "security":
        return text
    if name == "schema":
        return _schema(text)
    kind: Callable[[str], Any]
    if name == "paused":
        kind, wanted = {"true": True, "false": False}.__getitem__, "true or false"
    elif name in Definition.SECONDS:
        kind, wanted = float, "a number of seconds"
    else:
        kind, wanted = int, "a whole number"
    try:
        return kind(text)
    except (KeyError, ValueError):
        raise typer.BadParameter(f"--{_dashed(name)} takes {wanted}, or {_DEFAULT}.") from None


def _schema(source: str) -> Any:
    from redisq.cli import documents

    name = "standard input" if source == "-" else source
    try:
        raw = streams.read_stdin(_MOST_BYTES) if source == "-" else _head_of(source)
        return documents.read(raw)
    except OSError as error:
        raise output.CommandError(streams.unreadable(error, name)) from None
    except documents.Unreadable as error:
        raise output.CommandError(f"{name} {error}.") from None


def _head_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_BYTES)


def _explained(own: Definition, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return each setting's value in force, and whether it is the queue's own or the default of these settings."""
    return {
        name: {"value": _default(name, settings) if value is None else value, "own": value is not None}
        for name, value in asdict(own).items()
    }


def _default(name: str, settings: Settings) -> Any:
    return _NO_SETTING[name] if name in _NO_SETTING else getattr(settings, name)


def _difference(queue: str, new: bool, before: Definition, changes: Mapping[str, Any], settings: Settings) -> str:
    """Return what will change, a line for each setting."""
    if not changes and not new:
        return f"{queue} is defined so already."

    def shown(name: str, value: Any) -> str:
        return f"{_shown(name, _default(name, settings))} (default)" if value is None else _shown(name, value)

    lines = [f"{queue} is a new queue" if new else queue]
    for name, value in changes.items():
        lines.append(f"  {_dashed(name):<16}{shown(name, getattr(before, name))} -> {shown(name, value)}")
    return "\n".join(lines)


def _table(definition: Mapping[str, Mapping[str, Any]]) -> Table:
    table = tables.begun("setting", "value>", "from")
    for name, found in definition.items():
        source = "its own" if found["own"] else "default"
        table.add_row(_dashed(name), _shown(name, found["value"]), source)
    return table


def _shown(name: str, value: Any) -> str:
    from redisq.body.schema_cost import text_of
    from redisq.model.queue import Definition

    if name == "schema":
        return "none" if value is None else f"{len(text_of(value).encode()):,} bytes"
    if isinstance(value, bool):
        return "true" if value else "false"
    if name in Definition.SECONDS:
        return f"{value:,.3f}".rstrip("0").rstrip(".") + " s"
    if name == "max_length" and value == 0:
        return "no limit"
    if name == "security":
        return str(value)
    return f"{value:,}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")
