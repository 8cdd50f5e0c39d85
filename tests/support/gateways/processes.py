"""Gateways as processes of `redisq serve`, each on a port of its own, to be stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import redisq
from redisq import Credentials, RedisQ, Settings, tokens
from redisq.operations import applications
from redisq.tokens import OPS
from redisq.tokens.scopes import Scopes
from tests.gateway.conftest import MASTER
from tests.support.servers.proxy import until

ROOT = Path(redisq.__file__).parents[1]
PATIENCE = 60.0
EVERYTHING = f"{','.join(sorted(OPS))}:*"


class Gate:
    """One gateway. Its log goes to a file."""

    def __init__(self, settings: Settings, log: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")},
            "PYTHONPATH": str(ROOT),
            "REDISQ_URL": settings.url,
            "REDISQ_NAMESPACE": settings.namespace,
            "REDISQ_MASTER_KEY": MASTER.text(),
            "REDISQ_HTTP_PORT": str(self.port),
            "REDISQ_HTTP_FAILURES": "1000000",  # who asks again and again whether a token counts yet is shut out else
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "redisq", "serve"]
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._listens, PATIENCE)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.logged()
        try:
            return httpx.get(f"{self.url}/_health").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and give its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal that it outlives."""
        assert self._process is not None
        self._process.send_signal(number)

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def ask(self, method: str, path: str, token: str | None = None, **how: Any) -> httpx.Response:
        """Send it a request on a connection of its own."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=PATIENCE, **how)

    def status(self, path: str, token: str | None = None) -> int:
        return self.ask("GET", path, token).status_code

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Fleet:
    """Gateways on one Redis, and who manages its applications."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.mq = RedisQ(settings=settings)
        self.mq.define("orders", lease=30)  # so that there is such a queue
        self.gates: list[Gate] = []
        self._folder = folder

    def add(self, settings: Settings | None = None, **environment: str) -> Gate:
        """Start one more gateway."""
        log = self._folder / f"gateway{len(self.gates)}.log"
        self.gates.append(Gate(settings or self.settings, log, **environment))
        self.gates[-1].start()
        return self.gates[-1]

    def create(self, name: str, *allow: str) -> Credentials:
        """Register an application."""
        issued = self.mq._run(applications.create(self.settings, name, Scopes.parse(allow or (EVERYTHING,))))
        return issued.credentials

    def sign(self, credentials: Credentials, **how: Any) -> str:
        how = {"ops": OPS, "queues": ["*"], "now": time.time(), **how}
        return tokens.sign(credentials, audience=self.settings.token_audience, **how)

    def close(self) -> None:
        for gate in self.gates:
            gate.close()
        self.mq.close()
