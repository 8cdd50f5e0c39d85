"""A process of `redisq dev`: started again when it ends, for whatever reason, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import Process as Child
from collections.abc import AsyncIterator, Mapping, Sequence

from redisq.cli.dev.state import Journal, Process
from redisq.cli.processes import End, Keeper

_LONGEST_PIECE = 16_384  # bytes of a line without end
_HURRY = 8.0  # seconds from a second SIGTERM, at which a worker hands back at once, to SIGKILL
_SETTLED = 2.0  # seconds after which a process that could not start before counts as started
_LAST_WORDS = 1.0  # seconds to read what a process wrote before it ended; its own children may hold the pipe open


class Service(Keeper):
    """A worker's process, or the gateway's, kept. What it prints goes to the journal.

    `patience` is the time in seconds from SIGTERM to SIGKILL. `secrets` are variables that it has beside those of this
    process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        journal: Journal,
        patience: float,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(command)
        self._name = name
        self._journal = journal
        self._patience = patience
        self._secrets = secrets or {}
        self._state = "starting"
        self._starts = 0
        self._report = ""  # of a failed start, as long as no other start was asked for
        self._signals = 0  # sent to this child
        self._killer: asyncio.TimerHandle | None = None
        self._sink = -1  # what it prints to

    def shown(self) -> Process:
        """Return how it is doing."""
        return Process(self._name, self._state, self._child.pid if self._child else None, self._starts)

    async def run(self) -> int:
        """Keep a process running until `stop`."""
        code = await super().run()
        self._state = "ended"
        return code

    def restart(self) -> None:
        """Start anew at once, when the running process has handed back what it works on."""
        self._report = ""
        self._wake.set()
        if not self._signals:
            self._end("restarting")

    def stop(self) -> None:
        """Stop for good. Called again, the process hands back at once; a third time, it is killed."""
        if self._stopping or not self._signals:
            self._end("stopping")
        self._stopping = True
        self._wake.set()

    def _terminate(self) -> None:
        self._end("stopping")

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
        super()._terminate()
        patience = self._patience if self._signals == 1 else _HURRY
        self._killer = asyncio.get_running_loop().call_later(patience, self._kill)

    def _kill(self) -> None:
        if self._child is not None:
            self._journal.say(f"{self._name}: process {self._child.pid} does not end and is killed", "WARNING")
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    def _ended(self, end: End, pause: float) -> None:
        ending = str(end) if end.code < 0 else f"ended with {end}"
        if not end.report:
            self._journal.say(f"{self._name}: {ending}; starts again in {pause:.1f} s", "ERROR")
        elif end.report != self._report:
            self._journal.say(f"{self._name}: cannot start: {end.report}", "ERROR")
        self._state = f"cannot start: {end.report}" if end.report else f"{ending}, starts again"
        self._report = end.report

    async def _run_one(self) -> End:
        async with self._relayed() as self._sink:
            return await super()._run_one()

    async def _started(self, stdin: int) -> Child:
        with open(self._sink, "wb") as pipe:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=stdin,
                stdout=pipe,
                stderr=pipe,
                env={**os.environ, **self._secrets},
                start_new_session=True,
            )
        self._signals = 0
        self._starts += 1
        return child

    async def _waited_for(self, child: Child) -> int:
        """Wait for its end. After a failed start, it is announced only when it does better."""
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait({ended}, timeout=_SETTLED if self._report else 0)
            if not (ended.done() or self._signals):
                self._state = "running"
                self._journal.say(f"{self._name}: started, process {child.pid}")
            return await ended
        finally:
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
