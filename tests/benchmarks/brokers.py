"""Anchors from outside Redis: brokers that keep messages on disk, started on loopback where they are installed.

JetStream confirms what it has written to its file, which it syncs every two minutes (`sync_interval`); RabbitMQ
confirms persistent messages of classic and quorum queues once they are synced (its guide "Consumer Acknowledgements and
Publisher Confirms").
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.driver import WARM_UP
from tests.benchmarks.figures import CALLERS, Samples
from tests.benchmarks.peers import BROKERS, NotThere
from tests.benchmarks.programs import SETTLE, SPACING, Candidate, Programs

_PATIENCE = 90.0  # seconds for a broker to take connections
_FAREWELL = 20.0  # seconds from SIGTERM to SIGKILL
_LOOK = 0.05
#: Where Debian puts what users other than root may start, too.
_RABBITMQ = "/usr/lib/rabbitmq/bin"


@dataclass(frozen=True)
class Broker:
    """A broker that runs: where it listens, and the folder of what it keeps."""

    url: str
    folder: Path

    def disk(self) -> int:
        """Give the bytes of its files, as they are allocated."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def running(name: str, folder: Path) -> Iterator[Broker]:
    """Start the broker of an adapter in a folder of its own, and end it in the end.

    Raises:
        NotThere: it is not installed, or does not start.
    """
    start = _jetstream if BROKERS[name].broker == "nats-server" else _rabbitmq
    home = folder / f"broker-{name}"
    home.mkdir()
    with ExitStack() as stack:
        try:
            yield start(home, stack)
        finally:
            stack.close()
            shutil.rmtree(home, ignore_errors=True)


def measure(candidate: Candidate, broker: Broker, folder: Path, samples: Samples, messages: int) -> None:
    """Queue one by one and work that off, queue from many callers at once, and see an idle worker's latencies."""
    name, count = candidate.adapter.name, round(messages * candidate.adapter.share)
    programs = _programs(broker, folder)
    before = broker.disk()
    told = programs.drive(candidate, "one", count)
    samples.add("queue", name, count / told["seconds"])
    time.sleep(SETTLE)  # for what it writes later than it confirms
    samples.add("disk", name, (broker.disk() - before) / told["queued"])
    with programs.working(candidate, told["queued"]) as worker:
        done = worker.told()
        samples.add("drain", name, done["handled"] / done["seconds"])
    told = _programs(broker, folder).drive(candidate, "callers", count, CALLERS)
    samples.add(f"callers:{CALLERS}", name, count / told["seconds"])
    programs, few = _programs(broker, folder), max(100, messages // 20)
    with programs.working(candidate, few + WARM_UP) as worker:
        programs.drive(candidate, "spaced", few, SPACING, worker)
        samples.add_latencies("latency", name, worker.told()["latencies"])


def _programs(broker: Broker, folder: Path) -> Programs:
    """Give programs for a queue that is empty yet."""
    return Programs(broker.url, folder, BENCH_QUEUE=f"bench-{secrets.token_hex(4)}")


def _jetstream(home: Path, stack: ExitStack) -> Broker:
    program, port = _found("nats-server"), _free_port()
    data = home / "data"
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(data)]
    _start(command, {}, home, port, stack)
    return Broker(f"nats://127.0.0.1:{port}", data)


def _rabbitmq(home: Path, stack: ExitStack) -> Broker:
    """Start RabbitMQ with a port mapper of its own, without which the one that it starts would stay."""
    program, mapper = _found("rabbitmq-server", _RABBITMQ), _found("epmd")
    port, names, peers = _free_port(), _free_port(), _free_port()
    data = home / "data"
    (home / "plugins").write_text("[].\n")
    (home / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{port}\n")
    shared = {"ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": str(home)}
    _start([mapper], shared, home, names, stack)
    environment = {
        **shared,
        "RABBITMQ_NODENAME": f"bench-{secrets.token_hex(4)}@localhost",
        "RABBITMQ_DIST_PORT": str(peers),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
    }
    _start([program], environment, home, port, stack)
    return Broker(f"amqp://guest:guest@127.0.0.1:{port}/", data)


def _found(program: str, folder: str | None = None) -> str:
    path = shutil.which(program, path=folder) or shutil.which(program)
    if path is None:
        raise NotThere(f"{program} is not installed")
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _start(command: list[str], environment: Mapping[str, str], home: Path, port: int, stack: ExitStack) -> None:
    """Start a program, to be ended with the stack; return when it takes connections."""
    with (home / "output").open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    stack.callback(_end, process)
    end = time.monotonic() + _PATIENCE
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > end:
            raise NotThere(f"{Path(command[0]).name} does not start")
        time.sleep(_LOOK)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_FAREWELL)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
