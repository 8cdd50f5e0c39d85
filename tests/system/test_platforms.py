"""Clients where POSIX is missing, as on Windows: they work, and what does not says so."""

from __future__ import annotations

import subprocess
import sys

from redisq import RedisQ
from tests.system.conftest import Crew

#: Takes away what Windows lacks, before anything of redisq is imported. Python itself has imported what it needs.
WITHOUT = """
import os, signal, sys
import asyncio, ssl, subprocess
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "uvloop"):
    sys.modules[name] = None
for module, names in (
    (os, ("fork", "register_at_fork", "getuid", "geteuid", "getpgid", "killpg", "setsid", "O_CLOEXEC", "O_NOFOLLOW")),
    (signal, ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from redisq import AsyncRedisQ, RedisQ
"""
USE = """
with RedisQ() as mq:
    id = mq.queue_message("orders", {"price": 3})
    assert mq.get_message("orders", id).status == "PENDING"
async def use():
    async with AsyncRedisQ() as mq:
        await mq.delete_message("orders", id)
asyncio.run(use())
print(id)
"""
WORK = """
try:
    import redisq.worker
except ImportError as error:
    print(error)
"""


def told_by(code: str, crew: Crew) -> str:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], env=crew.environment(), capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_clients_work_without_posix(crew: Crew, producer: RedisQ) -> None:
    id = told_by(USE, crew).strip()
    assert producer.get_messages("orders", [id]) == [None]


def test_a_worker_says_what_it_needs(crew: Crew) -> None:
    assert "need Linux or macOS" in told_by(WORK, crew)
