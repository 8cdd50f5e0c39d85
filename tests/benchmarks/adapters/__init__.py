"""What is measured: one module for each queue, run in an environment of its own.

A module gives

    put(message)    queues one message: a plain function or an `async def`
    setup()         if there is something to open first; plain or `async def`
    bulk(count)     if the queue has a call for many messages: queues that many; plain or `async def`

and what its worker's command (in `peers.py`) wants. Its handler calls `handled(message)` and returns `{"ok": True}`.
Each is set up as its own documentation suggests for speed, with results kept where it keeps them, for one worker
process: 100 at once with asyncio, else 8 threads.
"""

import os

#: The private server, which the benchmark empties before each measurement.
URL = os.environ.get("BENCH_URL", "")
#: What is queued, and how many at once where a queue takes many.
MESSAGE = {"hello": "world"}
BATCH = 500
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "100"))


def batches(count: int) -> list[int]:
    """Divide a number of messages into batches."""
    return [min(BATCH, count - first) for first in range(0, count, BATCH)]
