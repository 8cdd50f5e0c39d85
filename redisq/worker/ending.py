"""What asks a worker to stop, whenever and from wherever that comes, and with which exit code it ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress


class Ending:
    """The end of one run after the other. Between runs, `loop` is None."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.exit_code = 0
        self.signalled_at: float | None = None  # by the monotonic clock
        self._asked: list[None] = []  # one for each time: appending is safe from any thread and in a signal handler

    def begin(self) -> None:
        """Begin a run on the loop that runs; what was asked before counts."""
        self.loop = asyncio.get_running_loop()
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self.exit_code, self.signalled_at = 0, None
        self._heed()

    def ended(self) -> None:
        """Take note that the run has ended."""
        self.loop = None
        self._asked.clear()

    def ask(self) -> None:
        """Stop; the second time, in a hurry. From any thread, or a signal handler."""
        self._asked.append(None)
        loop = self.loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._heed)

    def join(self, other: Ending) -> None:
        """Take over what another one was asked for before its run."""
        self._asked += other._asked

    def _heed(self) -> None:
        if self._asked:
            self.stop.set()
        if len(self._asked) > 1:
            self.hurry.set()

    def note_signal(self) -> None:
        """Take note of when the first signal came, also while a handler keeps the loop."""
        self.signalled_at = self.signalled_at or time.monotonic()

    def give_up(self) -> None:
        """End with exit code 1, unless the worker ends already. From the loop's thread."""
        if not self.stop.is_set():
            self.fail()

    def fail(self) -> None:
        """End with exit code 1, also when the worker ends already. From the loop's thread."""
        self.exit_code = 1
        self.stop.set()
