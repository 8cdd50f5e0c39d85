"""How a process ends whose handlers will not: soon after its grace, with the right exit code, by every way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redisq import embedded
from tests.support.servers.proxy import Proxy
from tests.support.shell import Shell, alive
from tests.system.conftest import eventually

#: Handlers that hold on to what they have; each leaves a file when it has begun.
HELD = """
import asyncio, atexit, concurrent.futures, multiprocessing, sys, threading, time
from pathlib import Path
from redisq import Worker
worker = Worker()
pool = concurrent.futures.ThreadPoolExecutor(1)
for_ever = threading.Event()
atexit.register(lambda: Path("at-exit").touch())

def hold(how):
    Path("began-" + how).touch()
    for_ever.wait()

tasks = []

async def linger():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            Path("left").touch()  # nobody else cancels it but the wind-up

@worker.handler("tasks")
async def on_loop(delivery):
    how = delivery.request
    if how == "to_thread":
        await asyncio.to_thread(hold, how)
    if how == "executor":
        await asyncio.get_running_loop().run_in_executor(pool, hold, how)
    if how == "default":
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(4))
        await asyncio.to_thread(hold, how)
    if how == "idle":
        await asyncio.get_running_loop().run_in_executor(pool, Path("began-idle").touch)
    if how == "child":
        def die():
            print("child", multiprocessing.current_process().pid, flush=True)
            hold(how)
        multiprocessing.get_context("fork").Process(target=die).start()
        begun = Path("began-child")
        while not begun.exists():
            pass
        time.sleep(3600)
    if how == "thread":
        threading.Thread(target=hold, args=(how,)).start()
    if how == "with executor":
        with concurrent.futures.ThreadPoolExecutor(1) as own:
            await asyncio.get_running_loop().run_in_executor(own, hold, how)
    if how == "late":
        tasks.append(asyncio.create_task(linger()))
        Path("began-late").touch()
    if how == "block":
        Path("began-block").touch()
        time.sleep(3600)
    if how == "catch":
        Path("began-catch").touch()
        while True:
            try:
                await asyncio.sleep(3600)
            except BaseException:
                pass
    print("printed by", how)

@worker.handler("plain", timeout=0.2)
def in_thread(delivery):
    hold("plain")

if __name__ == "__main__":
    sys.exit(worker.run())
