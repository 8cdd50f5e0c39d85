"""The gateway: how fast it queues beside an endpoint of the same server that only parses JSON, and what waits cost.

Everything is at its default: tokens, limits, the log of requests. Of 1,000 waits each comes on a connection of its own,
from several addresses of this machine and with several tokens, as one address and one token may not have as many.
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redisq import Credentials, RedisQ, Settings, tokens
from redisq.operations import applications
from redisq.tokens.applications import MasterKey
from redisq.tokens.scopes import Scopes
from tests.benchmarks.adapters import MESSAGE
from tests.benchmarks.figures import CALLERS, Samples
from tests.benchmarks.peers import OURS, NotThere, last_line
from tests.benchmarks.programs import ROOT
from tests.benchmarks.server import Server

HTTP = "http"
#: What it is compared with: `parsing` in two forms.
FLOORS = {"edge": "http parse", "bare": "http parse bare"}
_WAITS = {  # measure -> method, and over how many queues
    "waits get": ("GET", 1),
    "waits get spread": ("GET", 100),
    "waits claim": ("POST", 1),
    "waits claim spread": ("POST", 100),
}
_PATIENCE = 60.0  # seconds for a server to begin, or to end
_SETTLE = 0.4  # of the time to watch: at its full length waits look as rarely by then as they will
_OF_AN_ADDRESS, _OF_A_TOKEN = 400, 80  # waits; the limits are 512 connections, and 100 waits
_FILES = 256  # beside connections


@dataclass(frozen=True)
class Served:
    """A server's process, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu(self) -> float:
        """Give the seconds of processor time that it took so far; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Give the bytes that are resident; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * resource.getpagesize()


class Gateway:
    """Measures gateways on one Redis. `folder` is for logs, `count` the requests of a pass."""

    def __init__(self, server: Server, folder: Path, samples: Samples, count: int, watch: float) -> None:
        self._server = server
        self._folder = folder
        self._samples = samples
        self._count = count
        self._watch = watch
        master = MasterKey.generate().text()
        self._settings = Settings(url=server.url, master_key=master, auth="none")
        others = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
        ours = {"REDISQ_URL": server.url, "REDISQ_MASTER_KEY": master, "REDISQ_HTTP_PORT": "0"}
        self._environment = {**others, **ours, "PYTHONPATH": str(ROOT)}

    def speed(self, rounds: int) -> None:
        """Queue over HTTP and parse over HTTP in turn, in so many passes each."""
        self._server.empty()
        with ExitStack() as stack:
            credentials = self._register()
            gateway = stack.enter_context(self._serving("gateway", "redisq", "serve"))
            floors = {
                name: stack.enter_context(self._serving(name, "tests.benchmarks.parsing", name)) for name in FLOORS
            }
            head = f"Authorization: Bearer {self._token(credentials)}\r\nContent-Type: application/json\r\n"
            body = json.dumps(MESSAGE)
            for _ in range(rounds):
                ours = self._ask(HTTP, gateway, _request("POST", "/orders", head, body))
                for name, measure in FLOORS.items():
                    theirs = self._ask(measure, floors[name], _request("POST", "/parse", head, body))
                    self._samples.add(f"{HTTP}:{name}", OURS, ours / theirs)

    def _ask(self, measure: str, served: Served, request: bytes) -> float:
        command = [sys.executable, "-m", "tests.benchmarks.asking", str(served.port), str(CALLERS), str(self._count)]
        before, cpu = self._server.totals(), served.cpu()
        done = subprocess.run(
            command, input=request, capture_output=True, env=self._environment, cwd=self._folder, timeout=_PATIENCE * 5
        )
        if done.returncode:
            raise NotThere(f"asking over HTTP: {last_line(done.stderr.decode(errors='replace'))}")
        told, count = json.loads(done.stdout), self._count
        totals = self._server.totals() - before
        rate = float(count / told["seconds"])
        self._samples.add(measure, OURS, rate)
        self._samples.add_latencies(measure, OURS, told["latencies"])
        self._samples.add(f"{measure}:client_cpu", OURS, told["cpu"] / count)
        self._samples.add(f"{measure}:server_cpu", OURS, (served.cpu() - cpu) / count)
        self._samples.add(f"{measure}:commands", OURS, totals.commands / count)
        return rate

    def waits(self, number: int) -> None:
        """Hold so many waits, of each kind, and see what that costs Redis and the gateway."""
        _make_room(number + _FILES)
        for measure, (method, queues) in _WAITS.items():
            self._server.empty()
            credentials = self._register()
            requests = self._waiting(credentials, method, number, queues)
            with self._serving("gateway", "redisq", "serve") as gateway:
                self._hold(measure, gateway, requests)

    def _waiting(self, credentials: Credentials, method: str, number: int, queues: int) -> list[bytes]:
        """Make the requests of waits: for messages that nobody works on, or for messages that do not come."""
        names = [f"orders-{place}" for place in range(queues)]
        heads = [
            f"Authorization: Bearer {self._token(credentials)}\r\nContent-Type: application/json\r\n"
            for _ in range(-(-number // _OF_A_TOKEN))
        ]
        made: list[bytes] = []
        with RedisQ(settings=self._settings) as mq:
            for place, name in enumerate(names):
                count = len(range(place, number, queues))
                ids = mq.queue_messages(name, [MESSAGE] * count) if method == "GET" and count else [""] * count
                for id in ids:
                    head = heads[len(made) // _OF_A_TOKEN]
                    if method == "GET":
                        made.append(_request("GET", f"/{name}/{id}?wait=30", head, ""))
                    else:
                        made.append(_request("POST", f"/{name}/_claim", head, '{"wait": 30}'))
        return made

    def _hold(self, measure: str, gateway: Served, requests: Sequence[bytes]) -> None:
        with ExitStack() as stack:
            _ask_first(gateway, requests[0])
            memory = gateway.memory()
            held = [stack.enter_context(_connect(gateway.port, place)) for place in range(len(requests))]
            for connection, request in zip(held, requests, strict=True):
                connection.sendall(request)
            time.sleep(_SETTLE * self._watch)
            commands, calls, cpu = self._server.commands(), self._server.calls(), gateway.cpu()
            time.sleep(self._watch)
            commands, calls = self._server.commands() - commands, self._server.calls() - calls
            self._samples.add(measure, OURS, commands / self._watch)
            self._samples.add(f"{measure}:calls", OURS, calls / self._watch)
            self._samples.add(f"{measure}:memory", OURS, gateway.memory() - memory)
            self._samples.add(f"{measure}:cpu", OURS, (gateway.cpu() - cpu) / self._watch)
            if answered := _answered(held):
                raise NotThere(f"a wait ended early: {last_line(answered[0].recv(2048).decode(errors='replace'))}")

    # --- How ---

    def _register(self) -> Credentials:
        with RedisQ(settings=self._settings) as mq:
            return mq._run(applications.create(self._settings, "bench", Scopes.parse(["queue,get,work:*"]))).credentials

    def _token(self, credentials: Credentials) -> str:
        audience, now = self._settings.token_audience, time.time()
        return tokens.sign(credentials, audience=audience, ops=["queue", "get", "work"], queues=["*"], now=now)

    @contextmanager
    def _serving(self, name: str, *module: str) -> Iterator[Served]:
        """Run a server until the block ends; its log goes to a file, as it does in production."""
        log = self._folder / f"{name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield Served(process, _port_of(process, log))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(server: Server, folder: Path, samples: Samples, count: int, rounds: int, watch: float, waits: int) -> None:
    """Measure the speed in rounds, and waits once."""
    gateway = Gateway(server, folder, samples, count, watch)
    gateway.speed(rounds)
    gateway.waits(waits)


def _request(method: str, path: str, head: str, body: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until a server listens, and give its port."""
    end = time.monotonic() + _PATIENCE
    while not (found := re.search(r"listening on http://[\w.]+:(\d+)", log.read_text())):
        if process.poll() is not None:
            raise NotThere(f"{log.stem}: {last_line(log.read_text())}")
        if time.monotonic() > end:
            raise NotThere(f"{log.stem} does not listen")
        time.sleep(0.02)
    return int(found[1])


def _ask_first(served: Served, request: bytes) -> None:
    """Ask for the same without a wait, so that all that is loaded at the first request is there."""
    once = request.replace(b"?wait=30", b"").replace(b'{"wait": 30}', b'{"wait":  0}')
    with _connect(served.port, 0) as connection:
        connection.settimeout(_PATIENCE)
        connection.sendall(once)
        answer = connection.recv(2048)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise NotThere(f"a wait: {last_line(answer.decode(errors='replace'))}")


def _connect(port: int, place: int) -> socket.socket:
    """Connect from an address of this machine that has room for one more."""
    address = f"127.0.0.{1 + place // _OF_AN_ADDRESS}"
    return socket.create_connection(("127.0.0.1", port), source_address=(address, 0))


def _answered(held: Sequence[socket.socket]) -> list[socket.socket]:
    """Give those that something has come on."""
    poll = select.poll()
    for connection in held:
        poll.register(connection, select.POLLIN)
    by_number = {connection.fileno(): connection for connection in held}
    return [by_number[number] for number, _ in poll.poll(0)]


def _make_room(files: int) -> None:
    """Allow this process as many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
