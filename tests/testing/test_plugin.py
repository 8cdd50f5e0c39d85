"""The plugin for pytest, in runs of its own: its fixtures, its option, and that it costs nothing unless used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REAL

SHOP = """
import asyncio

import pytest

from redisq import AsyncRedisQ, RedisQ, Worker, testing

worker = Worker()
early = RedisQ()


@worker.handler("double")
def double(delivery):
    return delivery.request * 2


def test_sync(redisq):
    id = early.queue_message("double", 4)
    testing.run_until_idle(worker)
    assert redisq.get_message("double", id).result == 8


def test_a_worker_of_the_tests_own(redisq, redisq_worker):
    @redisq_worker.handler("triple")
    async def triple(delivery):
        return delivery.request * 3

    id = redisq.queue_message("triple", 4)
    testing.run_until_idle(redisq_worker)
    assert redisq.get_message("triple", id).result == 12
    assert redisq.queues() == ["triple"]


def test_async(async_redisq):
    async def inside():
        id = await async_redisq.queue_message("double", 4)
        await testing.run_until_idle_async(worker)
        return (await async_redisq.get_message("double", id)).result

    assert asyncio.run(inside()) == 8


def test_time(redisq):
    testing.clock.advance(60)
"""

UNUSED = """
import sys


def test_nothing_of_redisq_is_here():
    found = {name for name in sys.modules if name.partition(".")[0] == "redisq"}
    assert found == {"redisq", "redisq.testing", "redisq.testing.plugin"}
    assert not {"redis", "pydantic", "fakeredis", "msgpack"} & sys.modules.keys()
"""


def pytest_in(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file, as somebody does who has nothing set up, with warnings as errors."""
    (folder / "test_shop.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REDISQ_", "PYTEST"))}
    others = ("valkey", "schemathesis", "hypothesispytest", "anyio", "xdist", "xdist.looponfail")  # they import much
    without = [part for name in others for part in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *without, *options]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert run.stderr == ""
    return run


def test_its_fixtures_are_there(tmp_path: Path) -> None:
    run = pytest_in(tmp_path, SHOP)
    assert "4 passed" in run.stdout, run.stdout


@pytest.mark.skipif(REAL is None, reason="no real Redis here")
def test_with_its_option_they_are_on_a_real_server(tmp_path: Path) -> None:
    run = pytest_in(tmp_path, SHOP, "--redisq-server")
    assert "1 failed, 3 passed" in run.stdout, run.stdout
    assert "TestingError: A real server's clock cannot be moved" in run.stdout


def test_nothing_is_imported_until_a_fixture_is_used(tmp_path: Path) -> None:
    run = pytest_in(tmp_path, UNUSED)
    assert "1 passed" in run.stdout, run.stdout


def test_pytest_shows_them(tmp_path: Path) -> None:
    shown = pytest_in(tmp_path, "", "--fixtures").stdout
    assert {"redisq", "async_redisq", "redisq_worker"} <= {line.split(" ")[0] for line in shown.splitlines()}
    assert "--redisq-server" in pytest_in(tmp_path, "", "--help").stdout