"""


@pytest.fixture
def held(shell: Shell) -> Shell:
    (shell.folder / "held.py").write_text(HELD)
    shell.environment["REDISQ_GRACE"] = "0.1"
    return shell


def begun(shell: Shell, *ways: str) -> None:
    for how in ways:
        eventually((shell.folder / f"began-{how}").exists, f"the handler to {how}")


def queued(shell: Shell, *ways: str) -> dict[str, str]:
    return {how: shell.text("queue", "tasks", f'"{how}"') for how in ways}


def test_sigterm_ends_a_worker_whatever_its_handlers_wait_for(held: Shell) -> None:
    ids = queued(held, "thread", "to_thread", "executor", "catch")
    worker = held.start("worker", "held:worker")
    begun(held, *ids)
    assert held.json("get", "tasks", ids["thread"], "--wait", "60")["status"] == "COMPLETE"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    for how in ("to_thread", "executor", "catch"):
        message = held.json("get", "tasks", ids[how])
        assert (message["status"], message["attempts"]) == ("PENDING", 1), how
    assert (held.folder / "at-exit").exists()
    assert worker.stdout is not None
    assert "printed by thread" in worker.stdout.read()
    assert "threads that handlers left: " in held.log.read_text()


@pytest.mark.full
@pytest.mark.parametrize("how", ["with executor", "block"])
def test_sigterm_ends_a_worker_whose_loop_a_handler_holds(held: Shell, how: str) -> None:
    queued(held, how)
    worker = held.start("worker", "held:worker")
    begun(held, how)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "a handler keeps the event loop" in held.log.read_text()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.full)])
def test_a_burst_ends_beside_a_thread_that_a_handler_left(held: Shell, processes: str) -> None:
    queued(held, "thread")
    worker = held.start("worker", "held:worker", "--burst", "--processes", processes)
    assert worker.wait(60) == 0
    begun(held, "thread")


def test_stuck_handlers_end_the_process_beside_threads_that_others_left(held: Shell) -> None:
    queued(held, "thread", "to_thread")
    worker = held.start("worker", "held:worker", REDISQ_MAX_STUCK="1")
    begun(held, "thread", "to_thread")
    held.text("queue", "plain", "1")
    assert worker.wait(60) == 1


@pytest.mark.full
def test_a_worker_without_redis_ends_to_be_replaced_beside_a_thread(
    held: Shell, system_server: embedded.EmbeddedServer
) -> None:
    queued(held, "to_thread")
    short = {"REDISQ_STALE_AFTER": "1", "REDISQ_COMMAND_TIMEOUT": "0.2", "REDISQ_CONNECT_TIMEOUT": "0.2"}
    with Proxy(system_server.url) as proxy:
        worker = held.start("worker", "held:worker", **short, REDISQ_URL=proxy.url)
        begun(held, "to_thread")
        proxy.reset(b"\r\n", times=1_000_000)
        assert worker.wait(60) == 1
    assert "REDISQ_STALE_AFTER" in held.log.read_text()


@pytest.mark.full
def test_a_process_that_is_ended_leaves_no_child_of_multiprocessing(held: Shell) -> None:
    """It would keep stdout open, and wait for work for ever."""
    queued(held, "child")
    worker = held.start("worker", "held:worker")
    begun(held, "child")
    assert worker.stdout is not None
    child = int(worker.stdout.readline().split()[1])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    eventually(lambda: not alive(child), "the end of the child")


def test_a_script_ends_although_its_handlers_sit_in_threads_of_asyncio(held: Shell) -> None:
    """`worker.run()` returns, and leaves no thread that Python would wait for."""
    ids = queued(held, "to_thread", "catch", "idle")
    script = held.start_script("held.py")
    begun(held, *ids)
    assert held.json("get", "tasks", ids["idle"], "--wait", "60")["status"] == "COMPLETE"
    script.send_signal(signal.SIGTERM)
    assert script.wait(60) == 0
    assert {held.json("get", "tasks", ids[how])["status"] for how in ("to_thread", "catch")} == {"PENDING"}
    assert "Python ends the process only after them" not in held.log.read_text()


@pytest.mark.parametrize(
    ("how", "name"),
    [("thread", "Thread-"), ("executor", "ThreadPoolExecutor-"), ("default", "ThreadPoolExecutor-")],
)
def test_a_script_says_which_threads_it_waits_for(held: Shell, how: str, name: str) -> None:
    """A thread that a handler started, itself or by an executor, and that is no daemon, is the script's own."""
    queued(held, how)
    script = held.start_script("held.py")
    begun(held, how)
    script.send_signal(signal.SIGTERM)
    warning = f"Python ends the process only after them: {name}"
    eventually(lambda: warning in held.log.read_text(), "the warning")
    assert script.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_wind_up_changes_nothing(held: Shell, number: int) -> None:
    """The worker has left; a task that catches its cancellation is waited for a moment."""
    queued(held, "late")
    script = held.start_script("held.py")
    begun(held, "late")
    script.send_signal(signal.SIGTERM)
    eventually((held.folder / "left").exists, "the wind-up")
    script.send_signal(number)
    assert script.wait(60) == 0


GATEWAY = """
import asyncio, sys, threading
from redisq.gateway.server import server
from redisq.gateway.settings import GatewaySettings
from redisq.gateway.server.stopping import Stopping
from redisq.runtime import process

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
    else:
        print("began", flush=True)
        await asyncio.to_thread(threading.Event().wait)

options = GatewaySettings(port=0, grace=0.1)
sys.exit(process.leave(server.serve(app, options, stopping=Stopping(), on_ready=lambda url: print(url, flush=True))))
"""


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_gateway_ends_although_a_request_sits_in_a_thread(tmp_path: Path, number: int) -> None:
    import socket
    from urllib.parse import urlsplit

    command = [sys.executable, "-c", GATEWAY]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert gateway.stdout is not None
        where = urlsplit(gateway.stdout.readline().strip())
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert gateway.stdout.readline() == "began\n"
            gateway.send_signal(number)
            assert gateway.wait(60) == 1, "a request was cut"
    finally:
        gateway.kill()
        gateway.wait()
        gateway.stdout.close()


# --- What asks to stop ---


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.full)])
def test_a_hang_up_drains_as_sigterm_does(shell: Shell, processes: str) -> None:
    worker = shell.start("worker", "shop:worker", "--processes", processes)
    shell.meet(int(processes))
    worker.send_signal(signal.SIGHUP)
    assert worker.wait(60) == 0
    assert "stopping" in shell.log.read_text()


@pytest.mark.full
@pytest.mark.parametrize("processes", ["1", "2"])
def test_under_nohup_a_hang_up_is_ignored(shell: Shell, processes: str, ignoring: Callable[[int], None]) -> None:
    ignoring(signal.SIGHUP)
    worker = shell.start("worker", "shop:worker", "--processes", processes)
    shell.meet(int(processes))
    for pid in {worker.pid, *shell.loaded()}:
        os.kill(pid, signal.SIGHUP)
    shell.meet(int(processes))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


@pytest.fixture
def ignoring() -> Callable[[int], None]:
    """Have what is started from now on ignore a signal, as nohup does."""
    before: dict[int, object] = {}

    def ignore(number: int) -> None:
        before[number] = signal.signal(number, signal.SIG_IGN)

    yield ignore
    for number, handler in before.items():
        signal.signal(number, handler)
