"""Queues: how they stand (`stats.lua`), their definitions, their registry, and their end. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from redisq.body import schemas
from redisq.model.bounds import SECURITY
from redisq.model.queue import Definition, QueueStats, stored_number
from redisq.store import scripts
from redisq.store.call import BATCH, Argument, Call, Limits, call, milliseconds, periods
from redisq.store.keys import PartitionKeys
from redisq.store.reply import nothing, numbers, pairs, text


def stats(keys: PartitionKeys) -> Call[QueueStats]:
    """Count what one partition holds, and its running totals."""
    return call("stats", keys, (), partial(_read_stats, keys.queue))


def _read_stats(queue_name: str, reply: Sequence[Any]) -> QueueStats:
    ready, scheduled, in_progress, finished, dead, age, counters, paused, workers = reply
    totals = numbers(counters)
    return QueueStats(
        queue=queue_name,
        ready=ready,
        scheduled=scheduled,
        in_progress=in_progress,
        finished=finished,
        dead=dead,
        oldest_age=None if age < 0 else age / 1000,
        workers=workers,
        paused=paused == b"1",
        queued=totals.get("queued", 0),
        completed=totals.get("completed", 0),
        failed=totals.get("failed", 0),
        lost=totals.get("lost", 0),
        released=totals.get("released", 0),
        died=totals.get("dead", 0),
        unreadable=totals.get("unreadable", 0),
        deleted=totals.get("deleted", 0),
        redriven=totals.get("redriven", 0),
        cancelled=totals.get("cancelled", 0),
    )


def define(keys: PartitionKeys, limits: Limits, changes: Sequence[tuple[str, str]]) -> Call[dict[str, str]]:
    """Change a definition: names and stored values, "" to go back to a default. Gives the whole definition."""
    args: list[Argument] = [*periods(limits), *(part for change in changes for part in change)]
    return call("define", keys, args, pairs)


def stored_setting(name: str, value: Any) -> str:
    """Write a setting that `check_definition` let pass; "" goes back to the default.

    Raises:
        InvalidDefinition, InvalidSettings: it is a schema; see `schemas.compile`.
    """
    if value is None:
        return ""
    if name == "schema":
        return schemas.stored(value)
    if name in Definition.SECONDS:
        return str(milliseconds(value))
    if name == "security":
        return str(SECURITY.index(value))
    return str(int(value))


def read_definition(stored: Mapping[str, str]) -> Definition:
    """Read a definition; what is no number, written there by another program, counts as not set, as in scripts."""
    values: dict[str, Any] = {}
    for name, value in stored.items():
        if name == "paused":
            values[name] = value == "1"
        elif name == "check_formats":
            values[name] = {"0": False, "1": True}.get(value)
        elif name == "security":
            values[name] = dict(zip("01", SECURITY, strict=True)).get(value)
        elif name == "schema":
            values[name] = _object(value)
        elif name in Definition.__dataclass_fields__ and (number := stored_number(value)) is not None:
            values[name] = number / 1000 if name in Definition.SECONDS else number
    if (
        values.get("check_formats") is None
        and values.get("schema") is not None
        and not schemas.checks_formats(stored["schema"])
    ):
        values["check_formats"] = False  # a redisq stored it that did not check them
    return Definition(**values)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def schema(keys: PartitionKeys) -> Call[str | None]:
    """Read the schema of a queue's definition, as it is stored."""
    return Call(scripts.load("schema"), (keys.config,), (), text)


def purge(keys: PartitionKeys, limits: Limits) -> Call[int]:
    """Remove up to BATCH waiting messages. Gives how many: fewer than BATCH when none is left."""
    return call("purge", keys, (*periods(limits), BATCH), int)


def drop(keys: PartitionKeys) -> Call[None]:
    """Remove a queue with all that it holds."""
    return call("drop", keys, (), nothing)


def register(queues: str, queue_name: str, partitions: int) -> Call[int]:
    """Enter a queue in the registry. Gives its number of partitions."""
    return Call(scripts.load("register"), (queues,), (queue_name, partitions), int)


def unregister(queues: str, queue_name: str) -> Call[None]:
    """Take a queue off the registry."""
    return Call(scripts.load("unregister"), (queues,), (queue_name,), nothing)


def registry(queues: str) -> Call[dict[str, int]]:
    """List all queues with their numbers of partitions."""
    return Call(scripts.load("registry"), (queues,), (), numbers)
