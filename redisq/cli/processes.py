"""Keep processes running: start again those that die, stop them, learn from each why it cannot work at all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from asyncio.subprocess import Process as Child
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redisq.cli.output import CommandError
from redisq.runtime import logs, loops, process

log = logs.logger("redisq.processes")

_LONGEST_REPORT = 10_000  # bytes
_FIRST_RESTART, _LONGEST_RESTART = 0.5, 30.0  # seconds
_STABLE = 10.0  # seconds after which a process counts as healthy


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended; `report` says why it could not work at all, and is "" where it did not."""

    code: int
    report: str

    def __str__(self) -> str:
        return f"killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"exit code {self.code}"

    @property
    def exit_code(self) -> int:
        """The exit code as a shell has it: 128 + the signal that killed the process."""
        return 128 - self.code if self.code < 0 else self.code


class Keeper:
    """Keeps one process running, in a session of its own, so that a terminal's signals come to us alone.

    Its stdin is one end of a socket: it ends when ours closes, even if we are killed, and reports there why it cannot
    work at all (see `redisq.cli.lifeline`). When it has ended it is started again, at once after a stable life, else
    after a pause that grows.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._child: Child | None = None
        self._stopping = False
        self._wake = asyncio.Event()  # to stop, or to start again at once

    async def run(self) -> int:
        """Keep a process running until `stop`, or until one was the last; return its exit code, 0 if it was stopped."""
        crashes = 0
        while not self._stopping:
            self._wake.clear()
            began = time.monotonic()
            end = await self._run_one()
            if self._stopping and end.code == -signal.SIGTERM:  # before it had begun to work
                return 0
            if self._stopping or self._was_last(end):
                return end.exit_code
            if self._wake.is_set():
                crashes = 0
                continue
            crashes = crashes + 1 if time.monotonic() - began < _STABLE else 0
            pause = min(_LONGEST_RESTART, _FIRST_RESTART * 2 ** min(crashes, 10)) if crashes else 0.0
            self._ended(end, pause)
            await self._woken_within(pause)
        return 0

    def stop(self) -> None:
        """Stop for good. Each further time, the process gets one more SIGTERM: Ctrl-C would interrupt its start."""
        self._stopping = True
        self._wake.set()
        self._terminate()

    def _was_last(self, end: End) -> bool:  # noqa: ARG002
        """Return whether no other process is started after this one."""
        return False

    def _ended(self, end: End, pause: float) -> None:
        """Tell that a process ended, and that the next one starts after a pause."""

    async def _run_one(self) -> End:
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs:
                    self._child = await self._started(theirs.fileno())
            except OSError as error:
                return End(1, f"no process can be started: {error.strerror}")
            if self._wake.is_set():  # while it was being started
                self._terminate()
            try:
                code = await self._waited_for(self._child)
            finally:
                self._child = None
            ours.setblocking(False)
            with contextlib.suppress(OSError):
                return End(code, ours.recv(_LONGEST_REPORT).decode(errors="replace"))
        return End(code, "")

    async def _started(self, stdin: int) -> Child:
        return await asyncio.create_subprocess_exec(*self._command, stdin=stdin, start_new_session=True)

    async def _waited_for(self, child: Child) -> int:
        return await child.wait()

    def _terminate(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()

    async def _woken_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


class Processes:
    """Some processes of one command. One that cannot work when it is first started ends the whole."""

    def __init__(self, command: Sequence[str], count: int, *, restart: bool) -> None:
        self._keepers = [_Worker(command, self._fail, restart=restart) for _ in range(count)]
        self._report = ""

    def run(self) -> int:
        """Run until all processes have ended, after a signal or by themselves; give the first exit code not 0.

        Raises:
            CommandError: a process reported that it cannot work.
        """
        return loops.run(self._run())

    async def _run(self) -> int:
        with process.catching(lambda _: self._stop(), asyncio.get_running_loop()):
            log.info("starting %d processes", len(self._keepers))
            codes = await asyncio.gather(*(keeper.run() for keeper in self._keepers))
        if self._report:
            raise CommandError(self._report)
        log.info("all processes have ended")
        return next((code for code in codes if code), 0)

    def _stop(self) -> None:
        for keeper in self._keepers:
            keeper.stop()

    def _fail(self, report: str) -> None:
        """End all of them: one cannot work."""
        self._report = self._report or report
        self._stop()


class _Worker(Keeper):
    def __init__(self, command: Sequence[str], fail: Callable[[str], None], *, restart: bool) -> None:
        super().__init__(command)
        self._fail = fail
        self._restart = restart
        self._first = True

    def _was_last(self, end: End) -> bool:
        first, self._first = self._first, False
        if first and end.report:
            self._fail(end.report)
            return True
        return not self._restart

    def _ended(self, end: End, pause: float) -> None:
        log.warning("a process ended (%s); the next starts in %.1f s", end.report or end, pause)
