"""Show and change queues' definitions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import clients, options, output, streams, tables

if TYPE_CHECKING:
    from rich.table import Table

    from redisq.model.queue import Definition
    from redisq.settings import Settings

_NO_SETTING = {"paused": False, "security": "token", "schema": None, "check_formats": True}  # what is not in `Settings`
_DEFAULT = "default"  # as a value: take the setting out of the definition
_MOST_BYTES = 1024 * 1024  # of a schema's file; one that is longer is refused for its size in any case


def show(
    queue: options.Queue, token: options.Token = None, url: options.Url = None, as_json: options.AsJson = False
) -> None:
    """Print a queue's definition, each setting with where it comes from, and what the queue holds."""
    from redisq.cli.commands.stats import one

    with clients.opened(url, queue, token, op="stats") as mq:
        own, held = mq.define(queue, token), mq.stats(queue, token).to_dict()
        definition = _explained(own, mq.settings)
    if as_json:
        output.document({"queue": queue, "definition": definition, "stats": held})
        return
    tables.show(_table(definition))
    if own.schema is not None:
        output.console().print_json(data=own.schema, highlight=False, ensure_ascii=True)
    tables.show(one(held))


MaxLength = Annotated[str | None, options.valued("--max-length", "N", "Waiting messages at most; 0 is no limit.")]
MaxBytes = Annotated[
    str | None, options.valued("--max-bytes", "N", "Bytes of one request, and of one result, at most.")
]
MaxAttempts = Annotated[
    str | None, options.valued("--max-attempts", "N", "Failed attempts after which a message is dead.")
]
MaxLost = Annotated[
    str | None, options.valued("--max-lost", "N", "Lapsed leases of its own fault after which it is dead.")
]
BackoffBase = Annotated[
    str | None, options.valued("--backoff-base", "SECONDS", "Longest wait after the first failure.")
]
BackoffCap = Annotated[str | None, options.valued("--backoff-cap", "SECONDS", "Longest wait after any failure.")]
Lease = Annotated[
    str | None, options.valued("--lease", "SECONDS", "A worker's exclusive right to a message; it is renewed.")
]
Retention = Annotated[
    str | None, options.valued("--retention", "SECONDS", "How long finished messages can be looked up.")
]
DeadRetention = Annotated[str | None, options.valued("--dead-retention", "SECONDS", "How long dead letters are kept.")]
DedupWindow = Annotated[
    str | None, options.valued("--dedup-window", "SECONDS", "How long the ids of messages are remembered.")
]
Paused = Annotated[str | None, options.valued("--paused", "true|false", "Whether workers claim nothing.")]
Security = Annotated[
    str | None,
    options.valued(
        "--security",
        "token|none",
        "Whether a gateway asks for a token; none lets anybody in where REDISQ_HTTP_OPEN_QUEUES names it.",
    ),
]
Schema = Annotated[
    str | None, options.valued("--schema", "FILE", "JSON Schema that requests have to fit; - reads it here.")
]
CheckFormats = Annotated[
    bool | None,
    typer.Option("--check-formats/--no-check-formats", help="Whether the schema's format is checked, as it is."),
]
#: Settings that are there to be refused by name.
Durability = Annotated[str | None, typer.Option("--durability", hidden=True)]
Partitions = Annotated[str | None, typer.Option("--partitions", hidden=True)]


def define(
    queue: options.Queue,
    max_length: MaxLength = None,
    max_bytes: MaxBytes = None,
    max_attempts: MaxAttempts = None,
    max_lost: MaxLost = None,
    backoff_base: BackoffBase = None,
    backoff_cap: BackoffCap = None,
    lease: Lease = None,
    retention: Retention = None,
    dead_retention: DeadRetention = None,
    dedup_window: DedupWindow = None,
    paused: Paused = None,
    security: Security = None,
    schema: Schema = None,
    check_formats: CheckFormats = None,
    durability: Durability = None,
    partitions: Partitions = None,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Change settings of a queue for all services at once, and print what changes. The queue is made if need be.

    The value `default` goes back to the default.
    """
    changes = _read(locals())
    if not changes:
        raise typer.BadParameter("Say what to change, for example --lease 60. `redisq queues show` prints what is set.")
    with clients.opened(url) as mq:
        new = not clients.exists(mq, queue, token)
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


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read those of the arguments of `define` that are settings, and check their bounds."""
    from redisq.model.bounds import NOT_BUILT_YET, check_definition
    from redisq.model.queue import Definition
    from redisq.store.queues import stored_setting

    settings = {*NOT_BUILT_YET, *(field.name for field in fields(Definition))}
    changes = {name: _value(name, text) for name, text in given.items() if name in settings and text is not None}
    for name, value in check_definition(changes).items():
        stored_setting(name, value)
    return changes


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
    rows = [
        (_dashed(name), _shown(name, found["value"]), "its own" if found["own"] else "default")
        for name, found in definition.items()
    ]
    return tables.begun("setting", "value>", "from", rows=rows)


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
