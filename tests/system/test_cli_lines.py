"""`redisq queue QUEUE --lines`: many messages from a file or a pipe; and `redisq get --raw`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from redisq import RedisQ, embedded
from tests.conftest import REAL, SERVERS, start
from tests.support.shell import TIMEOUT, UUID, Shell

pytestmark = pytest.mark.system

#: bad, refused and blank lines among five good ones
MIXED = b'{"n": 1}\n\n{bad\r\n"two"\r\n   \nNaN\n{"a": 1, "a": 2}\n"\xff"\n[3]\nnull\n' + b"[" * 60_000 + b"\n5"
REPORTS = [
    r"Line 3 is not JSON \(Expecting property name enclosed in double quotes, column 2\)\.",
    r"Line 6 is refused: \$: the float is NaN or infinite; .*",
    r"Line 7 cannot be read: an object has the same key twice\.",
    r"Line 8 is not UTF-8 \(byte 1\)\.",
    r"Line 11 is nested too deeply\.",
]

MEASURE = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "redisq", *sys.argv[1:]]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(code)
"""


def reports(errors: str) -> list[str]:
    return [line.removeprefix("redisq: ") for line in errors.splitlines()]


def assert_reported(errors: str) -> None:
    found = reports(errors)
    assert len(found) == len(REPORTS)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(REPORTS, found, strict=True)), found


def requests(mq: RedisQ, ids: list[str]) -> list[object]:
    return [mq.get_message("orders", id).request for id in ids]


# --- Good and bad lines ---


@pytest.mark.parametrize("source", ["file", "stdin", "-"])
def test_each_line_is_a_message(shell: Shell, producer: RedisQ, source: str) -> None:
    lines = b"\xef\xbb\xbf" + b"\n".join(b'{"n": %d}' % number for number in range(1234))
    (shell.folder / "orders.jsonl").write_bytes(lines)
    arguments = {"file": ["orders.jsonl"], "stdin": [], "-": ["-"]}[source]
    done = shell.run("queue", "orders", "--lines", *arguments, input=b"" if source == "file" else lines)
    assert (done.returncode, done.stdout, done.stderr) == (0, "queued 1,234, refused 0\n", "")
    assert producer.stats("orders").ready == 1234


def test_bad_lines_are_reported_by_number_and_left_out(shell: Shell, producer: RedisQ) -> None:
    done = shell.run("queue", "orders", "--lines", input=MIXED)
    assert (done.returncode, done.stdout) == (1, "queued 5, refused 5\n")
    assert_reported(done.stderr)
    assert producer.stats("orders").ready == 5


def test_each_line_may_be_an_item(shell: Shell, producer: RedisQ) -> None:
    lines = (
        b'{"request": 1, "headers": {"Trace": "t"}}\n{"request": 2, "priority": 3}\n{"n": 3}\n{"request": 4, "at": 5}'
    )
    done = shell.run("queue", "orders", "--lines", "--items", "--header", "tenant=a", "--ids", input=lines)
    first, second, *rest = done.stdout.split("\n")
    assert (done.returncode, rest) == (1, ["", "", ""])
    found = [producer.get_message("orders", id) for id in (first, second)]
    told = [(one.request, one.headers, one.priority) for one in found]
    assert told == [(1, {"tenant": "a", "trace": "t"}, 0), (2, {"tenant": "a"}, 3)]
    assert [line[:24] for line in reports(done.stderr)] == ["Line 3 is refused: An it", "Line 4 is refused: --at "]


def test_a_bad_header_of_all_lines_queues_nothing(shell: Shell) -> None:
    assert "--header takes names" in shell.error("queue", "orders", "--lines", "--header", "a b=c", input="1")
    assert "orders" not in shell.text("queues", "list")


def test_the_summary_as_json(shell: Shell) -> None:
    done = shell.run("queue", "orders", "--lines", "--json", input=MIXED)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"queued": 5, "refused": 5, "read": 12})
    assert_reported(done.stderr)
    assert shell.json("queue", "orders", "--lines", input="1\n\n2") == {"queued": 2, "refused": 0, "read": 3}
    assert shell.json("queue", "orders", "--lines") == {"queued": 0, "refused": 0, "read": 0}


