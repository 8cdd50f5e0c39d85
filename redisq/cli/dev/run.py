"""Run `redisq dev`: a private Redis, the gateway, the workers, and the view of them.

Where one runs already, it is the view alone.

Every process hangs on this one: the server ends when this process ends and nobody else uses it, and so do the workers,
whose stdin is a socket from here. See `redisq.embedded.supervisor` and `redisq.cli.processes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence

from redisq.cli import modules, output
from redisq.cli.commands.serve import missing
from redisq.cli.dev import gateway
from redisq.cli.dev.folder import MASTER_KEY, NAME, Folder
from redisq.cli.dev.server import Looks, Server
from redisq.cli.dev.service import Service
from redisq.cli.dev.state import Journal, Queue, Snapshot
from redisq.cli.dev.view import View, view
from redisq.errors import RedisQError
from redisq.runtime import extras, loops, process
from redisq.settings import Settings

_LOOK = 1.0  # seconds between looks at the queues
_GLANCE = 0.1  # seconds at least between two views
_GRACE = "5"  # seconds for running handlers; at a desk nobody wants to wait for the 25 of production
_BEYOND_GRACE = 10.0  # seconds more, after which a worker that does not end is killed
_FAILED_LOOKS = 5  # in a row are told: fewer come with each restart of Redis
_HINT = 'In other terminals of this folder, eval "$(redisq dev --env)" leads to this Redis.'
_SIGN_IN = '(eval "$(redisq dev --env)"; redisq token create)'


def run(folder: Folder, targets: Sequence[str], processes: int, reload: bool, http_port: int | None) -> None:
    """Run until a signal asks to stop.

    Raises:
        Unavailable: no server could be started. InvalidSettings: a REDISQ_ variable is not valid.
    """
    if other := folder.take():
        return _attach(folder, other, targets)
    os.environ.pop(MASTER_KEY, None)  # of the shell's; nor may handlers have this folder's
    os.environ.pop("REDISQ_LOG_FORMAT", None)  # what is shown is read from text
    os.environ |= {**folder.environment(), "PYTHONUNBUFFERED": "1"}  # or what handlers print would come late
    os.environ.setdefault("REDISQ_GRACE", _GRACE)
    os.environ.setdefault("REDISQ_HTTP_GRACE", _GRACE)
    settings = Settings()
    port = None if missing() else gateway.port(http_port)
    try:
        loops.run(_Dev(folder, targets, processes, reload, settings.grace + _BEYOND_GRACE, port).run())
    finally:
        folder.leave()


def _attach(folder: Folder, other: Snapshot, targets: Sequence[str]) -> None:
    """Show what another `redisq dev` shows, until it ends or we are told to."""
    ended = threading.Event()
    output.text(f"`redisq dev` runs here already, as process {other.pid}. This shows it; Ctrl-C leaves it running.")
    if targets:
        output.text("The workers named now are not started: end that one first.")
    shown: Snapshot | None = other
    with process.catching(lambda _: ended.set()), contextlib.closing(view()) as shows:
        while shown and not ended.is_set():
            shows.show(shown)
            ended.wait(_LOOK / 2)
            shown = folder.published()
    if not ended.is_set():
        output.text(f"`redisq dev`, process {other.pid}, has ended.")


class _Dev:
    """One run."""

    def __init__(
        self,
        folder: Folder,
        targets: Sequence[str],
        processes: int,
        reload: bool,
        patience: float,
        http_port: int | None,
    ) -> None:
        self._folder = folder
        self._reload = reload
        self._journal = Journal()
        self._server = Server(folder, self._journal)
        self._queues: Sequence[Queue] = ()
        self._answers = True
        self._stopping = asyncio.Event()
        self._workers = [
            Service(
                target if processes == 1 else f"{target} {number}",
                modules.command("worker", target, "--lifeline"),
                self._journal,
                patience,
            )
            for target in targets
            for number in range(1, processes + 1)
        ]
        self._address = None if http_port is None else f"http://127.0.0.1:{http_port}"
        self._gateway = (
            [] if http_port is None else [gateway.service(http_port, self._journal, patience, folder.master_key())]
        )

    @property
    def _services(self) -> list[Service]:
        return [*self._gateway, *self._workers]

    async def run(self) -> None:
        with process.catching(lambda _: self._stop(), asyncio.get_running_loop()):
            await self._run_all()

    async def _run_all(self) -> None:
        self._folder.publish(self._snapshot())  # from now on others can attach
        try:
            await self._server.start()
            os.environ["REDISQ_URL"] = self._server.address
            output.text(_HINT)
            self._journal.say(f"{self._server} at {self._server.place}, data in {NAME}")
            self._tell_of_gateway()
            with contextlib.closing(view()) as shows:
                await self._run(shows)
        finally:
            ended = await self._server.close()
        output.text(f"The workers have ended; Redis {'too' if ended else 'goes on, as other processes use it'}.")

    def _tell_of_gateway(self) -> None:
        if self._address:
            self._journal.say(f"HTTP gateway at {self._address}; {self._address}/_docs describes it")
            self._journal.say(f"sign in at {self._address}/_ui with what this prints: {_SIGN_IN}")
        else:
            self._journal.say(f"no HTTP gateway, which needs the package {missing()}: {extras.install('http')}")

    async def _run(self, shows: View) -> None:
        services = [asyncio.create_task(service.run()) for service in self._services]
        others = [asyncio.create_task(self._server.keep(self._moved)), asyncio.create_task(self._look())]
        others.append(asyncio.create_task(self._watch()))
        for task in (*services, *others):
            task.add_done_callback(lambda _: self._journal.news.set())
        try:
            while self._goes_on(services, others):
                self._journal.news.clear()
                shows.show(self._snapshot())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._journal.news.wait()
                await asyncio.sleep(_GLANCE)
        finally:  # after a failure, too, such as a reader of stdout that is gone
            if not self._stopping.is_set():
                self._stop()
            await asyncio.gather(*services, return_exceptions=True)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        shows.show(self._snapshot())
        for task in (*services, *others):
            if not task.cancelled():
                task.result()

    def _goes_on(self, services: Sequence[asyncio.Task[object]], others: Sequence[asyncio.Task[object]]) -> bool:
        """Return whether to go on: until all services have ended, or anything has that should not."""
        if self._stopping.is_set():
            return not all(task.done() for task in services)
        return not any(task.done() for task in (*services, *others))

    def _stop(self) -> None:
        again = self._stopping.is_set()
        self._stopping.set()
        self._journal.say("stopping at once" if again else "stopping; Ctrl-C again cuts it short")
        for service in self._services:
            service.stop()

    def _restart(self, services: Sequence[Service]) -> None:
        for service in services:
            service.restart()

    def _moved(self, address: str) -> None:
        os.environ["REDISQ_URL"] = address
        self._restart(self._services)

    async def _watch(self) -> None:
        """Restart the workers when files change; where changes cannot be noticed, go on without."""
        if self._reload:
            from redisq.cli.dev.reload import changes

            try:
                async for names in changes(self._folder.project, self._stopping):
                    self._journal.say(f"{output.listed(names, 1)} changed: restarting the workers")
                    self._restart(self._workers)
            except (OSError, RuntimeError) as error:
                self._journal.say(f"changes are not noticed any more: {error}", "ERROR")
        await self._stopping.wait()

    async def _look(self) -> None:
        """Look at the queues again and again, and let others see all there is to see."""
        looks, failed = Looks(self._folder.master_key()[MASTER_KEY]), 0
        try:
            while True:
                try:
                    self._queues = await looks.take(self._server.address)
                    failed, self._answers = 0, True
                except RedisQError as error:
                    self._answers = False
                    failed += 1
                    if failed == _FAILED_LOOKS:
                        self._journal.say(f"the queues cannot be looked at: {error}", "ERROR")
                self._folder.publish(self._snapshot())
                await asyncio.sleep(_LOOK)
        finally:
            await looks.close()

    def _snapshot(self) -> Snapshot:
        redis = str(self._server) if self._answers else f"{self._server}, which does not answer"
        return Snapshot(
            pid=os.getpid(),
            redis=f"{redis}, gateway {self._address}" if self._address else redis,
            processes=[service.shown() for service in self._services],
            queues=self._queues,
            lines=list(self._journal.lines),
            errors=list(self._journal.errors),
        )
