"""Definitions of queues as they are stored, in both directions. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redisq.body import schemas
from redisq.model.bounds import SECURITY
from redisq.model.queue import Definition, stored_number
from redisq.store.calls import milliseconds


def stored(name: str, value: Any) -> str:
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


def read(stored: Mapping[str, str]) -> Definition:
    """Read a definition; what is no number, written there by another program, counts as not set, as in scripts."""
    values: dict[str, Any] = {}
    for name, text in stored.items():
        if name == "paused":
            values[name] = text == "1"
        elif name == "check_formats":
            values[name] = {"0": False, "1": True}.get(text)
        elif name == "security":
            values[name] = dict(zip("01", SECURITY, strict=True)).get(text)
        elif name == "schema":
            values[name] = _object(text)
        elif name in Definition.__dataclass_fields__ and (number := stored_number(text)) is not None:
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