def test_ids_line_up_with_their_lines(shell: Shell, producer: RedisQ) -> None:
    done = shell.run("queue", "orders", "--lines", "--ids", input=MIXED)
    ids = done.stdout.split("\n")[:-1]
    assert [bool(id) for id in ids] == [number in (1, 4, 9, 10, 12) for number in range(1, 13)]
    assert requests(producer, list(filter(None, ids))) == [{"n": 1}, "two", [3], None, 5]
    assert done.returncode == 1
    assert_reported(done.stderr)


def test_stop_on_error(shell: Shell, producer: RedisQ) -> None:
    done = shell.run("queue", "orders", "--lines", "--stop-on-error", input=b"1\n2\n{\n4\n")
    assert (done.returncode, done.stdout) == (1, "queued 2, refused 1\n")
    assert reports(done.stderr)[1] == "Stopped after line 3."
    assert producer.stats("orders").ready == 2
    assert shell.text("queue", "orders", "--lines", "--stop-on-error", input="1\n2") == "queued 2, refused 0"


def test_a_line_that_the_queue_refuses(shell: Shell, producer: RedisQ) -> None:
    producer.define("orders", max_bytes=100)
    done = shell.run("queue", "orders", "--lines", input=b'1\n"%s"\n3\n' % (b"x" * 200))
    assert (done.returncode, done.stdout) == (1, "queued 2, refused 1\n")
    (report,) = reports(done.stderr)
    assert report.startswith("Line 2 is refused: The message is larger than the queue's max_bytes, 100 bytes.")


