"""Fixtures for pytest, which loads this file in every run: nothing else of redisq is imported until one is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redisq import AsyncRedisQ, RedisQ, Worker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that chooses the server."""
    told = "redisq's fixtures use an embedded Redis or Valkey, whose time goes on as ever, instead of memory"
    parser.getgroup("redisq").addoption("--redisq-server", action="store_true", help=told)


@pytest.fixture
def redisq(request: pytest.FixtureRequest) -> Iterator[RedisQ]:
    """Open a private queue, which all of this process use while the test runs; see `testing.queue`."""
    from redisq import testing

    with testing.queue(real=request.config.getoption("--redisq-server")) as mq:
        yield mq


@pytest.fixture
def async_redisq(redisq: RedisQ) -> AsyncRedisQ:
    """Return a client for asyncio of the same queue as `redisq`."""
    from redisq import AsyncRedisQ

    return AsyncRedisQ(settings=redisq.settings)


@pytest.fixture
def redisq_worker(redisq: RedisQ) -> Worker:
    """Return a worker without handlers yet, on the same queue as `redisq`."""
    from redisq import Worker

    return Worker(settings=redisq.settings)
