"""Values that are no message's own and are taken all the same: written as pydantic's JSON mode writes them.

They are pydantic models, dataclasses, UUID, Decimal, Enum and date. (A TypedDict is a dict.) Inside a model or a
dataclass everything is as JSON mode has it: bytes are UTF-8 text, datetimes ISO 8601 text, sets lists. Fields go by
their names, not by their aliases, unless the model's configuration says otherwise (`serialize_by_alias`).
"""

from __future__ import annotations

from dataclasses import is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

_OWN = (str, int, float, bytes, list, tuple, dict, datetime)  # a kind of these is none of the others, but for an Enum


class NotFinite(ValueError):
    """A Decimal is NaN or infinite."""


def is_taken(kind: type) -> bool:
    """Return whether values of a type can be written."""
    if issubclass(kind, Enum):
        return True
    return not issubclass(kind, _OWN) and (issubclass(kind, (BaseModel, UUID, Decimal, date)) or is_dataclass(kind))


def written(value: Any) -> Any:
    """Return what a value is written as. It may be anything when code of the user's had a hand in it.

    Raises:
        NotFinite: see there.
        Exception: pydantic, or code of the user's own, makes no JSON of it. The text may quote the value.
    """
    if issubclass(type(value), BaseModel):
        return value.model_dump(mode="json", warnings=False)  # which would quote the value
    if issubclass(type(value), Decimal) and not value.is_finite():
        raise NotFinite
    return to_jsonable_python(value, by_alias=False)
