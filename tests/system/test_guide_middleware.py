"""The middleware that the guide shows does what the guide says, on the libraries it names."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from redisq import guide
from tests.support.shell import Shell

BLOCKS = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", guide.read("working"), re.MULTILINE | re.DOTALL))


def shown(shell: Shell, name: str, more: str = "") -> None:
    """Write a block of the guide as a module."""
    (shell.folder / f"{name}.py").write_text(BLOCKS[name] + more)


def test_a_handlers_time_becomes_a_metric(shell: Shell) -> None:
    shown(
        shell,
        "timed",
        "import atexit\nfrom prometheus_client import generate_latest\n"
        "atexit.register(lambda: print(generate_latest().decode()))\n",
    )
    shell.text("queue", "orders", '{"price": 2, "count": 3}')
    done = shell.run("worker", "timed:worker", "--burst")
    assert done.returncode == 0
    assert 'handler_seconds_count{queue="orders"} 1.0' in done.stdout


def test_each_line_of_structlog_names_its_message(shell: Shell) -> None:
    shown(shell, "logged")
    ids = {str(count): shell.text("queue", "orders", f'{{"count": {count}}}') for count in (17, 18)}
    done = shell.run("worker", "logged:worker", "--burst", NO_COLOR="1")
    assert done.returncode == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in done.stdout.splitlines() if "priced" in line]
    found = [re.search(r"attempt=1 .*count=(\d+) .*message_id=(\S+) .*queue=orders", line) for line in lines]
    assert {one[1]: one[2] for one in found if one} == ids


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[str]]]:
    """What listens where Sentry would, and what it was told."""
    told: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append((gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body).decode())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://key@127.0.0.1:{server.server_port}/1", told
        server.shutdown()
        thread.join()


def test_sentry_gets_an_exception_with_its_traceback_and_its_message(
    shell: Shell, sentry: tuple[str, list[str]]
) -> None:
    where, told = sentry
    shown(shell, "reported")
    id = shell.text("queue", "orders", '{"price": 2, "count": 0}')
    done = shell.run("worker", "reported:worker", "--burst", SENTRY_DSN=where, REDISQ_MAX_ATTEMPTS="1")
    assert done.returncode == 0
    assert shell.json("get", "orders", id)["error"]["type"] == "ZeroDivisionError"
    (event,) = [text for text in told if "ZeroDivisionError" in text]
    for part in (id, '"queue":"orders"', "delivery.request", "reported.py"):
        assert part in event
