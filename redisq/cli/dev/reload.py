"""Notice changes of Python files. Its library comes with the extra `cli`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import PythonFilter, awatch

from redisq.cli.dev.folder import NAME

# Redis writes to its data below the folder all the time, and what comes along holds up an answer for so long at most.
_DEBOUNCE = 300  # milliseconds


class _Sources(PythonFilter):
    """Python files of the project, not those that were installed into it."""

    ignore_dirs = (*PythonFilter.ignore_dirs, NAME, "venv", "site-packages")


async def changes(project: Path, stopping: asyncio.Event) -> AsyncIterator[list[str]]:
    """Return the names of the files that have changed, each time some have, until `stopping`.

    Raises:
        OSError, RuntimeError: the system does not tell of changes.
    """
    async for found in awatch(project, watch_filter=_Sources(), debounce=_DEBOUNCE, stop_event=stopping):
        yield sorted({str(Path(name).relative_to(project)) for _, name in found})
