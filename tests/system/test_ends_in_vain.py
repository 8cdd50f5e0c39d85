"""A handler that tries to end its worker's event loop does not: neighbours go on, outcomes are sent."""

from __future__ import annotations

import signal

import pytest

from tests.support.shell import Shell
from tests.system.conftest import eventually

SCRIPT = """
import asyncio, sys
from pathlib import Path
from redisq import Worker

if sys.argv[1] == "asyncio":
    sys.modules["uvloop"] = None
worker = Worker()

async def leave(error):
    await asyncio.sleep(0)
    raise error

@worker.handler("tasks")
async def handle(delivery):
    how, loop = delivery.request, asyncio.get_running_loop()
    if how == "neighbour":
        while not Path("go-on").exists():
            await asyncio.sleep(0.01)
    if how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(SystemExit(0)))
    if how == "gather":
        await asyncio.gather(leave(SystemExit(3)), asyncio.sleep(0.1))
    if how == "interrupt":
        await asyncio.create_task(leave(KeyboardInterrupt()))
    if how == "nobody's":
        asyncio.create_task(leave(SystemExit(0)))
        await asyncio.sleep(0.1)
    if how == "callback":
        loop.call_later(0.01, sys.exit, 3)
        await asyncio.sleep(0.1)
    if how == "stop":
        loop.stop()
    if how == "last":
        Path("last").touch()
        try:
            await asyncio.sleep(3600)
        finally:
            loop.call_soon(sys.exit, 3)
    if how == "beyond":
        for late in (0.001, 0.01, 0.05, 0.1, 0.5, 1):
            loop.call_later(late, sys.exit, 3)
            loop.call_later(late, loop.stop)
        asyncio.create_task(deaf())
    return type(loop).__module__

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            sys.exit(3)

if "every" in sys.argv:
    @worker.every("* * * * * *", queue="made")
    async def make():
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(SystemExit(0)))

sys.exit(worker.run())
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest, shell: Shell) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    (shell.folder / "script.py").write_text(SCRIPT)
    shell.environment |= {"REDISQ_GRACE": "0.1", "REDISQ_MAX_ATTEMPTS": "1"}
    return str(request.param)


def queued(shell: Shell, *ways: str) -> list[str]:
    return [shell.text("queue", "tasks", f'"{how}"') for how in ways]


def test_what_a_handler_leaves_on_the_loop_does_not_end_the_worker(shell: Shell, loop: str) -> None:
    (neighbour,) = queued(shell, "neighbour")
    script = shell.start_script("script.py", loop)
    for how in ("group", "gather", "interrupt"):
        (id,) = queued(shell, how)
        found = shell.json("get", "tasks", id, "--wait", "60")
        assert (found["status"], found["attempts"]) == ("ERROR", 1), how
    for how in ("nobody's", "callback", "stop"):
        (id,) = queued(shell, how)
        found = shell.json("get", "tasks", id, "--wait", "60")
        assert (found["status"], found["attempts"]) == ("COMPLETE", 1), how
        assert found["result"].split(".")[0] == loop
    (shell.folder / "go-on").touch()
    found = shell.json("get", "tasks", neighbour, "--wait", "60")
    assert (found["status"], found["attempts"]) == ("COMPLETE", 1)
    assert script.poll() is None
    assert shell.log.read_text().count("tried to end it") == 1
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 0


def test_nor_does_it_cut_the_workers_end(shell: Shell, loop: str) -> None:
    """What is handed back at the end is handed back, and the exit code is the worker's."""
    last, _ = queued(shell, "last", "beyond")
    script = shell.start_script("script.py", loop)
    eventually((shell.folder / "last").exists, "the handler")
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 0
    found = shell.json("get", "tasks", last)
    assert (found["status"], found["attempts"]) == ("PENDING", 1)


def test_nor_does_the_function_of_a_schedule(shell: Shell, loop: str) -> None:
    script = shell.start_script("script.py", loop, "every")
    eventually(lambda: "its function raised" in shell.log.read_text(), "a tick")
    (id,) = queued(shell, "fine")
    assert shell.json("get", "tasks", id, "--wait", "60")["status"] == "COMPLETE"
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 0
