"""What the definition of a queue may say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from redisq.errors import InvalidDefinition
from redisq.model.queue import MAX_BYTES_CEILING, Definition

#: setting -> smallest and largest value. A year is the longest time: beyond it a slip of units is likelier than intent.
DEFINITION_BOUNDS: Mapping[str, tuple[float, float]] = {
    "max_length": (0, 10**12),
    "max_bytes": (1, MAX_BYTES_CEILING),
    "max_attempts": (1, 1_000_000),
    "max_lost": (1, 1_000_000),
    "backoff_base": (0, 31_536_000),
    "backoff_cap": (0, 31_536_000),
    "lease": (0.1, 86_400),
    "retention": (0, 31_536_000),
    "dead_retention": (0, 31_536_000),
    "dedup_window": (0, 31_536_000),
}
#: What `security` may say, stored as 0 and 1.
SECURITY = ("token", "none")
NOT_BUILT_YET = {
    "durability": "queueing waits for Redis' memory only",
    "partitions": "a queue has one partition",
}


def check_definition(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `changes` if each is a setting with a sound value; None goes back to the default.

    Raises:
        InvalidDefinition: an unknown setting, one that is not built yet, or a value out of its bounds.
    """
    names = {field.name for field in fields(Definition)}
    for name, value in changes.items():
        if name in NOT_BUILT_YET:
            raise InvalidDefinition(f"{name} cannot be set yet: {NOT_BUILT_YET[name]}.")
        if name not in names:
            raise InvalidDefinition(f"{name!r} is no setting of a queue. There are: {', '.join(sorted(names))}.")
        if value is not None:
            _check_setting(name, value)
    return dict(changes)


def _check_setting(name: str, value: Any) -> None:
    if name == "schema":
        if not isinstance(value, dict):
            raise InvalidDefinition("schema takes a JSON Schema, a dict.")
        return  # the rest is for `schemas`
    if name in ("paused", "check_formats"):
        if not isinstance(value, bool):
            raise InvalidDefinition(f"{name} takes true or false.")
        return
    if name == "security":
        if value not in SECURITY:
            raise InvalidDefinition("security takes token or none.")
        return
    low, high = DEFINITION_BOUNDS[name]
    wanted = (int, float) if name in Definition.SECONDS else int
    if isinstance(value, bool) or not isinstance(value, wanted) or not low <= value <= high:
        unit = "seconds" if name in Definition.SECONDS else "a whole number"
        raise InvalidDefinition(f"{name} takes {unit} from {low:,} to {high:,}.")
