"""Carries the faults out, and writes down which process each hit, and when. One that is cut short is undone, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from redis.exceptions import ResponseError

from tests.chaos.processes import Keeper, RedisProcess
from tests.chaos.proxy import Door
from tests.chaos.schedule import Fault

_FLUSH_EVERY = 0.01  # seconds
FAULTS_FILE = "faults.jsonl"
#: No fault that the nemesis carries out: a worker notes it when one of its handlers keeps the loop.
LOOP_HELD = "loop_held"
#: Nor this: a worker notes where it dies that was told to.
DIED = "died in"
_GLANCE = 0.1
_PATIENCE = 15.0  # seconds for a worker to get as far as its death, or its first message


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A fault, in monotonic nanoseconds, and whom it befell: `worker-0.4711`, the link `worker-0.link`, or `redis`."""

    kind: str
    process: str
    began: int
    ended: int


def read(folder: Path) -> list[Occurrence]:
    """Read what `Nemesis` wrote down."""
    path = folder / FAULTS_FILE
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [Occurrence(**json.loads(line)) for line in lines]


def note(folder: Path, occurrence: Occurrence) -> None:
    """Write one down, as any process may."""
    with (folder / FAULTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(occurrence)) + "\n")


class Nemesis:
    """Hits Redis, the slots' processes and their doors."""

    def __init__(
        self, folder: Path, redis: RedisProcess, keepers: Mapping[str, Keeper], doors: Mapping[str, Door]
    ) -> None:
        self._folder = folder
        self._redis = redis
        self._keepers = keepers
        self._doors = doors
        self._kinds: dict[str, Callable[[Fault], Awaitable[object]]] = {
            "worker_kill": self._kill,
            "worker_stop": self._stop,
            "worker_nap": self._stop,
            "worker_term": self._terminate,
            "worker_failpoint": self._arm,
            "lifespan_kill": self._doom_lifespan,
            "middleware_kill": self._doom,
            "batch_kill": self._doom,
            "cancel_kill": self._doom,
            "client_kill": self._kill,
            "client_failpoint": self._arm,
            "redis_kill": self._kill_redis,
            "redis_stop": self._stop_redis,
            "redis_pause": self._pause_redis,
            "redis_full": self._fill_redis,
            "redis_rewrite": self._rewrite,
            "clients_cut": self._cut_clients,
            "scripts_flushed": self._flush_scripts,
            "link_drop": self._spoil(lambda door, fault: setattr(door, "drop_every", fault.amount)),
            "link_cut": self._spoil(lambda door, fault: setattr(door, "cut_every", fault.amount)),
            "link_hole": self._spoil(lambda door, fault: setattr(door, "hole", True)),
            "link_freeze": self._spoil(lambda door, fault: door.freeze()),
            "link_reset": self._spoil(lambda door, fault: door.reset()),
            "link_split": self._spoil(lambda door, fault: setattr(door, "split", True)),
            "link_delay": self._spoil(lambda door, fault: setattr(door, "delay", fault.amount / 1000)),
        }

    async def run(self, faults: Sequence[Fault], began: float) -> None:
        """Carry all out, each at its time after `began` (seconds of the monotonic clock); return when all are over."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                group.create_task(self._carry_out(fault), name=fault.kind)

    async def _carry_out(self, fault: Fault) -> None:
        await self._kinds[fault.kind](fault)

    def note(self, kind: str, process: str, began: int, ended: int) -> None:
        """Write a fault down."""
        note(self._folder, Occurrence(kind, process, began, ended))

    @asynccontextmanager
    async def _noted(self, fault: Fault, process: str) -> AsyncIterator[None]:
        began = time.monotonic_ns()
        try:
            yield
        finally:
            self.note(fault.kind, process, began, time.monotonic_ns())

    # --- Processes ---

    async def _kill(self, fault: Fault) -> None:
        await self._replace(fault, signal.SIGKILL)

    async def _terminate(self, fault: Fault) -> None:
        await self._replace(fault, signal.SIGTERM)

    async def _arm(self, fault: Fault) -> None:
        chance = random.Random(fault.at).randrange(10_000)
        spec = f"{fault.choice}:kill:{1 / fault.amount:.4f}:{chance}"
        number = signal.SIGTERM if fault.target.startswith("worker") else signal.SIGKILL
        await self._replace(fault, number, REDISQ_FAILPOINTS=spec)

    async def _doom(self, fault: Fault) -> str:
        """Replace a worker by one that dies in one of `amount` passes of a place in its own code; name the replaced."""
        return await self._replace(fault, signal.SIGTERM, CHAOS_DEATH=f"{fault.choice}:{fault.amount}")

    async def _doom_lifespan(self, fault: Fault) -> None:
        """Have one die while it opens its lifespan, and another while it closes that."""
        keeper, place = self._keepers[fault.target], f"{fault.choice}.start"
        await self._doom(replace(fault, choice=place))
        await _until(lambda: any(one.kind == f"{DIED} {place}" for one in read(self._folder)))
        before = await self._doom(replace(fault, choice=f"{fault.choice}.end"))
        await _until(lambda: keeper.name != before and self._has_begun(keeper.name))
        await self._replace(fault, signal.SIGTERM)

    def _has_begun(self, process: str) -> bool:
        history = self._folder / f"{process}.log"
        return history.exists() and history.stat().st_size > 0

    async def _replace(self, fault: Fault, number: signal.Signals, **once: str) -> str:
        keeper = self._keepers[fault.target]
        async with keeper.busy:
            began = time.monotonic_ns()
            process = await keeper.replace(number, **once)
            self.note(fault.kind, process, began, time.monotonic_ns())
            return process

    async def _stop(self, fault: Fault) -> None:
        keeper = self._keepers[fault.target]
        async with keeper.busy, self._noted(fault, keeper.name):
            keeper.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                keeper.signal(signal.SIGCONT)

    # --- Links ---

    def _spoil(self, how: Callable[[Door, Fault], object]) -> Callable[[Fault], Awaitable[None]]:
        async def spoil(fault: Fault) -> None:
            door = self._doors[fault.target]
            async with door.busy, self._noted(fault, f"{fault.target}.link"):
                how(door, fault)
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    door.heal()

        return spoil

    # --- Redis ---

    async def _kill_redis(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            await self._redis.kill()
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                await self._redis.start()

    async def _stop_redis(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            self._redis.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                self._redis.signal(signal.SIGCONT)

    async def _pause_redis(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            await self._command("CLIENT", "PAUSE", int(fault.seconds * 1000))
            await asyncio.sleep(fault.seconds)

    async def _fill_redis(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            await self._command("CONFIG", "SET", "maxmemory", 1)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                await self._command("CONFIG", "SET", "maxmemory", 0)

    async def _rewrite(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            with contextlib.suppress(ResponseError):  # an earlier one is still under way
                await self._command("BGREWRITEAOF")

    async def _cut_clients(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            await self._command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _flush_scripts(self, fault: Fault) -> None:
        async with self._redis.busy, self._noted(fault, "redis"):
            end = time.monotonic() + fault.seconds
            while time.monotonic() < end:
                await self._command("SCRIPT", "FLUSH")
                await asyncio.sleep(_FLUSH_EVERY)

    async def _command(self, *words: str | int) -> None:
        await self._redis.admin.execute_command(*words)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, or for long enough."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(_GLANCE)
