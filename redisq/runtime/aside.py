"""Work that would hold an event loop up, done in a thread beside it: one for each loop, so little competes with it.

It must not keep the interpreter's lock for long at a time: a thread that waits for it gets it after 5 ms, between two
steps of Python.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from redisq.runtime.per_loop import PerLoop

T = TypeVar("T")

_threads = PerLoop(lambda: ThreadPoolExecutor(1, thread_name_prefix="redisq-aside"))


async def aside(work: Callable[[], T]) -> T:
    """Do some work in the thread beside the running loop, after what was given to it before, and give its answer."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads.get(), contextvars.copy_context().run, work)
