"""Children that handlers fork: what is sent to them stays with them, and no child goes on as a second worker."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from redisq import RedisQ
from redisq.runtime import process
from tests.support.shell import Shell

FORKER = """
import asyncio, multiprocessing, os, signal, sys, time
from redisq import Worker
worker = Worker()
context = multiprocessing.get_context("fork")

def report(sink):
    os.write(sink, repr([signal.getsignal(n) for n in (15, 1)] + [signal.set_wakeup_fd(-1)]).encode())
    os._exit(0)

def fork(how):
    if how == "pool":
        with context.Pool(2) as pool:
            return pool.map(abs, [-1, -2])
    if how == "handlers":
        source, sink = os.pipe()
        if os.fork() == 0:
            report(sink)
        os.close(sink)
        return os.read(source, 1000).decode()
    if how in ("exit", "raise", "return"):
        pid = os.fork()
        if pid == 0:
            if how == "exit":
                sys.exit(7)
            if how == "raise":
                raise ValueError("in the child")
            return "the child's"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    source, sink = os.pipe()
    child = context.Process(target=sleep, args=(sink,))
    child.start()
    if how == "SIGINT":  # else Python may ignore the KeyboardInterrupt, in a hook or a finalizer
        os.read(source, 1)
    os.kill(child.pid, getattr(signal, how))
    child.join()
    os.close(source)
    os.close(sink)
    return child.exitcode

def sleep(sink):
    os.write(sink, b"1")
    time.sleep(600)

@worker.handler("tasks")
async def on_loop(delivery):
    if delivery.request == "await":
        pid = os.fork()
        if pid == 0:
            await asyncio.sleep(0)
            os._exit(9)
        return [os.getpid(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    return [os.getpid(), fork(delivery.request)]

@worker.handler("plain")
def in_thread(delivery):
    return [os.getpid(), fork(delivery.request)]
"""
OUTCOMES = {
    "pool": [1, 2],
    "handlers": "[<Handlers.SIG_DFL: 0>, <Handlers.SIG_DFL: 0>, -1]",
    "SIGTERM": -signal.SIGTERM,
    "SIGHUP": -signal.SIGHUP,
    "SIGINT": 1,  # by a KeyboardInterrupt
    "exit": 7,
    "raise": 1,
    "return": 0,
    "await": 1,
}


@pytest.mark.parametrize("loop", ["uvloop", pytest.param("asyncio", marks=pytest.mark.full)])
def test_a_handlers_children_get_the_signals_that_are_sent_to_them(shell: Shell, producer: RedisQ, loop: str) -> None:
    text = FORKER if loop == "uvloop" else f"import sys\nsys.modules['uvloop'] = None\n{FORKER}"
    (shell.folder / "forker.py").write_text(text)
    worker = shell.start("worker", "forker:worker")
    for queue in ("tasks", "plain"):
        outcomes = {how: outcome for how, outcome in OUTCOMES.items() if (queue, how) != ("plain", "await")}
        ids = {how: producer.queue_message(queue, how) for how in outcomes}
        for how, outcome in outcomes.items():
            message = producer.get_message(queue, ids[how], wait=60)
            assert (message.status, message.attempts) == ("COMPLETE", 1), (queue, how, message.error)
            assert message.result == [worker.pid, outcome], (queue, how)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_signal_that_comes_at_once_ends_the_child() -> None:
    """Before Python runs a line in the child, the system may deliver what was sent to it."""
    code = """
import os, signal
from redisq.runtime import process
caught = []
with process.catching(caught.append):
    for number in (*process.STOPPING, *process.STOPPING):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.kill(pid, number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (-number, 1 * (number == signal.SIGINT)), number
    assert caught == [] and not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    os.kill(os.getpid(), signal.SIGTERM)
    assert caught == [signal.SIGTERM]
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_a_child_of_a_thread_gets_default_handlers_and_what_was_ignored_stays_so() -> None:
    code = """
import asyncio, os, signal, threading
from redisq.runtime import process
signal.signal(signal.SIGHUP, signal.SIG_IGN)
found = []

def fork():
    source, sink = os.pipe()
    if os.fork() == 0:
        handlers = [signal.getsignal(number) for number in process.STOPPING]
        right = [signal.SIG_DFL, signal.default_int_handler, signal.SIG_IGN]
        os.write(sink, repr((handlers == right, signal.set_wakeup_fd(-1))).encode())
        os._exit(0)
    found.append(os.read(source, 100))

async def main():
    with process.catching(found.append, asyncio.get_running_loop()):
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

asyncio.run(main())
assert found == [b"(True, -1)"], found
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_all_that_handle_signals_do_it_in_one_place() -> None:
    """Else their children would inherit handlers that nobody takes back."""
    from tests.unit.test_layers import SOURCES, attributes, name_of

    words = {"signal.signal", "signal.set_wakeup_fd", "loop.add_signal_handler"}
    users = {name_of(one) for one in SOURCES if "signal" in one.read_text("utf-8") and attributes(one) & words}
    assert users == {"runtime/process.py"}
    assert process.STOPPING == (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
