"""A private server for development and tests.

Imports: errors, runtime. What it hands on is loaded on first use: the supervisor, a process of its own, needs
none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redisq.embedded.server import KINDS, Candidate, EmbeddedServer, candidates, shared, start

__all__ = ["KINDS", "Candidate", "EmbeddedServer", "candidates", "shared", "start"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("redisq.embedded.server"), name)
