"""Which queues are measured, and an environment for each in which nothing else is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path


class NotThere(Exception):
    """A queue cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Adapter:
    """A queue to measure: a module of `adapters`, the command of one worker process, and what pip installs for it.

    What installs nothing runs in our own Python. `ways` are those of `driver` that it has beside queueing one by one.
    `share` is how many of the messages are enough of a slow one. `broker` is the program of a server that is no Redis.
    """

    name: str
    title: str
    worker: str
    packages: tuple[str, ...] = ()
    ways: frozenset[str] = frozenset()
    share: float = 1.0
    broker: str = ""

    @property
    def is_peer(self) -> bool:
        """Whether this is somebody else's queue: neither ours nor the floor."""
        return bool(self.packages)


_HERE = "tests.benchmarks.adapters"
_DRIVER = ("redis", "hiredis")
_AT_ONCE, _BULK = frozenset({"callers"}), frozenset({"bulk"})
OURS, THREADS, RAW = "redisq_async", "redisq_threads", "raw"
ADAPTERS = {
    adapter.name: adapter
    for adapter in (
        Adapter(RAW, "raw redis-py", f"python -m {_HERE}.raw", ways=_BULK),
        Adapter(OURS, "redisq, asyncio", f"python -m redisq worker {_HERE}.{OURS}:worker", ways=_AT_ONCE | _BULK),
        Adapter(THREADS, "redisq, threads", f"python -m redisq worker {_HERE}.{THREADS}:worker", ways=_BULK),
        Adapter("huey", "huey", f"huey_consumer {_HERE}.huey.huey -w 8 -q", ("huey", *_DRIVER)),
        Adapter(
            "dramatiq",
            "dramatiq",
            f"dramatiq {_HERE}.dramatiq --processes 1 --threads 8",
            ("dramatiq[redis]", *_DRIVER),
        ),
        Adapter(
            "saq", "saq", f"saq {_HERE}.saq.settings --quiet", ("saq[redis]", "typing_extensions", *_DRIVER), _AT_ONCE
        ),
        Adapter(
            "taskiq",
            "taskiq",
            f"taskiq worker {_HERE}.taskiq:broker --workers 1 --max-async-tasks 100 --log-level WARNING",
            ("taskiq", "taskiq-redis", "typing_extensions", *_DRIVER),
            _AT_ONCE,
        ),
        Adapter("bullmq", "BullMQ", f"python -m {_HERE}.bullmq work", ("bullmq", *_DRIVER), _AT_ONCE | _BULK),
        Adapter("arq", "arq", f"arq {_HERE}.arq.WorkerSettings", ("arq", *_DRIVER), _AT_ONCE, share=0.5),
        Adapter(
            "rq",
            "rq",
            "rq worker --url {url} --worker-class rq.SimpleWorker --quiet bench",
            ("rq", *_DRIVER),
            _BULK,
            share=0.3,
        ),
        Adapter(
            "celery",
            "celery",
            f"celery --app {_HERE}.celery worker --pool threads --concurrency 8 --loglevel WARNING",
            ("celery[redis]", *_DRIVER),
            share=0.5,
        ),
        Adapter(
            "streaq",
            "streaq",
            f"streaq run {_HERE}.streaq:worker",
            ("streaq", "typing_extensions", *_DRIVER),
            _AT_ONCE | _BULK,
        ),
    )
}
_RABBITMQ = ("aio-pika", "uvloop")
#: Anchors from outside Redis; what each has on its disk when it confirms is in its title.
BROKERS = {
    adapter.name: adapter
    for adapter in (
        Adapter(
            "jetstream",
            "NATS JetStream, file (no fsync)",
            f"python -m {_HERE}.jetstream",
            ("nats-py", "uvloop"),
            _AT_ONCE,
            broker="nats-server",
        ),
        *(
            Adapter(
                f"rabbitmq_{kind}",
                f"RabbitMQ, {kind} ({kept})",
                f"python -m {_HERE}.rabbitmq_{kind}",
                _RABBITMQ,
                _AT_ONCE,
                share=0.2,
                broker="rabbitmq-server",
            )
            for kind, kept in (("classic", "fsync"), ("quorum", "fsync, log"))
        ),
    )
}
PEERS = [name for name, adapter in ADAPTERS.items() if adapter.is_peer]


def chosen(peers: list[str]) -> list[Adapter]:
    """Give what to measure on Redis: redisq, and `peers`, which may name the floor; in the table's order."""
    return [adapter for name, adapter in ADAPTERS.items() if name in (OURS, THREADS, *peers)]


def environment(adapter: Adapter, home: Path) -> Path:
    """Give the folder of the programs of an adapter's environment; make it in `home` unless it is there.

    Raises:
        NotThere: it cannot be installed.
    """
    if not adapter.packages:
        return Path(sys.executable).parent
    folder = home.absolute() / adapter.name
    made = folder / "made.json"
    if not (made.exists() and json.loads(made.read_text()) == list(adapter.packages)):
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "--disable-pip-version-check", "--quiet", "install"]
        done = subprocess.run([*pip, *adapter.packages], capture_output=True, text=True)
        if done.returncode:
            raise NotThere(f"pip: {last_line(done.stderr)}")
        made.write_text(json.dumps(adapter.packages))
    return folder / "bin"


def versions(programs: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Ask an environment for the versions of those packages that are there."""
    names = [package.partition("[")[0] for package in packages]
    program = (
        "from importlib.metadata import distributions as d; print(*(f'{x.name} {x.version}' for x in d()), sep='\\n')"
    )
    done = subprocess.run([programs / "python", "-c", program], capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    return {name: found[name] for name in names if name in found}


def last_line(text: str) -> str:
    """Give the last line of what a program said; the frames that some draw around their errors do not count."""
    lines = [line.strip(" |+-") for line in text.splitlines()]
    return next(filter(None, reversed(lines)), "it said nothing")
