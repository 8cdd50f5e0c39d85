"""Services that are started without stdin, stdout or stderr, or in a folder that is gone."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shell import Shell
from tests.system.conftest import eventually

CLOSED = {"all": "<&- >&- 2>&-", "stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
WORKER = """
import os, subprocess, sys
from redisq import Worker
worker = Worker()

@worker.handler("orders")
def handle(delivery):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo a child; echo a child >&2; cat"], check=True)
    return [os.getpid(), [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]]

if __name__ == "__main__":
    sys.exit(worker.run())
"""


def start(shell: Shell, closed: str, *command: str) -> subprocess.Popen[str]:
    """Start a command with closed descriptors; the others lead to files."""
    line = f'exec "$@" </dev/null >{shell.folder}/out 2>{shell.log} {closed}'
    process = subprocess.Popen(
        ["sh", "-c", line, "sh", sys.executable, *command],
        cwd=shell.folder,
        env=shell.environment,
        text=True,
        start_new_session=True,
    )
    shell.started.append(process)
    return process


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("-m redisq worker open:worker --processes 2", "all"),
        pytest.param("open.py", "all", marks=pytest.mark.full),
        *(pytest.param("-m redisq worker open:worker", one, marks=pytest.mark.full) for one in CLOSED),
    ],
)
def test_a_worker_works_with_closed_descriptors(shell: Shell, command: str, closed: str) -> None:
    (shell.folder / "open.py").write_text(WORKER)
    worker = start(shell, CLOSED[closed], *command.split())
    id = shell.text("queue", "orders", "1")
    message = shell.json("get", "orders", id, "--wait", "60")
    assert message["status"] == "COMPLETE", message
    pid, descriptors = message["result"]
    assert not [name for name in descriptors if name.startswith("socket:")]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert pid == worker.pid or "--processes" in command
    if closed in ("stdin", "stdout"):
        log = shell.log.read_text()
        assert "to stderr" in log
        assert "a child" in log
        assert "Traceback" not in log


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
@pytest.mark.parametrize("command", ["serve", pytest.param("dev", marks=pytest.mark.full)])
def test_other_services_work_with_closed_descriptors(shell: Shell, command: str) -> None:
    pytest.importorskip("uvicorn")
    if command == "dev":
        shell.environment = {name: value for name, value in shell.environment.items() if not name.startswith("REDISQ_")}
        arguments = ["dev", "shop:worker"]
    else:
        arguments = ["serve", "--port", "0"]
        shell.environment["REDISQ_AUTH"] = "none"
    service = start(shell, CLOSED["all"], "-m", "redisq", *arguments)

    def descriptors() -> list[str]:
        return [os.readlink(f"/proc/{service.pid}/fd/{number}") for number in range(3)]

    def sockets() -> int:
        found = 0
        for link in Path(f"/proc/{service.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found += os.readlink(link).startswith("socket:")
        return found

    if command == "dev":
        eventually(shell.loaded, "the worker of dev")
    else:
        eventually(lambda: sockets() > 2, "the listener")
    assert descriptors() == ["/dev/null"] * 3
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == 0


GONE = {
    "worker": ("worker", "shop:worker"),
    "processes": ("worker", "shop:worker", "--processes", "2"),
    "dev": ("dev",),
}


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("command", GONE)
def test_a_folder_that_was_removed_is_one_line(shell: Shell, tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'cd "$0" && rmdir "$0" && exec "$@"'
    run = subprocess.run(
        ["sh", "-c", line, str(gone), sys.executable, "-m", "redisq", *GONE[command]],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (1, "")
    told = re.fullmatch(r"redisq: (.*)\n", run.stderr)
    assert told, run.stderr
    assert told[1] == "The current folder does not exist any more: change to another one."


def test_what_needs_no_folder_works_in_one_that_was_removed(shell: Shell, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = 'cd "$0" && rmdir "$0" && exec "$@"'
    run = subprocess.run(
        ["sh", "-c", line, str(gone), sys.executable, "-m", "redisq", "queue", "orders", "1"],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
