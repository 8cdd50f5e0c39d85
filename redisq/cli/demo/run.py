"""Run the demo: a private Redis, two worker processes, one message per file, and a look at what became of them.

Every process and folder hangs on this one: the server and its folder, which holds all files that are made here, end
when this process ends, and so do the workers, whose stdin is a pipe from here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from redisq import embedded
from redisq.cli import modules
from redisq.cli.demo import files as demo_files
from redisq.cli.demo.report import Figures, Show
from redisq.cli.demo.worker import QUEUE
from redisq.cli.output import CommandError
from redisq.client import RedisQ
from redisq.embedded.server import EmbeddedServer
from redisq.errors import InvalidSettings, MessageNotFound
from redisq.model.message import Status
from redisq.runtime import process
from redisq.tokens.token import Credentials

_PROCESSES = 2
_PATIENCE = 15.0  # seconds without any progress
_LOOK = 0.05  # seconds between looks at the queue
_FAREWELL = 5.0  # seconds from SIGTERM to SIGKILL; then the workers' end of the pipe tells them
_LOG = "worker.log"


def run(path: Path | None, limit: int, kind: str | None, as_json: bool) -> int:
    """Run the demo and give the exit code: 1 when the workers' totals are not those of a direct computation.

    Raises:
        CommandError: nothing to read at `path`; the workers ended or got stuck.
        Unavailable, InvalidSettings: no server could be started.
    """
    if kind is not None and kind not in embedded.KINDS:
        raise InvalidSettings(f"--server is one of {', '.join(embedded.KINDS)}.")
    files = demo_files.standard_library(limit) if path is None else demo_files.below(path, limit)
    with (
        _ended_as_by_ctrl_c(),
        embedded.start(kind=kind, options={"appendonly": "yes"}) as server,
    ):
        if path is None:
            files += demo_files.broken(server.directory / "broken")
        _configure(server)
        with RedisQ() as mq, contextlib.closing(Show(as_json)) as show:
            show.begin(server, len(files), _PROCESSES)
            figures = _process(mq, files, server, show)
            show.end(figures)
    if not figures.agree:
        raise CommandError("The workers' totals differ from a direct count. Did a file change meanwhile?")
    return 0


def _ended_as_by_ctrl_c() -> AbstractContextManager[None]:
    return process.catching(lambda number: sys.exit(128 + number), numbers=(signal.SIGTERM, signal.SIGHUP))


def _configure(server: EmbeddedServer) -> None:
    """Point this process and its children at the server, as an application of their own; no other setting counts."""
    for name in [name for name in os.environ if name.startswith("REDISQ_")]:
        del os.environ[name]
    application = Credentials.generate("demo")
    os.environ |= {
        "REDISQ_URL": server.url,
        "REDISQ_APP_ID": application.app,
        "REDISQ_APP_SECRET": application.secret(),
        "REDISQ_MAX_ATTEMPTS": "3",
        "REDISQ_BACKOFF_BASE": "0.2",
    }


def _process(mq: RedisQ, files: Sequence[Path], server: EmbeddedServer, show: Show) -> Figures:
    """Have the files counted by workers, one file ahead of the others: it can be looked at while nobody works."""
    expected = demo_files.count_directly(files)
    sample = next((file for file in files if expected[file]), files[0])
    first = mq.queue_message(QUEUE, {"path": str(sample)})
    before = mq.get_message(QUEUE, first)
    show.message("Queued, while no worker runs:", before)
    with _workers(server.directory) as workers:
        _wait(mq, workers, server, 1, show)
        ids = mq.queue_messages(QUEUE, [{"path": str(file)} for file in files if file != sample])
        _wait(mq, workers, server, len(files), show)
        messages = [mq.get_message(QUEUE, id) for id in ids]
    after = mq.get_message(QUEUE, first)
    show.message("The same message, worked on:", after)
    show.error(next((message for message in (after, *messages) if message.status is Status.ERROR), None))
    mq.delete_message(QUEUE, first)
    gone = _not_found(mq, first)
    show.deleted(first, gone)
    totals = demo_files.Totals.of(counts for counts in expected.values() if counts)
    return Figures(server, before, after, messages, gone, totals)


def _not_found(mq: RedisQ, id: str) -> str | None:
    try:
        mq.get_message(QUEUE, id)
    except MessageNotFound as error:
        return str(error)
    return None


def _wait(mq: RedisQ, workers: subprocess.Popen[bytes], server: EmbeddedServer, total: int, show: Show) -> None:
    """Wait until `total` messages have finished, and show how it goes."""
    state: Any = None
    moved = time.monotonic()
    while True:
        stats = mq.stats(QUEUE)
        show.progress(stats)
        if stats.finished >= total:
            return
        if state != (state := (stats.finished, stats.failed)):
            moved = time.monotonic()
        if workers.poll() is not None:
            raise CommandError(f"The workers ended with exit code {workers.returncode}: {_last_words(server)}")
        if time.monotonic() > moved + _PATIENCE:
            raise CommandError(f"The workers got stuck at {stats.finished} of {total} messages: {_last_words(server)}")
        time.sleep(_LOOK)


@contextlib.contextmanager
def _workers(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run worker processes, as `redisq worker` does; they end at the latest with this process."""
    target = "redisq.cli.demo.worker:worker"
    command = modules.command("worker", target, "--processes", str(_PROCESSES), "--lifeline")
    with (folder / _LOG).open("wb") as log:
        workers = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,  # no file of the user's folder may stand in for a module
            start_new_session=True,
        )
    with workers:  # closes their stdin, at which they would end, too
        try:
            yield workers
        finally:
            workers.terminate()
            try:
                workers.wait(_FAREWELL)
            except subprocess.TimeoutExpired:
                workers.kill()


def _last_words(server: EmbeddedServer) -> str:
    lines = (server.directory / _LOG).read_text(errors="replace").splitlines()
    return lines[-1] if lines else "they said nothing."
