"""Worker processes for development: started again when they end, for whatever reason, until they are told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from asyncio.subprocess import Process as Child
from collections.abc import AsyncIterator, Mapping, Sequence

from redisq.cli.dev.state import Journal, Process
from redisq.cli.processes import restart_after

_LONGEST_PIECE = 16_384  # bytes of a line without end
_LONGEST_REPORT = 10_000  # bytes
_HURRY = 8.0  # seconds from a second SIGTERM, at which a worker hands back at once, to SIGKILL
_SETTLED = 2.0  # seconds after which a process that could not start before counts as started
_LAST_WORDS = 1.0  # seconds to read what a process wrote before it ended; its own children may hold the pipe open


class Member:
    """One worker process in a session of its own, so that a terminal's signals come to us alone.

    Its stdin is one end of a socket: it ends when ours closes, even if we are killed, and reports there why it cannot
    work at all. What it prints goes to the journal. `patience` is the time in seconds from SIGTERM to SIGKILL.
    `secrets` are variables that it has beside those of this process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        journal: Journal,
        patience: float,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._command = command
        self._journal = journal
        self._patience = patience
        self._secrets = secrets or {}
        self._state = "starting"
        self._starts = 0
        self._child: Child | None = None
        self._signals = 0  # sent to this child
        self._killer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._wake = asyncio.Event()  # to stop, or to start again at once

    def shown(self) -> Process:
        """Return how it is doing."""
        return Process(self._name, self._state, self._child.pid if self._child else None, self._starts)

    async def run(self) -> None:
        """Keep a process running until `stop`."""
        crashes, report = 0, ""
        while not self._stopping:
            self._wake.clear()
            began = time.monotonic()
            code, said = await self._run_one(quietly=bool(report))
            if self._stopping:
                break
            if self._wake.is_set():
                crashes, report = 0, ""
                continue
            pause = restart_after(crashes + 1, time.monotonic() - began)
            crashes = crashes + 1 if pause else 0
            if not said or said != report:
                self._tell(code, said, pause)
            self._state = f"cannot start: {said}" if said else f"{_ending(code)}, starts again"
            report = "" if await self._woken_within(pause) else said
        self._state = "ended"

    def restart(self) -> None:
        """Start anew at once, when the running process has handed back what it works on."""
        self._wake.set()
        if not self._signals:
            self._end("restarting")

    def stop(self) -> None:
        """Stop for good. Called again, the process hands back at once; a third time, it is killed."""
        if self._stopping or not self._signals:
            self._end("stopping")
        self._stopping = True
        self._wake.set()

    def _end(self, state: str) -> None:
        if self._child is None:
            return
        self._state = state
        self._signals += 1
        if self._killer:
            self._killer.cancel()
        if self._signals > 2:
            self._kill()
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        patience = self._patience if self._signals == 1 else _HURRY
        self._killer = asyncio.get_running_loop().call_later(patience, self._kill)

    def _kill(self) -> None:
        if self._child is not None:
            self._journal.say(f"{self._name}: process {self._child.pid} does not end and is killed", "WARNING")
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def _run_one(self, quietly: bool) -> tuple[int, str]:
        """Run one process to its end; give its exit code, and its report if it made one.

        After a failed start, it is announced only when it does better.
        """
        ours, theirs = socket.socketpair()
        with ours:
            async with self._relayed() as output:
                try:
                    with theirs, open(output, "wb") as pipe:
                        child = await asyncio.create_subprocess_exec(
                            *self._command,
                            stdin=theirs.fileno(),
                            stdout=pipe,
                            stderr=pipe,
                            env={**os.environ, **self._secrets},
                            start_new_session=True,
                        )
                except OSError as error:
                    return 1, f"no process can be started: {error.strerror}"
                code = await self._watch(child, quietly)
            ours.setblocking(False)
            with contextlib.suppress(OSError):
                return code, ours.recv(_LONGEST_REPORT).decode(errors="replace")
        return code, ""

    async def _watch(self, child: Child, quietly: bool) -> int:
        self._child, self._signals = child, 0
        self._starts += 1
        if self._stopping or self._wake.is_set():  # while it was being started
            self._end("stopping")
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait({ended}, timeout=_SETTLED if quietly else 0)
            if not (ended.done() or self._signals):
                self._state = "running"
                self._journal.say(f"{self._name}: started, process {child.pid}")
            return await ended
        finally:
            self._child = None
            if self._killer:
                self._killer.cancel()

    @contextlib.asynccontextmanager
    async def _relayed(self) -> AsyncIterator[int]:
        """Give a pipe's end to write to, which the child takes; what comes out of the other goes to the journal."""
        source, sink = os.pipe()
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(source, "rb", 0)
        )
        relay = asyncio.create_task(self._relay(stream))
        try:
            yield sink
        finally:
            await asyncio.wait({relay}, timeout=_LAST_WORDS)
            relay.cancel()
            transport.close()

    async def _relay(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(_LONGEST_PIECE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_PIECE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._journal.relay(self._name, line.decode(errors="replace").rstrip())
        if rest:
            self._journal.relay(self._name, rest.decode(errors="replace"))

    def _tell(self, code: int, report: str, pause: float) -> None:
        what = f"cannot start: {report}" if report else f"{_ending(code)}; starts again in {pause:.1f} s"
        self._journal.say(f"{self._name}: {what}", "ERROR")

    async def _woken_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        return self._wake.is_set()


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
