"""The header fields of a request, by their names: gone through once for a request, not once for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

_BY_NAME = "redisq.fields"  # in the scope


def values(scope: Scope, name: bytes) -> Sequence[bytes]:
    """Return the values of all header fields of a name, in lower case, in their order."""
    by_name: dict[bytes, list[bytes]] | None = scope.get(_BY_NAME)
    if by_name is None:
        by_name = scope[_BY_NAME] = {}
        for known, value in scope["headers"]:
            by_name.setdefault(known, []).append(value)
    return by_name.get(name, ())


def credentials(value: bytes) -> tuple[bytes, bytes]:
    """Return the scheme of an Authorization field, in lower case, and what follows it after one space or several."""
    scheme, _, rest = value.partition(b" ")
    return scheme.lower(), rest.lstrip(b" ")
