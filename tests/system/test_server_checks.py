"""What the command line says of a Redis that may lose messages: workers warn of it, other commands do not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REAL, start
from tests.support.shell import Shell

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(REAL is None, reason="fakeredis does not tell its configuration"),
]

LOSES = "may lose messages when it restarts: it keeps no append-only file. Set appendonly to yes in its configuration."


@pytest.fixture
def risky(shell: Shell) -> Iterator[Shell]:
    """The shell on a server without an append-only file."""
    with start(str(REAL), options={"appendonly": "no"}) as server:
        shell.environment["REDISQ_URL"] = server.url
        yield shell


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("command", [("queue", "orders", '{"price": 3}'), ("stats",), ("queues", "list", "--json")])
def test_one_off_commands_say_nothing_of_it(risky: Shell, command: tuple[str, ...]) -> None:
    done = risky.run_outside(*command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_worker_warns_of_it_once(risky: Shell, form: str) -> None:
    done = risky.run("worker", "shop:worker", "--burst", "--log-format", form)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "redisq.server" in line]
    if form == "json":
        record = json.loads(line)
        assert (record["level"], record["logger"]) == ("WARNING", "redisq.server")
        assert record["message"].endswith(LOSES)
    else:
        assert re.fullmatch(rf"\S+ WARNING redisq\.server\[\d+\] Redis at \S+ {re.escape(LOSES)}", line)


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_strict_worker_does_not_start(risky: Shell, processes: str) -> None:
    done = risky.run("worker", "shop:worker", "--burst", "--processes", processes, REDISQ_STRICT="true")
    assert done.returncode == 1
    (told,) = re.findall("^redisq: (.*)$", done.stderr, re.MULTILINE)
    assert told.endswith(f"{LOSES} REDISQ_STRICT refuses such a server.")


def test_strict_refuses_one_off_commands_too(risky: Shell) -> None:
    assert risky.error("queue", "orders", "{}", REDISQ_STRICT="true").endswith("REDISQ_STRICT refuses such a server.")


def test_an_embedded_server_is_fit(shell: Shell) -> None:
    done = shell.run("worker", "shop:worker", "--burst", "--url", "embedded://")
    assert done.returncode == 0
    assert "redisq.server" not in done.stderr
