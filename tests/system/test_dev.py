"""`redisq dev`: it keeps going whatever is killed or broken, keeps its data, and leaves nothing when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import redisq
from redisq import Credentials, Message, RedisQ, Settings
from redisq.tokens.applications import MasterKey
from tests.conftest import REAL
from tests.system.conftest import eventually

pytestmark = pytest.mark.system

ROOT = Path(redisq.__file__).parents[1]
TIMEOUT = 60
HIDDEN_CURSOR, SHOWN_CURSOR = b"\x1b[?25l", b"\x1b[?25h"

persistent = pytest.mark.skipif(REAL is None, reason="fakeredis keeps nothing")

SHOP = """
import asyncio, time
from pathlib import Path
from redisq import Worker

worker = Worker()

@worker.handler("orders")
async def handle(delivery):
    request = delivery.request
    if request.get("hang") and delivery.attempt == 1:
        Path("hanging").touch()
        await asyncio.sleep(3600)
    if request.get("block"):
        Path("hanging").touch()
        time.sleep(3600)
    while request.get("wait") and not Path("go").exists():
        Path("hanging").touch()
        await asyncio.sleep(0.01)
    print("handled \\x1b[31m", delivery.id)
    return {"version": VERSION}
"""


# Tells which variables a handler has, and a child of it.
ENVIRONMENT = """
import os, subprocess, sys
from redisq import Worker
worker = Worker()

@worker.handler("orders")
def handle(delivery):
    name = "REDISQ_MASTER_KEY"
    child = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True)
    return {"inside": name in os.environ, "child": name in child.stdout, "app": "REDISQ_APP_SECRET" in os.environ}
"""


def shop(version: str) -> str:
    """A worker module. Each version has another length, as Python may not notice a change within one second."""
    return SHOP.replace("VERSION", repr(version))


class Run:
    """One `redisq dev`, and all it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output

    @property
    def said(self) -> str:
        return self.output.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said so."""

        def enough() -> bool:
            assert self.process.poll() is None or self.said.count(text) >= times, f"ended: {self.said}"
            return self.said.count(text) >= times

        eventually(enough, f"{times} times {text!r}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.send(number)
        return self.process.wait(TIMEOUT)


class Project:
    """A folder in which `redisq dev` runs; its processes and temporary files can be told from all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my project"  # a space has to be quoted everywhere
        self.temporary = folder / "tmp"
        self.folder.mkdir()
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "DEV_MARK": self.mark,
            "REDISQ_URL": "redis://127.0.0.1:1",  # of the shell's; not for the development server
            "REDISQ_LEASE": "2",
            "REDISQ_HTTP_PORT": "0",  # any: several run at once
            "FORCE_COLOR": "1",
        }
        self.runs: list[Run] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "redisq", "dev", *arguments]

    def start(self, *arguments: str, **environment: str) -> Run:
        """Start one in the background; return at once."""
        output = self.temporary.with_name(f"output{len(self.runs)}")
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.command(*arguments),
                env={**self.environment, **environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.runs.append(Run(process, output))
        return self.runs[-1]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def write(self, text: str, name: str = "shop.py") -> None:
        """Write a file as an editor does."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)

    def exports(self) -> dict[str, str]:
        """What a shell has after `eval "$(redisq dev --env)"`."""
        names = ["REDISQ_URL", "REDISQ_APP_ID", "REDISQ_APP_SECRET", "REDISQ_MASTER_KEY"]
        script = 'eval "$("$@")"; printf "%s\\n" ' + " ".join(f'"${name}"' for name in names)
        shell = ["sh", "-c", script, "sh", *self.command("--env")]
        done = subprocess.run(shell, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=True)
        return dict(zip(names, done.stdout.splitlines(), strict=True))

    def server(self) -> dict[str, Any]:
        """The running server; {} when there is none."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / ".redisq/redisq-embedded.json").read_text()))
        return {}

    def shown(self) -> dict[str, Any]:
        """What the running `redisq dev` shows."""
        return dict(json.loads((self.folder / ".redisq/dev.json").read_text()))

    def client(self) -> RedisQ:
        """A client that does not keep the server from ending."""
        text = (self.folder / ".redisq/credentials").read_text()
        values = dict(line.split("=") for line in text.splitlines())
        credentials = Credentials.parse(values["REDISQ_APP_ID"], values["REDISQ_APP_SECRET"])
        return RedisQ(settings=Settings(url=self.server()["url"]), credentials=credentials)

    def queue(self, request: Any) -> str:
        with self.client() as mq:
            return mq.queue_message("orders", request)

    def get(self, id: str, wait: float | None = None) -> Message:
        with self.client() as mq:
            return mq.get_message("orders", id, wait=wait)

    def version(self) -> Any:
        """Which version of the module works on messages."""
        result = self.get(self.queue({}), wait=TIMEOUT).result
        return result and result["version"]

    def hangs(self) -> None:
        """Wait until a handler hangs."""
        eventually((self.folder / "hanging").exists, "a handler that hangs")

    def processes(self) -> list[int]:
        """The processes that came from this test; none are found where there is no /proc."""
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._is_ours(folder)]

    def _is_ours(self, folder: Path) -> bool:
        try:
            return self.mark.encode() in (folder / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            return False

    def check_that_nothing_is_left(self, files: bool = True) -> None:
        eventually(lambda: not self.processes(), "the end of all processes")
        assert not files or not list(self.temporary.iterdir())
        assert self.server() == {}

    def clean_up(self) -> None:
        for run in self.runs:
            run.process.kill()
            run.process.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def project() -> Iterator[Project]:
    folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))  # short enough for a unix socket
    made = Project(folder)
    made.write(shop("one"))
    yield made
    made.clean_up()
    shutil.rmtree(folder, ignore_errors=True)


