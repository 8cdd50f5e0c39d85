"""`redisq queue` with --at, --expires-in, --priority and --idempotency-key, and `redisq worker` on schedules alone."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest

from redisq.store.keys import derived_id, id_text
from tests.conftest import CREDENTIALS
from tests.support.shell import Shell
from tests.system.conftest import eventually

AT = "2026-12-24T18:00+01:00"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["1", "--at", "tomorrow"], "'tomorrow' is not a time like 2026-12-24T18:00+01:00"),
        (["1", "--at", ""], "is not a time"),
        (["1", "--at", "2026-12-24T18:00"], "has no time zone"),
        (["1", "--at", AT, "--delay", "1"], "--delay cannot go with --at"),
        (["1", "--expires-in", "soon"], "'soon' is not a number of seconds"),
        (["1", "--expires-in", "0"], "--expires-in takes more than 0 seconds"),
        (["1", "--idempotency-key", "k", "--id", "05749898-74a0-47e1-b10d-5acf29d040c4"], "--idempotency-key"),
        (["1", "--priority", "10"], "should be less than or equal to 9"),
        (["1", "--priority", "high"], "unable to parse string as an integer"),
        (["1", "--header", "tenant"], "--header takes a name and its text, like tenant=a"),
        (["1", "--header", "=a"], "--header takes a name and its text, like tenant=a"),
        (["1", "--header", "tenant=a", "--header", "tenant=b"], "--header gives tenant twice"),
        (["1", "--items"], "--items, --stop-on-error and --ids go with --lines"),
        (["--lines", "--priority", "1"], "--lines goes with none of"),
        (["--lines", "--at", AT], "--lines goes with none of"),
        (["--lines", "--expires-in", "5"], "--lines goes with none of"),
        (["--lines", "--idempotency-key", "k"], "--lines goes with none of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_says_why(shell: Shell, arguments: list[str], told: str) -> None:
    done = shell.run("queue", "orders", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: redisq queue" in done.stderr
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_the_options_reach_the_message(shell: Shell) -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    arguments = ["queue", "orders", "{}", "--at", at, "--expires-in", "2h", "--idempotency-key", "order 7"]
    id = shell.text(*arguments)
    assert id == id_text(derived_id(CREDENTIALS.app, "orders", "order 7"))
    assert shell.text(*arguments) == id
    message = shell.json("get", "orders", id)
    available, expires = (datetime.fromisoformat(message[name]) for name in ("available_at", "expires_at"))
    assert timedelta(0) < expires - available < timedelta(hours=2)
    assert "--idempotency-key" in shell.error("queue", "orders", "[]", "--idempotency-key", "order 7")


def test_a_priority_reaches_the_message(shell: Shell) -> None:
    plain, urgent = shell.text("queue", "orders", "1"), shell.text("queue", "orders", "2", "--priority", "7")
    assert shell.json("get", "orders", urgent)["priority"] == 7
    assert "priority   7" in shell.text("get", "orders", urgent)
    assert "priority" not in shell.text("get", "orders", plain)


def test_headers_reach_the_message(shell: Shell) -> None:
    plain = shell.text("queue", "orders", "1")
    id = shell.text("queue", "orders", "2", "--header", "Tenant=a=b", "--header", "empty=")
    assert shell.json("get", "orders", id)["headers"] == {"tenant": "a=b", "empty": ""}
    assert '"tenant": "a=b"' in shell.text("get", "orders", id)
    assert "headers" not in shell.text("get", "orders", plain)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--header", "a b=c"], "--header takes names"),
        (["--header", "a=\n"], "--header takes printable text"),
        (["--header", "a=1", "--header", "A=1"], "--header has a twice"),
        (["--at", "9999-01-01T00:00Z"], "a year"),
        (["--expires-in", "1e9"], "a year"),
        (["--idempotency-key", ""], "512"),
    ],
)
def test_what_the_client_refuses_exits_with_1(shell: Shell, arguments: list[str], told: str) -> None:
    assert told in shell.error("queue", "orders", "1", *arguments)


CLOCK = """
from redisq import Worker

worker = Worker()

@worker.every("* * * * * *", queue="ticks")
def tick(time):
    return time
"""


def test_a_worker_that_only_has_schedules_runs_until_it_is_told_to_stop(shell: Shell) -> None:
    (shell.folder / "clock.py").write_text(CLOCK)
    process = shell.start("worker", "clock:worker")
    eventually(lambda: [row for row in shell.json("stats")["queues"] if row["queued"]], "a tick")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert "queueing on schedule: clock.tick" in shell.log.read_text()