def test_wrong_usage_of_lines(shell: Shell) -> None:
    for arguments in (
        ["--lines", "--delay", "1"],
        ["--lines", "--id", "05749898-74a0-47e1-b10d-5acf29d040c4"],
        ["--lines", "--ids", "--json"],
        ["1", "--ids"],
        ["1", "--stop-on-error"],
    ):
        done = shell.run("queue", "orders", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--lines" in done.stderr


# --- What ends it early ---


def test_a_file_that_cannot_be_read(shell: Shell) -> None:
    assert shell.error("queue", "orders", "--lines", "nope") == "nope cannot be read: No such file or directory."
    assert "is a directory" in shell.error("queue", "orders", "--lines", ".").lower()


def test_a_full_queue_ends_it(shell: Shell, producer: RedisQ) -> None:
    producer.define("orders", max_length=3)
    done = shell.run("queue", "orders", "--lines", "--json", input="\n".join("123456789"))
    assert (done.returncode, json.loads(done.stdout)) == (1, {"queued": 3, "refused": 0, "read": 3})
    (report,) = reports(done.stderr)
    assert report.startswith("Stopped at line 4: The queue is at its max_length of 3 waiting messages.")


def test_what_is_not_allowed_ends_it_at_once(shell: Shell, producer: RedisQ) -> None:
    token = shell.text("token", "create", "--op", "get")
    done = shell.run("queue", "orders", "--lines", "--token", token, input="\n".join("123"))
    assert (done.returncode, done.stdout) == (1, "queued 0, refused 0\n")
    (report,) = reports(done.stderr)
    assert report.startswith("Stopped at line 1: The token does not allow queue on queue 'orders'.")


def test_redis_that_cannot_be_reached_ends_it(shell: Shell) -> None:
    done = shell.run("queue", "orders", "--lines", "--url", "redis://127.0.0.1:1", input="1")
    assert (done.returncode, done.stdout) == (1, "queued 0, refused 0\n")
    (report,) = reports(done.stderr)
    assert re.match(r"Stopped at line 1: Redis at 127\.0\.0\.1:1 cannot be reached", report)


@pytest.fixture
def doomed() -> Iterator[embedded.EmbeddedServer]:
    """A server that a test may end."""
    with start(REAL or SERVERS[0]) as server:
        yield server


def feeding(shell: Shell, *arguments: str, url: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-m", "redisq", "queue", "orders", "--lines", *arguments],
        env={**shell.environment, "REDISQ_URL": url},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    shell.started.append(process)  # type: ignore[arg-type]  # which ends it
    return process


def put(process: subprocess.Popen[bytes], lines: bytes) -> None:
    assert process.stdin
    process.stdin.write(lines)
    process.stdin.flush()


def test_redis_lost_in_the_middle_says_after_which_line(shell: Shell, doomed: embedded.EmbeddedServer) -> None:
    process = feeding(shell, "--ids", url=doomed.url)
    put(process, b"1\n2\n")
    assert process.stdout
    assert all(UUID.fullmatch(process.stdout.readline().decode().strip()) for _ in range(2))
    doomed.close()
    out, errors = process.communicate(b"3\n4\n", TIMEOUT)
    assert (process.returncode, out) == (1, b"\n\n"[: len(out)])
    (report,) = reports(errors.decode())
    lost = "Redis was lost: of lines 3 to 4 some may be queued, of later ones none."
    assert report == lost or report.startswith("Stopped at line 3: ")


def test_a_line_is_queued_before_the_next_one_comes(shell: Shell, producer: RedisQ) -> None:
    process = feeding(shell, "--ids", url=producer.settings.url)
    assert process.stdout
    for number in range(3):
        put(process, b"%d\n" % number)
        id = process.stdout.readline().decode().strip()
        assert producer.get_message("orders", id).request == number
    out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, errors) == (0, b"", b"")


def test_ctrl_c_says_how_far_it_came(shell: Shell, producer: RedisQ) -> None:
    process = feeding(shell, "--ids", url=producer.settings.url)
    put(process, b"1\n{\n")
    assert process.stdout
    id = process.stdout.readline().decode().strip()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    told = "Interrupted after line 2: 1 queued, 1 refused"
    # It names the id unless it knows that it was read.
    assert reports(errors.decode())[-1] in (f"{told}.", f"{told}, the last of them as {id}.")


# --- Size ---


@pytest.mark.full
def test_a_long_pipe_takes_little_memory(shell: Shell, producer: RedisQ) -> None:
    """Measured from a small process: a child counts the memory of the one that it was forked from as its own."""
    thousands = 200 if REAL else 5  # fakeredis is slow
    process = subprocess.Popen(
        [sys.executable, "-c", MEASURE, "queue", "orders", "--lines"],
        env=shell.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    shell.started.append(process)  # type: ignore[arg-type]  # which ends it
    for thousand in range(thousands):
        put(process, b"".join(b'{"sku": "A-%d", "count": %d}\n' % (thousand, number) for number in range(1000)))
    out, errors = process.communicate(timeout=TIMEOUT)
    summary, megabytes = out.decode().splitlines()
    assert (process.returncode, errors, summary) == (0, b"", f"queued {thousands * 1000:,}, refused 0")
    assert producer.stats("orders").ready == thousands * 1000
    assert int(megabytes) < 150


def test_a_progress_bar_on_a_terminal(shell: Shell, producer: RedisQ) -> None:
    import pty

    (shell.folder / "orders.jsonl").write_bytes(b"1\n" * 1500 + b"{\n")
    end, other_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "redisq", "queue", "orders", "--lines", "orders.jsonl"],
        cwd=shell.folder,
        env={**shell.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=other_end,
        timeout=TIMEOUT,
    )
    os.close(other_end)
    shown = os.read(end, 1_000_000).decode()
    os.close(end)
    assert (done.returncode, done.stdout) == (1, b"queued 1,500, refused 1\n")
    assert "1,500 queued" in shown
    assert "100%" in shown
    assert "Line 1,501 is not JSON" in shown


# --- get --raw ---


def test_raw_prints_just_the_result(shell: Shell) -> None:
    (shell.folder / "echo.py").write_text(
        "from redisq import Worker\nworker = Worker()\n"
        "@worker.handler('echo')\nasync def echo(delivery):\n    return delivery.request\n"
    )
    results = {'"a\\u001b[1m\\nb"': "a\x1b[1m\nb", '{"a": [1, "ü"]}': '{"a": [1, "\\u00fc"]}', "null": "null", "7": "7"}
    ids = [shell.text("queue", "echo", request) for request in results]
    shell.run("worker", "echo:worker", "--burst")
    for id, result in zip(ids, results.values(), strict=True):
        done = shell.run("get", "echo", id, "--raw", "--wait", "60")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{result}\n", "")


def test_raw_without_a_result_says_why(shell: Shell) -> None:
    id = shell.text("queue", "orders", '{"fail": true}')
    told = shell.error("get", "orders", id, "--raw", "--wait", "0.01")
    assert told == "There is no result yet, the message is PENDING. --wait SECONDS waits for it."
    shell.run("worker", "shop:worker", "--burst", REDISQ_MAX_ATTEMPTS="1")
    assert shell.error("get", "orders", id, "--raw") == r"It ended as ERROR (failed): ValueError: told to \x1b[31mfail"
    assert "no message with this id" in shell.error("get", "orders", "05749898-74a0-47e1-b10d-5acf29d040c4", "--raw")
    assert shell.run("get", "orders", id, "--raw", "--json").returncode == 2
