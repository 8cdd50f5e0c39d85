"""Keep worker processes running: pass signals on, start again those that die, end with all of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Sequence

from redisq.cli.output import CommandError
from redisq.runtime import logs, loops, process

log = logs.logger("redisq.processes")

_LONGEST_REPORT = 10_000  # bytes
_FIRST_RESTART, _LONGEST_RESTART = 0.5, 30.0  # seconds
_STABLE = 10.0  # seconds after which a process counts as healthy


def restart_after(crashes: int, lived: float) -> float:
    """Return how long to wait before a process is started again; `crashes` in a row, the last lived `lived` seconds."""
    if lived >= _STABLE:
        return 0.0
    return float(min(_LONGEST_RESTART, _FIRST_RESTART * 2 ** min(crashes, 10)))


class Processes:
    """Some processes of one command, each in a session of its own, so that a terminal's signals come to us alone.

    Each has one end of a socket as its stdin: it ends when ours closes, even if we are killed, and it can report there
    why it cannot work at all. A process that does so when it is first started ends the whole; one that dies otherwise
    is started again, at once after a stable life, else after a pause that grows.
    """

    def __init__(self, command: Sequence[str], count: int, *, restart: bool) -> None:
        self._command = command
        self._count = count
        self._restart = restart
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()
        self._report: str | None = None

    def run(self) -> int:
        """Run until all processes have ended, after a signal or by themselves; give the first exit code not 0.

        Raises:
            CommandError: a process reported that it cannot work.
        """
        return loops.run(self._run())

    async def _run(self) -> int:
        with process.catching(lambda _: self._stop(), asyncio.get_running_loop()):
            log.info("starting %d processes", self._count)
            codes = await asyncio.gather(*(self._keep() for _ in range(self._count)))
        if self._report is not None:
            raise CommandError(self._report)
        log.info("all processes have ended")
        return next((code for code in codes if code), 0)

    def _stop(self) -> None:
        """Stop all; each further time, pass on one more signal. SIGTERM, as Ctrl-C would interrupt their start."""
        self._stopping.set()
        for child in self._running:
            _terminate(child)

    async def _keep(self) -> int:
        """Run one process, again and again if it dies, and give its last exit code."""
        crashes, first = 0, True
        while True:
            began = time.monotonic()
            code, report = await self._run_one()
            if self._stopping.is_set():
                return 0 if code == -signal.SIGTERM else _exit_code(code)  # stopped before it had begun to work
            if report and first:
                self._report = self._report or report
                self._stop()
            if (report and first) or not self._restart:
                return _exit_code(code)
            first = False
            pause = restart_after(crashes + 1, time.monotonic() - began)
            crashes = crashes + 1 if pause else 0
            log.warning("a process ended (%s); the next starts in %.1f s", report or _ending(code), pause)
            if await self._stopped_within(pause):
                return 0

    async def _run_one(self) -> tuple[int, str]:
        """Run one process to its end; give its exit code, and its report if it made one."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = await asyncio.create_subprocess_exec(
                    *self._command, stdin=theirs.fileno(), start_new_session=True
                )
            self._running.add(child)
            if self._stopping.is_set():  # while it was being started
                _terminate(child)
            try:
                code = await child.wait()
            finally:
                self._running.discard(child)
            ours.setblocking(False)
            with contextlib.suppress(OSError):
                return code, ours.recv(_LONGEST_REPORT).decode(errors="replace")
        return code, ""

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()


def _terminate(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()


def _exit_code(code: int) -> int:
    """Return an exit code as a shell does: 128 + the signal that killed the process."""
    return 128 - code if code < 0 else code


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