def test_exported_lines_are_credentials_that_work(project: Project) -> None:
    exports = project.exports()
    assert exports["REDISQ_URL"].startswith("embedded:///")
    assert project.exports() == exports
    code = "from redisq import RedisQ; mq = RedisQ(); print(mq.get_message('q', mq.queue_message('q', 7)).request)"
    environment = {**project.environment, **exports}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"
    assert (project.folder / ".redisq").stat().st_mode & 0o777 == 0o700
    assert (project.folder / ".redisq/credentials").stat().st_mode & 0o777 == 0o600
    assert (project.folder / ".redisq/.gitignore").read_text() == "*\n"
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_workers_run_and_their_lines_are_plain(project: Project) -> None:
    run = project.start("shop:worker", "--processes", "2")
    run.says("working on orders", times=2)
    id = project.queue({})
    assert project.get(id, wait=TIMEOUT).result == {"version": "one"}
    run.says("orders: 0 ready, 0 scheduled, 0 in progress, 1 done, 0 failed, 0 dead")
    assert re.search(rf"^[\d:]{{8}} shop:worker [12] handled \\x1b\[31m {id}$", run.said, re.MULTILINE)
    assert 'eval "$(redisq dev --env)"' in run.said
    processes = {process["pid"] for process in project.shown()["processes"] if process["name"] != "gateway"}
    assert len(processes) == 2
    assert run.end() == 0
    assert "\x1b" not in run.said
    assert run.said.endswith("The workers have ended; Redis too.\n")


def test_no_secret_is_printed_and_handlers_have_no_master_key(project: Project) -> None:
    project.write(ENVIRONMENT)
    run = project.start("shop:worker", REDISQ_MASTER_KEY=MasterKey.generate().text())
    run.says("working on orders")
    run.says("; redisq token create)")
    found = project.get(project.queue({}), wait=TIMEOUT).result
    exports = project.exports()
    for name in ("REDISQ_APP_SECRET", "REDISQ_MASTER_KEY"):
        assert exports[name] not in run.said
        assert exports[name] not in json.dumps(project.shown())
    assert run.end() == 0
    assert found == {"inside": False, "child": False, "app": True}


def test_the_gateway_runs_and_gives_tokens(project: Project) -> None:
    run = project.start("shop:worker")
    run.says("listening on http://127.0.0.1:")
    (url,) = re.findall(r"HTTP gateway at (\S+);", run.said)
    assert url in project.shown()["redis"]
    known = project.exports()
    client = (known["REDISQ_APP_ID"], known["REDISQ_APP_SECRET"])
    eventually(lambda: httpx.get(f"{url}/_ready").status_code == 200, "a gateway that is ready")

    def token() -> str | None:
        answer = httpx.post(f"{url}/_token", auth=client, data={"grant_type": "client_credentials"})
        return str(answer.json()["access_token"]) if answer.status_code == 200 else None  # not enrolled yet

    eventually(lambda: token() is not None, "a token")
    headers = {"Authorization": f"Bearer {token()}"}
    path = httpx.post(f"{url}/orders", json={}, headers=headers).headers["Location"]
    done = httpx.get(f"{url}{path}?wait=30", headers=headers, timeout=TIMEOUT).json()
    assert (done["status"], done["result"]) == ("COMPLETE", {"version": "one"})
    assert run.end() == 0
    project.check_that_nothing_is_left()


