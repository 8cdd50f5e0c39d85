"""What a command does when its standard streams are closed, full or unread: one line that says so, and what is done."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from redisq import RedisQ
from redisq.cli import main
from redisq.tokens.applications import MasterKey
from tests.support.shell import TIMEOUT, UUID, Shell, _process

pytestmark = pytest.mark.system

FULL, CLOSED, UNREAD = "full", "closed", "unread"
CAUSES = {
    FULL: "Standard output cannot be written: No space left on device.",
    CLOSED: "Standard output is closed.",
    UNREAD: "Nobody reads standard output any more.",
}
LOSSES = list(CAUSES)


class Lost(io.RawIOBase):
    """A stream that cannot be written to."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


def lose(shell: Shell, loss: str, *arguments: str, input: bytes = b"", **environment: str) -> str:
    """Run a command in this process whose stdout is lost; give what its one line on stderr says beside that.

    Of a reader that is gone nothing need be said.
    """
    out, err = Lost(errno.ENOSPC if loss == FULL else errno.EPIPE), io.BytesIO()
    there = {**shell.environment, **environment}
    with _process(there, shell.folder, ["redisq", *arguments], input, out, err):  # type: ignore[arg-type]
        stdout = sys.stdout
        if loss == CLOSED:
            sys.stdout = None  # type: ignore[assignment]  # as Python has it then
        try:
            code = main()
        finally:
            sys.stdout = stdout
            with contextlib.suppress(OSError):
                stdout.flush()
    told = err.getvalue().decode()
    assert code == 1, told
    if loss == UNREAD and not told:
        return ""
    assert re.fullmatch(r"redisq: [^\n]+\n", told), told
    assert told.startswith(f"redisq: {CAUSES[loss]}")
    assert not re.search(r"rqs1\.|rq1\.|rqm1\.", told), "a secret is in an error"
    return told.removeprefix(f"redisq: {CAUSES[loss]}").strip()


LOOKS = {
    "queues list": "queues list",
    "queues show": "queues show orders",
    "stats": "stats",
    "stats of one": "stats orders",
    "stats as JSON": "stats --json",
    "stats again and again": "stats --watch",
    "get": "get orders {id}",
    "get as JSON": "get orders {id} --json",
    "trace": "trace orders {id}",
    "dead letters": "dead list orders",
    "doctor": "doctor",
    "applications": "app list",
    "token": "token create",
    "token narrowed": "token narrow {token} --op get",
    "token inspected": "token inspect {token}",
    "master key": "app master-key",
    "help": "--help",
    "help of one": "queue --help",
    "version": "--version",
    "completion": "--show-completion bash",
}


@pytest.mark.full(keep=8)
@pytest.mark.parametrize(("look", "loss"), list(zip(LOOKS, itertools.cycle(LOSSES), strict=False)))
def test_output_that_is_lost_is_one_line(shell: Shell, look: str, loss: str) -> None:
    id, token = shell.text("queue", "orders", "1"), shell.text("token", "create")
    arguments = LOOKS[look].format(id=id, token=token).split()
    told = lose(shell, loss, *arguments, REDISQ_MASTER_KEY=MasterKey.generate().text())
    assert not UUID.search(told)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_queued_message_is_named(shell: Shell, producer: RedisQ, loss: str) -> None:
    told = UUID.search(lose(shell, loss, "queue", "orders", '{"n": 7}', *["--json"] * (loss == FULL)))
    assert told
    assert producer.get_message("orders", told[0]).request == {"n": 7}


CHANGES = {
    "delete orders {id}": "The message {id} is deleted.",
    "cancel orders {id}": "The message {id} is cancelled.",
    "queues pause orders": "orders is paused.",
    "queues purge orders --yes": "1 messages of orders are purged.",
    "queues drop orders --yes": "orders is dropped.",
    "queues define orders --lease 9": "Nothing was changed.",
    "queues define orders --lease 9 --json": "orders is defined so now.",
    "dead purge orders --all --yes": "0 dead letters of orders are purged.",
    "dead redrive orders --all": "0 dead letters of orders are redriven.",
    "app create shop --allow-all": "shop is registered, but its secret was not printed",
    "app rotate other": "other has a new secret that was not printed",
    "app disable other --json": "other is disabled.",
    "app revoke other --all --json": "The tokens are revoked",
}


@pytest.mark.full(keep=6)
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_said(shell: Shell, change: str) -> None:
    key = MasterKey.generate().text()
    id = shell.text("queue", "orders", "1")
    shell.text("app", "create", "other", "--allow-all", REDISQ_MASTER_KEY=key)
    told = lose(shell, FULL, *change.format(id=id).split(), REDISQ_MASTER_KEY=key)
    assert told.startswith(CHANGES[change].format(id=id))


@pytest.mark.parametrize(
    ("change", "done"),
    [("app disable other", "other is disabled."), ("app revoke other --all", "The tokens are revoked")],
)
def test_a_revocation_is_made_though_nothing_can_be_printed(shell: Shell, change: str, done: str) -> None:
    key = MasterKey.generate().text()
    shell.text("app", "create", "other", "--allow-all", REDISQ_MASTER_KEY=key)
    before = shell.json("app", "show", "other", REDISQ_MASTER_KEY=key)
    assert lose(shell, FULL, *change.split(), REDISQ_MASTER_KEY=key).startswith(done)
    assert shell.json("app", "show", "other", REDISQ_MASTER_KEY=key) != before


# --- Many lines ---


@pytest.mark.parametrize("loss", LOSSES)
def test_lines_that_are_queued_are_counted_and_named(shell: Shell, producer: RedisQ, loss: str) -> None:
    told = lose(shell, loss, "queue", "orders", "--lines", "--ids", input=b'1\n\n2\n"three"\n')
    assert told.startswith("That was after line 4: 3 queued, 0 refused, the last of them as ")
    ids = [found[0] for found in UUID.finditer(told)]
    assert [producer.get_message("orders", id).request for id in ids] == [1, 2, "three"]


