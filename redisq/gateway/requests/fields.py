"""The header fields of a request, by their names: gone through once for a request, not once for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

_BY_NAME = "redisq.fields"  # in the scope


def values(scope: Scope, name: bytes) -> Sequence[bytes]:
    """Return the values of all header fields of a name, in lower case, in their order."""
    return _by_name(scope).get(name, ())


def under(scope: Scope, prefix: bytes) -> dict[bytes, list[bytes]]:
    """Return the values of all header fields whose names begin with a prefix, by the rest in lower case."""
    found = _by_name(scope).items()
    return {name[len(prefix) :]: values for name, values in found if name.startswith(prefix)}


def _by_name(scope: Scope) -> dict[bytes, list[bytes]]:
    by_name: dict[bytes, list[bytes]] | None = scope.get(_BY_NAME)
    if by_name is None:
        by_name = scope[_BY_NAME] = {}
        for known, value in scope["headers"]:
            by_name.setdefault(known, []).append(value)
    return by_name


def credentials(value: bytes) -> tuple[bytes, bytes]:
    """Return the scheme of an Authorization field, in lower case, and what follows it after one space or several."""
    scheme, _, rest = value.partition(b" ")
    return scheme.lower(), rest.lstrip(b" ")