@pytest.mark.full
@persistent
def test_data_and_what_was_handed_back_survive_a_restart(project: Project) -> None:
    run = project.start("shop:worker", REDISQ_GRACE="0.1")
    run.says("working on orders")
    done, hung = project.queue({}), project.queue({"hang": True})
    assert project.get(done, wait=TIMEOUT).finished
    project.hangs()
    assert run.end() == 0
    project.check_that_nothing_is_left()
    run = project.start()
    run.says("data in .redisq")
    assert project.get(done).result == {"version": "one"}
    assert (project.get(hung).status, project.get(hung).attempts) == ("PENDING", 1)


@pytest.mark.full
def test_a_worker_that_is_killed_is_started_again(project: Project) -> None:
    run = project.start("shop:worker")
    run.says("working on orders")
    id = project.queue({"hang": True})
    project.hangs()
    os.kill(int(re.findall(r"shop:worker: started, process (\d+)", run.said)[0]), signal.SIGKILL)
    run.says("shop:worker: killed by SIGKILL; starts again")
    found = project.get(id, wait=TIMEOUT)
    assert (found.result, found.attempts) == ({"version": "one"}, 2)


@pytest.mark.full
@persistent
@pytest.mark.parametrize("victim", ["server", "supervisor"])
def test_a_redis_that_is_killed_comes_back_and_its_workers_go_on(project: Project, victim: str) -> None:
    if victim == "supervisor" and not Path("/proc").exists():
        pytest.skip("only Linux ends a server with its supervisor")
    run = project.start("shop:worker", REDISQ_LEASE="30")
    run.says("working on orders")
    id = project.queue({"wait": True})
    project.hangs()
    before = project.server()
    os.kill(before["pid"] if victim == "server" else parent_of(before["pid"]), signal.SIGKILL)
    run.says("it runs again, on the same data")
    assert project.server()["pid"] != before["pid"]
    (project.folder / "go").touch()
    found = project.get(id, wait=TIMEOUT)
    assert (found.result, found.attempts) == ({"version": "one"}, 1)  # the same worker, at the same address
    assert run.said.count("shop:worker: started, process") == 1
    assert run.end() == 0
    project.check_that_nothing_is_left(files=victim == "server")


