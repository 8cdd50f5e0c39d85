"""`redisq` for the system tests: each command in a folder of its own, as one application on a private server."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redisq
from redisq.cli import main
from tests.conftest import CREDENTIALS
from tests.system.conftest import eventually

ROOT = Path(redisq.__file__).parents[1]
TIMEOUT = 120
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# A worker for these tests. It leaves a file named by its process id in the folder `loaded`.
SHOP = """
import os, time
from pathlib import Path
from redisq import Worker

Path("loaded", str(os.getpid())).touch()
worker = Worker()

@worker.handler("orders", concurrency=1)
def handle(delivery):
    folder = Path(delivery.request.get("meet", "."))
    if "meet" in delivery.request:  # return only once so many processes are here
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < delivery.request["count"] and not delivery.cancelled:
            time.sleep(0.01)
    if delivery.request.get("fail"):
        raise ValueError("told to \\x1b[31mfail")
    return {"total": delivery.request.get("price", 0) * 2}

@worker.handler("slow")
async def hang(delivery):
    import asyncio
    Path("hanging").touch()
    await asyncio.sleep(3600)

class Empty:
    worker = Worker()
"""

# What runs workers, and so takes over signals, logging and the import path, needs a process of its own.
OUTSIDE = ("demo", "dev", "worker")


class Shell:
    """Runs `redisq` in a folder of its own, as one application on a private server."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("REDISQ_", "COLUMNS"))},
            "PYTHONPATH": str(ROOT),
            "REDISQ_URL": url,
            "REDISQ_NAMESPACE": namespace,
            "REDISQ_APP_ID": CREDENTIALS.app,
            "REDISQ_APP_SECRET": CREDENTIALS.secret(),
            "REDISQ_RETRY_DEADLINE": "0.2",
        }
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, input: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: in this process, which saves its start, unless it needs one of its own."""
        data = input if isinstance(input, bytes) else input.encode()
        if arguments[0] in OUTSIDE:
            return self.run_outside(*arguments, input=data, **environment)
        out, err = io.BytesIO(), io.BytesIO()
        with _process({**self.environment, **environment}, self.folder, ["redisq", *arguments], data, out, err):
            code = main()
        return subprocess.CompletedProcess(arguments, code, out.getvalue().decode(), err.getvalue().decode())

    def run_outside(self, *arguments: str, input: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "redisq", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=input,
            capture_output=True,
            timeout=TIMEOUT,
        )
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout.decode(), done.stderr.decode())

    def text(self, *arguments: str, input: str = "", **environment: str) -> str:
        """Run a command that succeeds, and give what it prints."""
        done = self.run(*arguments, input=input, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def json(self, *arguments: str, input: str = "", **environment: str) -> Any:
        """Run a command that succeeds with --json, and give its one document."""
        return json.loads(self.text(*arguments, "--json", input=input, **environment))

    def error(self, *arguments: str, input: str | bytes = "", **environment: str) -> str:
        """Run a command that fails with one line on stderr, and give that line."""
        done = self.run(*arguments, input=input, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"redisq: [^\n]+\n", done.stderr), done.stderr
        return done.stderr.removeprefix("redisq: ").strip()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own; its stdout is a pipe, its stderr goes to the file `log`."""
        return self.start_script("-m", "redisq", *arguments, **environment)

    def start_script(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start Python with these arguments, in the same way."""
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def loaded(self) -> set[int]:
        """The process ids of all processes that have loaded the worker so far."""
        return {int(file.name) for file in (self.folder / "loaded").iterdir()}

    def meet(self, count: int = 2) -> None:
        """Have `count` processes work at the same time; they cannot end before all of them do."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        ids = [self.text("queue", "orders", json.dumps({"meet": str(folder), "count": count})) for _ in range(count)]
        for id in ids:
            assert self.json("get", "orders", id, "--wait", "60")["status"] == "COMPLETE"

    def end(self) -> None:
        for process in self.started:
            with process, contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for pid in self.loaded():
            eventually(lambda pid=pid: not alive(pid), f"the end of process {pid}")


@contextlib.contextmanager
def _process(
    environment: Mapping[str, str], folder: Path, argv: list[str], input: bytes, out: io.BytesIO, err: io.BytesIO
) -> Iterator[None]:
    """Make this process look like a new one: its environment, folder, arguments and streams."""
    before = (dict(os.environ), os.getcwd(), sys.argv, sys.stdin, sys.stdout, sys.stderr)
    streams = [io.TextIOWrapper(stream, "utf-8") for stream in (io.BytesIO(input), out, err)]
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv, (sys.stdin, sys.stdout, sys.stderr) = argv, streams
        yield
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before[2:]
        for stream in streams:
            stream.flush()
            stream.detach()  # or its end would close what is yet to be read


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    except ProcessLookupError:
        return False
