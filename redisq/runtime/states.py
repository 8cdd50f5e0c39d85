"""States with names: a table says which may follow which, and why.

Modules have names of their own for the members, `ONE, OTHER = State`: up to Python 3.11 a member that is looked up in
its class costs a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)

#: For each state those that may follow it, and what makes them follow.
Table = Mapping[S, Mapping[S, str]]


def follow(table: Table[S], before: S, after: S) -> S:
    """Return the state `after`.

    Raises:
        RuntimeError: it may not follow the one `before`: a fault of ours.
    """
    if after not in table[before]:
        raise RuntimeError(f"{type(before).__name__} {before.name} does not lead to {after.name}")
    return after
