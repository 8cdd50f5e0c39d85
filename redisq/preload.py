"""What a process that runs for long reads at its start: all that it, and what its handlers call of redisq, may need.

A file that is first read hours later may be missing by then, as after an upgrade in place, or be newer than the code
beside it; or it cannot be opened, as descriptors are used up. A client alone, which may live for a moment, reads things
when it first needs them.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

import redisq
from redisq.store import scripts

#: What is imported for a rare case, or where it is installed.
RARE = ("difflib", "ipaddress", "jsonschema_rs", "redisq.body.typed", "redisq.tokens.networks", "redisq.runtime.extras")


def read_all() -> None:
    """Read all scripts, and import what lies behind the public names and for rare cases."""
    scripts.read_all()
    for name in redisq.__all__:
        getattr(redisq, name)
    for name in RARE:
        with suppress(ImportError):  # it belongs to an extra
            importlib.import_module(name)
