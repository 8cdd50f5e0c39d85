"""`redisq serve`, as a process: what it refuses, how it starts and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import redisq
from redisq import RedisQ
from redisq.operations import applications
from redisq.tokens.scopes import Scopes
from tests.conftest import settings_for
from tests.gateway.conftest import MASTER, QUEUE

pytestmark = pytest.mark.system

ROOT = Path(redisq.__file__).parents[1]
TIMEOUT = 60


class Serve:
    """Runs of `redisq serve` with a Redis and a namespace of the test's own."""

    def __init__(self, url: str, namespace: str) -> None:
        self.settings = settings_for(url, namespace, master_key=MASTER.text())
        self.mq = RedisQ(settings=self.settings)
        self.processes: list[subprocess.Popen[str]] = []
        self.lines: list[str] = []

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")},
            "PYTHONPATH": str(ROOT),
            "REDISQ_URL": self.settings.url,
            "REDISQ_NAMESPACE": self.settings.namespace,
            "REDISQ_MASTER_KEY": MASTER.text(),
            "REDISQ_HTTP_PORT": "0",
            **more,
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "redisq", "serve", *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one that does not even start."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def start(self, *arguments: str, **environment: str) -> str:
        """Start one and give its address."""
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment(**environment), stderr=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        assert process.stderr
        for line in process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening on (http://[\w.:\[\]]+)", line):
                threading.Thread(target=self.lines.extend, args=(process.stderr,), daemon=True).start()
                return found[1]
        raise AssertionError("".join(self.lines))

    def client(self) -> Any:
        """Credentials of an application that may do everything."""
        flow = applications.create(self.settings, "billing", Scopes.parse(["queue,get,delete,stats:*"]))
        issued = self.mq._run(flow).credentials
        return issued.app, issued.secret()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.processes[-1].send_signal(number)
        return self.processes[-1].wait(TIMEOUT)

    def close(self) -> None:
        self.mq.close()
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


@pytest.fixture
def serve(real_server: Any, namespace: str) -> Iterator[Serve]:
    serve = Serve(real_server.url, namespace)
    yield serve
    serve.close()


@pytest.mark.full(keep=2)
@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example.com", "127.1", "::ffff:0.0.0.0", "*"]
)
def test_without_tokens_it_listens_to_this_machine_alone(serve: Serve, host: str) -> None:
    done = serve.run("--host", host, REDISQ_AUTH="none")
    assert done.returncode == 1
    assert done.stderr.startswith(f"redisq: REDISQ_AUTH=none lets in whoever reaches {host}")


def test_without_a_master_key_it_knows_nobody(serve: Serve) -> None:
    environment = serve.environment()
    environment.pop("REDISQ_MASTER_KEY")
    done = subprocess.run(serve.command(), env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert done.stderr.startswith("redisq: REDISQ_MASTER_KEY is not set")


@pytest.mark.full(keep=1)
@pytest.mark.parametrize(
    "arguments", [("--host", ""), ("--port", "70000"), ("--trusted-proxies", "x"), ("--tls-cert", "/none")]
)
def test_a_setting_that_is_not_valid_is_named(serve: Serve, arguments: tuple[str, str]) -> None:
    done = serve.run(*arguments)
    assert done.returncode == 1
    assert "REDISQ_HTTP_" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_tokens_anybody_on_this_machine_is_served(serve: Serve) -> None:
    url = serve.start(REDISQ_AUTH="none")
    path = httpx.post(f"{url}/orders", json={"sku": "A-1"}).headers["Location"]
    assert httpx.get(url + path).json()["request"] == {"sku": "A-1"}
    assert serve.stop(signal.SIGINT) == 0


def test_it_serves_who_has_a_token_and_stops_when_it_has_answered(serve: Serve) -> None:
    client = serve.client()
    url = serve.start("--log-format", "json")
    told = httpx.post(f"{url}/_token", auth=client, data={"grant_type": "client_credentials"}).json()
    headers = {"Authorization": f"Bearer {told['access_token']}", "X-Request-Id": "first"}
    id = httpx.post(f"{url}/orders", json={"sku": "A-1"}, headers=headers).json()["id"]
    answers: list[httpx.Response] = []

    def wait() -> None:
        answers.append(httpx.get(f"{url}/orders/{id}?wait=30", headers=headers, timeout=TIMEOUT))

    waiting = threading.Thread(target=wait)
    waiting.start()
    while "in_flight 2.0" not in httpx.get(f"{url}/_metrics", headers=headers).text:  # the scrape, and the wait
        assert waiting.is_alive()
    assert serve.stop() == 0
    waiting.join(TIMEOUT)
    (answer,) = answers
    assert (answer.status_code, answer.json()["status"]) == (200, "PENDING")
    assert serve.mq.get_message(QUEUE, id).request == {"sku": "A-1"}
    logged = [json.loads(line) for line in serve.lines if line.startswith("{")]
    (line,) = [line for line in logged if line["message"].startswith("POST /orders 201")]
    assert (line["request_id"], line["application"], line["logger"]) == ("first", "billing", "redisq.gateway")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/orders", 201)
    assert 0 < line["duration"] < 60
    assert told["access_token"] not in "".join(serve.lines)
    assert client[1] not in "".join(serve.lines)