def test_lines_without_ids_are_counted(shell: Shell, producer: RedisQ) -> None:
    told = lose(shell, UNREAD, "queue", "orders", "--lines", input=b"1\n2")
    assert told == "That was after line 2: 2 queued, 0 refused."
    assert producer.stats("orders").ready == 2


def test_of_many_ids_a_hundred_are_named(shell: Shell) -> None:
    told = lose(shell, FULL, "queue", "orders", "--lines", "--ids", input=b"1\n" * 120)
    assert len(UUID.findall(told)) == 100
    assert told.endswith(" and 20 more.")


def started(shell: Shell, url: str, *arguments: str, input: bytes = b"") -> subprocess.Popen[bytes]:
    """Start a command that finds its input there."""
    (shell.folder / "input").write_bytes(input)
    with open(shell.folder / "input", "rb") as stdin:
        process = subprocess.Popen(
            [sys.executable, "-m", "redisq", *arguments],
            env={**shell.environment, "REDISQ_URL": url},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    shell.started.append(process)  # type: ignore[arg-type]  # which ends it
    return process


def test_ctrl_c_while_a_batch_is_under_way_says_what_is_in_doubt(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        process = started(shell, url, "queue", "orders", "--lines", input=b"1\n2\n3\n")
        with silent.accept()[0] as connection:
            assert connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    doubt = "of lines 1 to 3 some may be queued, of later ones none"
    assert told.decode() == f"redisq: Interrupted after line 0: 0 queued, 0 refused; {doubt}.\n"


def test_ctrl_c_while_a_message_is_under_way_names_it(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = started(shell, f"redis://127.0.0.1:{silent.getsockname()[1]}", "queue", "orders", "1")
        with silent.accept()[0] as connection:
            assert connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert re.fullmatch(r"redisq: Interrupted: the message may be queued\. Queueing it again .*\n", told.decode())
    assert UUID.search(told.decode())


# --- In a process of its own, as a shell starts it ---


def redirected(shell: Shell, redirection: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with one of a shell's redirections."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "redisq", *arguments],
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device(shell: Shell, producer: RedisQ) -> None:
    done = redirected(shell, ">/dev/full", "queue", "orders", "1")
    assert (done.returncode, done.stdout) == (1, b"")
    found = re.fullmatch(rf"redisq: {CAUSES[FULL]} The message is queued, with the id (\S+)\.\n", done.stderr.decode())
    assert found
    assert producer.get_message("orders", found[1]).request == 1


def test_a_closed_descriptor_is_taken_by_no_connection(shell: Shell, producer: RedisQ) -> None:
    done = redirected(shell, ">&- <&-", "queue", "orders", "1")
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"redisq: {CAUSES[CLOSED]} The message is queued, with the id ")
    assert producer.stats("orders").ready == 1


def test_a_reader_that_has_read_enough(shell: Shell) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as pipe:
        command = [sys.executable, "-m", "redisq", "--help"]
        done = subprocess.run(command, env=shell.environment, stdout=pipe, stderr=subprocess.PIPE, timeout=TIMEOUT)
    assert (done.returncode, done.stderr.decode()) == (1, "")


def test_without_stderr_an_error_goes_nowhere_else(shell: Shell) -> None:
    done = redirected(shell, "2>&-", "get", "orders", "x")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    if Path("/dev/full").exists():
        done = redirected(shell, "2>/dev/full", "get", "orders", "x")
        assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize(
    "arguments",
    ["queue orders -", "queue orders --lines", "token inspect -", "queues define orders --schema -"],
)
@pytest.mark.parametrize("there", [True, False], ids=["unreadable", "closed"])
def test_stdin_that_cannot_be_read(shell: Shell, monkeypatch: pytest.MonkeyPatch, arguments: str, there: bool) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    with _process(shell.environment, shell.folder, ["redisq", *arguments.split()], b"", out, err):
        stdin = sys.stdin
        unreadable = open(os.open(os.devnull, os.O_WRONLY), closefd=True) if there else None  # noqa: SIM115
        sys.stdin = unreadable  # type: ignore[assignment]
        try:
            code = main()
        finally:
            sys.stdin = stdin
            if unreadable:
                unreadable.close()
    told = "Standard input cannot be read: Bad file descriptor." if there else "Standard input is closed"
    assert (code, out.getvalue()) == (1, b"")
    assert re.fullmatch(rf"redisq: {re.escape(told)}[^\n]*\n", err.getvalue().decode())


@pytest.mark.parametrize("arguments", ["queue orders -", "token inspect -", "queues define orders --schema -"])
@pytest.mark.parametrize("nothing", ["", "\n", " \t\r\n"])
def test_stdin_in_which_there_is_nothing(shell: Shell, arguments: str, nothing: str) -> None:
    assert shell.error(*arguments.split(), input=nothing) == "Standard input is empty, and was to be read."


PRINTS = """
from redisq import Worker
worker = Worker()
@worker.handler("orders")
def handle(delivery):
    print("x" * 100_000, flush=True)
"""


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("redirection", [">&- 2>&- <&-", ">/dev/full 2>/dev/full"])
def test_a_worker_does_without(shell: Shell, producer: RedisQ, redirection: str) -> None:
    (shell.folder / "prints.py").write_text(PRINTS)
    id = producer.queue_message("orders", 1)
    assert redirected(shell, redirection, "worker", "prints:worker", "--burst").returncode == 0
    assert producer.get_message("orders", id).status == "COMPLETE"
