"""The processes of a run: one Redis that is killed and started again on its data, workers and clients that come back.

Whatever happens to the harness, Linux ends them with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import redis.asyncio as redis

from tests.support.servers import append_only

ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0  # seconds for Redis to load its data
_LAST_PATIENCE = 30.0  # seconds for a process to end after SIGTERM
#: The environment without redisq's variables.
_OTHERS = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
_BREATH = 0.2  # seconds before a process that ended is started again


def end_with_parent() -> None:
    """Have Linux kill this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


async def _start(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the harness alone
            preexec_fn=end_with_parent,
        )


class RedisProcess:
    """A Redis on a unix socket in `folder`, with an append-only file. An async context manager."""

    def __init__(self, binary: str, folder: Path, appendfsync: str) -> None:
        self._binary = binary
        self._folder = folder
        self._appendfsync = appendfsync
        self._process: asyncio.subprocess.Process | None = None
        self.socket = str(folder / "s")
        self.url = f"unix://{self.socket}"
        self.admin = redis.Redis.from_url(self.url, protocol=2, socket_timeout=10)
        #: held by whoever stops, kills or fills it: one at a time
        self.busy = asyncio.Lock()

    async def start(self) -> None:
        """Start it and wait until it has loaded its data, and its file is sound."""
        settings = {
            "port": "0",
            "unixsocket": self.socket,
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        log = self._folder / "redis.out"
        said = log.stat().st_size if log.exists() else 0
        self._process = await _start([self._binary, *options], log)
        async with asyncio.timeout(_PATIENCE):
            while not await self._answers():
                assert self._process.returncode is None, f"Redis has ended: {self.log()[-500:]}"
                await asyncio.sleep(0.02)
        await asyncio.to_thread(append_only.mend, self.url, log, said)

    async def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(await self.admin.ping())
        return False

    async def kill(self) -> None:
        """Kill it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def log(self) -> str:
        """What it said."""
        return (self._folder / "redis.out").read_text("utf-8", "replace")

    async def __aenter__(self) -> RedisProcess:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.admin.aclose()
        await self.kill()


class Keeper:
    """Keeps one slot filled with a process of `module`: starts the next when one ends, until it is told to stop.

    `ended` is called with the process' name and how it ended, unless this harness had asked for it. A process that ends
    with 0 unasked has done its work and has no successor.
    """

    def __init__(
        self, slot: str, module: str, log: Path, environment: Mapping[str, str], ended: Callable[[str, int], None]
    ) -> None:
        self.slot = slot
        self._module = module
        self._log = log
        self._environment = environment
        self._ended = ended
        self._once: dict[str, str] = {}
        self._asked = False
        self._stopping = False
        self._started = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.task = asyncio.create_task(self._keep())
        #: held by whoever stops or ends it: one at a time
        self.busy = asyncio.Lock()

    @property
    def name(self) -> str:
        """The present process, as its history's file is named; the last one, when there is none."""
        return f"{self.slot}.{self.process.pid if self.process else 0}"

    @property
    def done(self) -> bool:
        """Whether it has done its work."""
        return self.task.done()

    async def _keep(self) -> None:
        while not self._stopping:
            environment = {**_OTHERS, **self._environment, **self._once}
            self._asked, self._once = False, {}
            process = await _start([sys.executable, "-m", self._module], self._log, environment)
            self.process = process
            self._started.set()
            code = await process.wait()
            self._started.clear()
            if not self._asked:
                self._ended(self.name, code)
                if code == 0:
                    return
            if not self._stopping:
                await asyncio.sleep(_BREATH)

    def signal(self, number: signal.Signals) -> bool:
        """Send the present process a signal; False: there is none."""
        if not self._started.is_set():
            return False
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return True

    async def replace(self, number: signal.Signals, **once: str) -> str:
        """End the present process by a signal and return its name once it has ended; `once` is for its successor."""
        if self.done:
            return self.name
        await self._started.wait()
        name, process = self.name, self.process
        assert process is not None
        self._once, self._asked = once, True
        self.signal(number)
        try:
            async with asyncio.timeout(_LAST_PATIENCE):
                await process.wait()
        except TimeoutError:
            self._ended(name, -1)  # it will not end
            process.kill()
            await process.wait()
        return name

    async def end(self, number: signal.Signals) -> int:
        """End the slot and give the last process' exit code."""
        self._stopping = True
        while not self.done:
            if self._started.is_set():
                self.signal(signal.SIGCONT)
                await self.replace(number)
            await asyncio.wait((self.task,), timeout=_BREATH)  # or one is just being started
        await self.task
        return self.process.returncode or 0 if self.process else 0
