"""Servers, workers and counts for the delivery tests."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

from redisq import Message, RedisQError, embedded, store
from redisq.link.sync import Link
from redisq.store import scripts
from redisq.store.call import BATCH
from redisq.store.keys import given_id, partition_keys
from tests.conftest import REAL_SERVERS, Raw, settings_for
from tests.support.servers.own_server import OwnServer, binary_of
from tests.support.servers.slow_proxy import ARGUMENTS, Dam
from tests.support.workers.spawned import Nursery

T = TypeVar("T")

QUEUE = "tasks"
NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


@pytest.fixture(params=REAL_SERVERS or NONE, ids=_name)
def own_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """Start servers of a test's own, of each real kind in turn; keywords are settings of redis.conf."""
    yield from _servers(request.param)


@pytest.fixture(params=REAL_SERVERS[:1] or NONE, ids=_name)
def one_own_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """As `own_server`, on one kind alone: for what does not depend on the server, or takes long."""
    yield from _servers(request.param)


def _servers(name: str) -> Iterator[Callable[..., OwnServer]]:
    with tempfile.TemporaryDirectory(prefix="rq") as folder:  # not tmp_path: a socket's path must be short
        made: list[OwnServer] = []

        def make(**options: str) -> OwnServer:
            home = Path(folder) / str(len(made))
            home.mkdir()
            made.append(OwnServer(binary_of(name), home, **options))
            made[-1].start()
            return made[-1]

        yield make
        for server in made:
            server.kill()


@pytest.fixture
def below(namespace: str) -> Iterator[Callable[..., Raw]]:
    """See servers from below, with the keys of the queue `tasks`; keywords are settings of all who work on it."""
    made: list[Raw] = []

    def make(server: Any, **values: Any) -> Raw:
        settings = settings_for(server.url, namespace, **values)
        client = redis.Redis.from_url(server.url, protocol=2)
        made.append(Raw(server, settings, client, Link(settings), partition_keys(namespace, QUEUE)))
        return made[-1]

    yield make
    for raw in made:
        raw.link.close()
        raw.redis.close()


@pytest.fixture
def tasks(real_server: embedded.EmbeddedServer, below: Callable[..., Raw]) -> Raw:
    """Each real server from below, with the keys of the queue `tasks`."""
    return below(real_server)


@pytest.fixture
def dam(real_server: embedded.EmbeddedServer, tasks: Raw) -> Iterator[Dam]:
    """A dam before each real server, which knows the scripts: so each request says by its hash which one it runs."""
    for name in ARGUMENTS:
        tasks.redis.script_load(scripts.load(name).text)
    with Dam(real_server.url) as dam:
        yield dam


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Callable[..., Nursery]]:
    """Make nurseries of worker processes; keywords go into their environment."""
    made: list[Nursery] = []

    def make(raw: Raw, concurrency: int, **extra: str) -> Nursery:
        made.append(Nursery(raw.settings, tmp_path / f"nursery{len(made)}", concurrency, **extra))
        return made[-1]

    yield make
    for one in made:
        one.close()


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut into what one call takes."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def look_up(raw: Raw, ids: Sequence[str]) -> list[Message | RedisQError]:
    """Look many messages up, in order."""
    return [
        message
        for batch in batches(ids)
        for message in raw.link.call(store.messages.get(raw.keys, [given_id(id) for id in batch]))
    ]


def messages(raw: Raw, ids: Sequence[str]) -> list[Message]:
    """Look many messages up, all of which must be there, in order."""
    looked_up = [message for message in look_up(raw, ids) if isinstance(message, Message)]
    assert len(looked_up) == len(ids)
    return looked_up


def spread(seconds: Sequence[float]) -> str:
    """Say how times are spread, in milliseconds."""
    ordered = sorted(seconds)
    half, most = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"p50 {half * 1000:.0f} ms, p99 {most * 1000:.0f} ms, max {ordered[-1] * 1000:.0f} ms"