def parent_of(pid: int) -> int:
    found = re.search(r"^PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_a_change_reloads_and_a_broken_module_is_tried_again(project: Project) -> None:
    run = project.start("shop:worker", "--reload")
    run.says("working on orders")
    assert project.version() == "one"
    (project.folder / "notes.txt").touch()
    (project.folder / ".venv").mkdir()
    project.write("x = 1\n", ".venv/module.py")
    project.write(shop("number two"))
    eventually(lambda: project.version() == "number two", "the new result")
    project.write("raise ValueError('half\\nwritten')\n")
    run.says("shop:worker: cannot start: Importing shop failed: ValueError: half written (shop.py line 1)")
    assert run.process.poll() is None
    project.write(shop("the third"))
    eventually(lambda: project.version() == "the third", "the mended module's result")
    changed = re.findall(r"(\S+) changed: restarting", run.said)
    assert set(changed) == {"shop.py"}


@pytest.mark.full
def test_a_broken_module_is_tried_again_without_reload(project: Project) -> None:
    project.write("import nothing_there\n")
    run = project.start("shop:worker")
    run.says("No module named 'nothing_there'")
    project.write(shop("mended"))
    run.says("working on orders")
    assert project.version() == "mended"
    assert run.said.count("cannot start") == 1


@pytest.mark.full
def test_a_second_one_shows_what_the_first_does(project: Project) -> None:
    first = project.start("shop:worker")
    first.says("working on orders")
    second, third = project.start("shop:worker"), project.start()
    for attached in (second, third):
        attached.says(f"runs here already, as process {first.process.pid}.")
        attached.says("working on orders")
    assert "not started" in second.said
    assert "not started" not in third.said
    id = project.queue({})
    second.says(f"shop:worker handled \\x1b[31m {id}")
    second.says("1 done")
    assert second.end() == 0
    assert project.version() == "one"  # the first goes on
    assert first.end() == 0
    assert third.process.wait(TIMEOUT) == 0
    assert third.said.endswith(f"process {first.process.pid}, has ended.\n")
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_many_that_start_at_once_agree(project: Project) -> None:
    runs = [project.start() for _ in range(4)]
    eventually(lambda: all("redisq dev" in run.said for run in runs), "a word of each")
    eventually(lambda: sum("runs here already" in run.said for run in runs) == 3, "three that attach")
    assert len({*re.findall(r"REDISQ_APP_SECRET=(\S+)", "".join(run.said for run in runs))}) == 1


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_ends(project: Project, number: signal.Signals) -> None:
    run = project.start("shop:worker", "--reload", REDISQ_GRACE="0.1")
    run.says("working on orders")
    project.queue({"hang": True})
    project.hangs()
    assert run.end(number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    project.check_that_nothing_is_left()
    left = {name for name in ("dev.json", "redis.sock") if os.path.lexists(project.folder / ".redisq" / name)}
    assert left == set() or number == signal.SIGKILL
    run = project.start()
    run.says("data in .redisq")
    assert run.end() == 0


@pytest.mark.full(keep=1)
@pytest.mark.parametrize(("how", "signals"), [("hang", 2), ("block", 3)])
def test_further_signals_cut_it_short(project: Project, how: str, signals: int) -> None:
    run = project.start("shop:worker", REDISQ_GRACE="3600")
    run.says("working on orders")
    project.queue({how: True})
    project.hangs()
    for count in range(signals):
        run.send(signal.SIGINT)
        run.says("redisq      stopping", times=count + 1)
    assert run.process.wait(TIMEOUT) == 0
    assert ("is killed" in run.said) == (how == "block")
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_nothing_is_left_when_its_reader_goes_away(project: Project) -> None:
    process = subprocess.Popen(
        project.command("shop:worker"),
        env=project.environment,
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    with process:
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert errors == b"" if REAL else b"using fakeredis" in errors
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_other_processes_keep_redis(project: Project) -> None:
    run = project.start()
    run.says("data in .redisq")
    code = "from redisq import RedisQ; mq = RedisQ(); mq.queue_message('q', 1); print(flush=True); input()"
    environment = {**project.environment, **project.exports()}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "\n"
        assert run.end() == 0
        assert run.said.endswith("Redis goes on, as other processes use it.\n")
        with project.client() as mq:
            assert mq.stats("q").ready == 1
        other.communicate("\n")
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_on_a_terminal_there_is_a_live_view(project: Project) -> None:
    ours, terminal = pty.openpty()
    environment = {**project.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        project.command("shop:worker"),
        env=environment,
        cwd=project.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown, stopped = b"", False
    with contextlib.suppress(OSError):  # Linux' way to say that a terminal has no other end
        while chunk := os.read(ours, 10_000):
            shown += chunk
            if b"working on orders" in shown and b"running" in shown and b"Ctrl-C ends this" in shown and not stopped:
                stopped = True
                process.send_signal(signal.SIGINT)
    os.close(ours)
    assert process.wait(TIMEOUT) == 0
    assert f"redisq dev, process {process.pid}".encode() in shown
    assert b"There is no queue yet." in shown or b"per second" in shown
    assert HIDDEN_CURSOR in shown
    assert shown.rindex(SHOWN_CURSOR) > shown.rindex(HIDDEN_CURSOR)
    project.check_that_nothing_is_left()


@pytest.mark.full
def test_what_cannot_begin_is_one_line(project: Project) -> None:
    site = project.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys; sys.modules['watchfiles'] = None\n")
    without = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    assert "pip install 'rich" in refusal(project.run("--reload", **without))
    assert "REDISQ_GRACE" in refusal(project.run(REDISQ_GRACE="soon"))
    (project.folder / ".redisq/credentials").write_text("REDISQ_APP_ID=dev\nREDISQ_APP_SECRET=rqs1.k.short\n")
    for arguments in ([], ["--env"]):
        said = refusal(project.run(*arguments))
        assert "credentials cannot be read. Remove it" in said
        assert "short" not in said
    shutil.rmtree(project.folder / ".redisq")
    (project.folder / ".redisq").write_text("")
    assert "cannot be used" in refusal(project.run())
    project.check_that_nothing_is_left()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"redisq: [^\n]+\n", done.stderr)
    return done.stderr


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("arguments", [["shop"], [":worker"], ["shop:"], ["--processes", "0"], ["--nothing"]])
def test_wrong_usage(project: Project, arguments: list[str]) -> None:
    assert project.run(*arguments).returncode == 2
    assert not (project.folder / ".redisq").exists()
