"""One round: a fresh Redis, workers, clients and faults; then everything heals, drains, is looked at and judged."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from redisq import QueueStats, RedisQ, Settings, Unavailable
from tests.chaos import audit
from tests.chaos.checker import Faults, Judge
from tests.chaos.history import by_message
from tests.chaos.messages import LEASE, MAX_ATTEMPTS, QUEUES
from tests.chaos.nemesis import DIED, Nemesis, read
from tests.chaos.part import Part
from tests.chaos.processes import ROOT, Keeper, RedisProcess
from tests.chaos.proxy import Door
from tests.chaos.report import Report, longest_recovery
from tests.chaos.schedule import CLIENTS, KINDS, WORKERS, Plan

NAMESPACE = "chaos"
PATIENCE = 90.0
EXAMINED_EVERY = 10.0  # seconds
_SHOWN = 5  # findings of one examination
_STUCK = 1  # how a worker ends when too many plain handlers hang: its supervisor starts another

ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "REDISQ_NAMESPACE": NAMESPACE,
    "REDISQ_AUTH": "none",
    "REDISQ_LEASE": str(LEASE),
    "REDISQ_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "REDISQ_BACKOFF_BASE": "0.1",
    "REDISQ_BACKOFF_CAP": "1",
    "REDISQ_COMMAND_TIMEOUT": "1",
    "REDISQ_CONNECT_TIMEOUT": "1",
    "REDISQ_GRACE": "3",
    "REDISQ_LOG_ERRORS": "type",  # handlers' tracebacks stay out, so that what is logged is of redisq's own faults
}
#: Seconds that each client tries again by itself before it gives a call up.
RETRY_DEADLINES = dict(zip(CLIENTS, ("10", "10", "0.5"), strict=True))
STYLES = dict(zip(CLIENTS, ("asyncio", "threads", "uvloop"), strict=True))


class Round:
    """A round under way. `folder` gets the histories, the processes' outputs and the faults.

    One that does not drain is given up after `patience` seconds without any progress.
    """

    def __init__(self, plan: Plan, folder: Path, patience: float = PATIENCE) -> None:
        self._plan = plan
        self._folder = folder
        self._patience = patience
        self._complaints: list[str] = []
        self._keepers: dict[str, Keeper] = {}
        self._doors: dict[str, Door] = {}
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """End the load now, and judge what there is."""
        self._hurry.set()

    async def run(self) -> Report:
        """Run it and judge it."""
        began = time.monotonic()
        async with self._stage() as (redis, nemesis):
            settings = Settings(url=redis.url, namespace=NAMESPACE, auth="none", lease=LEASE)
            with RedisQ(settings=settings) as client:
                await self._load(nemesis, client)
                stats = await self._drain(client)
                await asyncio.to_thread(audit.look_all_up, settings, self._folder)
                await self._examine(client)
                await self._dismiss()
                report = await self._judge(stats, await _version(redis))
                audit.forget_all(client)
                keys = [key async for key in redis.admin.scan_iter(f"{NAMESPACE}:*")]
                report.complaints += audit.wrong_leftovers(keys)
            report.complaints += self._complaints + self._logged()
        report.seconds = time.monotonic() - began
        return report

    # --- The stage ---

    @asynccontextmanager
    async def _stage(self) -> AsyncIterator[tuple[RedisProcess, Nemesis]]:
        """Start Redis, the doors and the processes; end them in the opposite order."""
        async with AsyncExitStack() as stack:
            short = stack.enter_context(tempfile.TemporaryDirectory(prefix="rq"))  # a socket's path has to be short
            redis = RedisProcess(self._plan.server, Path(short), self._plan.appendfsync)
            await stack.enter_async_context(redis)
            for slot in WORKERS + CLIENTS:
                self._doors[slot] = await stack.enter_async_context(Door(redis.socket))
            nemesis = Nemesis(self._folder, redis, self._keepers, self._doors)
            stack.push_async_callback(self._end_all, signal.SIGKILL)
            for slot in WORKERS + CLIENTS:
                self._keepers[slot] = self._keeper(slot, nemesis)
            yield redis, nemesis

    def _keeper(self, slot: str, nemesis: Nemesis) -> Keeper:
        plan, client = self._plan, slot in CLIENTS
        share, more = divmod(plan.messages, len(CLIENTS))
        mine = share + (client and CLIENTS.index(slot) < more)
        part = Part(slot, plan.seed, str(self._folder))
        if client:
            part = replace(part, messages=mine, rate=mine / plan.duration, style=STYLES[slot])
        environment = {
            **ENVIRONMENT,
            **part.environment(),
            "REDISQ_URL": self._doors[slot].url,
            "REDISQ_RETRY_DEADLINE": RETRY_DEADLINES.get(slot, "10"),
        }

        def ended(process: str, code: int) -> None:
            now = time.monotonic_ns()
            nemesis.note("client_exit" if client else "worker_exit", process, now, now)
            if code not in (0 if client else _STUCK, -signal.SIGKILL):
                self._complaints.append(f"{process} ended with {code}")

        module = "tests.chaos.client" if client else "tests.chaos.worker"
        return Keeper(slot, module, self._folder / f"{slot}.out", environment, ended)

    # --- Acts ---

    async def _load(self, nemesis: Nemesis, client: RedisQ) -> None:
        """Let the clients queue all while the faults happen."""
        doctor = asyncio.create_task(self._examine_now_and_then(client))
        faults = asyncio.create_task(nemesis.run(self._plan.faults, time.monotonic()))
        clients = asyncio.gather(*(self._keepers[slot].task for slot in CLIENTS))
        hurried = asyncio.create_task(self._hurry.wait())
        load = asyncio.gather(faults, asyncio.shield(clients))
        await asyncio.wait((load, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if load.done():
            await load
        else:
            load.cancel()
            await asyncio.gather(load, faults, return_exceptions=True)
        for slot in CLIENTS:
            await self._keepers[slot].end(signal.SIGKILL)
        await clients
        doctor.cancel()
        (fault,) = await asyncio.gather(doctor, return_exceptions=True)
        if not isinstance(fault, asyncio.CancelledError):
            self._complaints.append(f"the examination ended with {fault!r}")

    async def _examine_now_and_then(self, client: RedisQ) -> None:
        """Examine the queues while everything goes on, when Redis can be reached."""
        while True:
            await asyncio.sleep(EXAMINED_EVERY)
            with contextlib.suppress(Unavailable):
                await self._examine(client)

    async def _examine(self, client: RedisQ) -> None:
        for queue in QUEUES:
            found = await asyncio.to_thread(client.doctor, queue)
            wrong = [f"{queue}: {finding}" for finding in found if finding.severity == "error"]
            self._complaints += wrong[:_SHOWN]

    async def _drain(self, client: RedisQ) -> QueueStats:
        """Wait until nothing is left to do, or nothing has happened for long."""
        last, since = None, time.monotonic()
        while True:
            stats = await asyncio.to_thread(audit.totals, client)
            if audit.drained(stats) or time.monotonic() > since + self._patience:
                return stats
            progress = (stats.completed, stats.failed, stats.lost, stats.died, stats.cancelled)
            if progress != last:
                last, since = progress, time.monotonic()
            await asyncio.sleep(0.1)

    async def _dismiss(self) -> None:
        """End the workers as a deployment does."""
        codes = await asyncio.gather(*(self._keepers[slot].end(signal.SIGTERM) for slot in WORKERS))
        wrong = {slot: code for slot, code in zip(WORKERS, codes, strict=True) if code}
        if wrong:
            self._complaints.append(f"exit codes after SIGTERM: {wrong}")

    async def _end_all(self, number: signal.Signals) -> None:
        await asyncio.gather(*(keeper.end(number) for keeper in self._keepers.values()))

    async def _judge(self, stats: QueueStats, server: str) -> Report:
        def judge() -> Report:
            occurrences = read(self._folder)
            faults = Faults(occurrences)
            verdict = Judge(faults, self._plan.appendfsync != "always").judge(by_message(self._folder))
            report = Report(self._plan.seed, server, self._plan.appendfsync, verdict)
            report.faults = Counter(one.kind for one in occurrences if one.kind in KINDS)
            report.deaths = Counter(one.kind for one in occurrences if one.kind.startswith(DIED))
            report.recovery, report.recovered_from = longest_recovery(self._folder, occurrences)
            report.complaints += audit.wrong_totals(stats, verdict)
            return report

        return await asyncio.to_thread(judge)

    def _logged(self) -> list[str]:
        """Say which processes logged a traceback: redisq logs one when the fault is its own."""
        outputs = ((path.name, path.read_text("utf-8", "replace")) for path in sorted(self._folder.glob("*.out")))
        return [f"{name}: {text.count(_TRACEBACK)} tracebacks" for name, text in outputs if _TRACEBACK in text]


_TRACEBACK = "Traceback (most recent call last)"


async def _version(redis: RedisProcess) -> str:
    found: dict[str, Any] = await redis.admin.info("server")
    name = "Valkey" if "valkey_version" in found else "Redis"
    return f"{name} {found.get('valkey_version', found['redis_version'])}"
