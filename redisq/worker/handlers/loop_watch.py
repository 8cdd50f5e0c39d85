"""The thread that tells who keeps the event loop: while it is kept nothing else of the worker can say so."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from redisq.claims.identity import about
from redisq.runtime import logs

log = logs.logger("redisq.worker")

_LOOK_EVERY = 0.1  # seconds, while anything runs
_TOO_LONG = 1.0  # seconds that the loop may be kept
_TELL_AGAIN = 60.0  # seconds until the same handler is told of again
_MOST_FRAMES = 20
_MOST_TOLD = 1_000  # handlers, and functions of unknown tasks


class LoopWatch(threading.Thread):
    """Looks whether the loop goes round, as long as there are tasks of handlers on it.

    When there were none at two looks it sleeps without end, and costs nothing: so handlers that return at once do not
    wake it each time. It tells of files, lines and functions, and of nothing that a message holds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, worker: str) -> None:
        super().__init__(name="redisq-loop-watch", daemon=True)
        self._loop = loop
        self._worker = worker
        self._loops_thread = threading.get_ident()
        self._watched: list[tuple[str, Mapping[Any, asyncio.Task[Any]]]] = []
        self._told: dict[str, float] = {}
        self._asleep = False
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._answered = threading.Event()

    def over(self, name: str, tasks: Mapping[Any, asyncio.Task[Any]]) -> None:
        """Look after these tasks, too, which others add to and take from; `wake` when there are some."""
        self._watched = [*self._watched, (name, tasks)]

    def wake(self) -> None:
        """Begin to look: a task was started."""
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wake.set()

    def run(self) -> None:
        """Look until stopped."""
        while not self._ended.is_set():
            try:
                if self._is_busy():
                    if not self._is_alive():
                        return
                elif not self._ended.wait(_LOOK_EVERY):
                    self._sleep()
            except Exception:  # a fault of ours may end this watch; handlers go on
                log.exception("the event loop is not watched any more", extra=about(self._worker))
                return

    def _is_busy(self) -> bool:
        return any(tasks for _, tasks in self._watched)

    def _sleep(self) -> None:
        self._wake.clear()
        self._asleep = True
        if not self._is_busy() and not self._ended.is_set():  # else it was started just before
            self._wake.wait()
        self._asleep = False

    def _is_alive(self) -> bool:
        """Ask the loop for a sign, and tell who keeps it when none comes; False when the loop has ended."""
        self._answered.clear()
        asked = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answered.set)
        except RuntimeError:
            return False
        told = False
        while not self._ended.is_set() and not self._answered.wait(_LOOK_EVERY):
            if not told and time.monotonic() - asked >= _TOO_LONG:
                told = True
                self._tell()
        self._ended.wait(max(0.0, asked + _LOOK_EVERY - time.monotonic()))
        return True

    def _tell(self) -> None:
        frame, who, now = sys._current_frames().get(self._loops_thread), self._holder(), time.monotonic()
        if frame is None or now < self._told.get(who, -_TELL_AGAIN) + _TELL_AGAIN:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[who] = now
        text = "%s has held the event loop for more than %.0f s, and all that runs on it: %s"
        log.warning(text, who, _TOO_LONG, _stack(frame), extra=about(self._worker))

    def _holder(self) -> str:
        """Name the handler whose task runs now, or else the function of a task that it is not known whose it is."""
        task = asyncio.current_task(self._loop)
        for name, tasks in self._watched:
            if task in list(tasks.values()):
                return name
        function = getattr(task.get_coro(), "__qualname__", None) if task is not None else None
        return "a callback" if task is None else f"the task of {function}"


def _stack(frame: FrameType | None) -> str:
    """Write a stack, the innermost last: of a handler from its own function on."""
    lines: list[str] = []
    while frame is not None and len(lines) < _MOST_FRAMES:
        code = frame.f_code
        if lines and frame.f_globals.get("__name__") == "redisq.worker.handlers.runners":
            break
        lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " > ".join(reversed(lines))
