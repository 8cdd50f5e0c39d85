"""What a process of ours does with signals, forks and the descriptors it was started with, and how it ends.

A child that is forked while we handle signals gets them as if we did not: by itself it would inherit our handlers, and
the descriptor over which signals wake our event loop, so that what is sent to the child would stop us and not it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.thread import _threads_queues, _worker
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from redisq.runtime import logs

if TYPE_CHECKING:
    import asyncio

log = logs.logger("redisq.process")

if not hasattr(os, "fork"):
    raise ImportError("Workers, the gateway and the command line need Linux or macOS; clients run on Windows, too.")

#: What asks a process to stop: a service manager or `kill`, Ctrl-C, a terminal that is closed.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_MOMENT = 0.1  # seconds for threads to end that have nothing to do
_FLUSH = 1.0  # seconds to write what was logged and printed; who reads it may have stopped reading
_LEAVE = 10.0  # seconds for what Python does at its end, such as closing an embedded server
#: Threads that may have a handler in hand; with them Python cannot be sure to end well, although they are daemons.
HANDLERS = "redisq-handler"

_replaced: dict[int, Any] = {}  # the handlers that ours stand in for, by signal
_guarded: list[asyncio.AbstractEventLoop] = []  # loops that no child may go on with
_nowhere: list[socket.socket] = []  # in such a child: what its loops have in place of their connections
_before_fork = threading.local()
_to_the_end = False  # of a loop: signals that were caught there are, until it is closed

#: Of this process; changes in a forked child. To look here costs a tenth of asking the system.
pid = os.getpid()


@contextmanager
def catching(
    react: Callable[[int], object],
    loop: asyncio.AbstractEventLoop | None = None,
    noted: Callable[[], object] | None = None,
    numbers: Sequence[signal.Signals] = STOPPING,
) -> Iterator[None]:
    """Call `react` with the number of each signal that asks to stop: on the loop, or else wherever the main thread is.

    `noted` is called by the main thread before that, also while something else than its loop keeps it. SIGHUP stays
    ignored where it was, as `nohup` wants it. Outside the main thread, which alone may handle signals, none is caught.
    Within `catching_to_the_end`, those of a loop have no effect afterwards.
    """
    before = {number: signal.getsignal(number) for number in _catchable(numbers)}
    _replaced.update({number: handler for number, handler in before.items() if number not in _replaced})
    try:
        for number in before:
            if loop is not None:
                loop.add_signal_handler(number, react, number)  # sees to it that a signal wakes the loop
                if noted is not None:
                    signal.signal(number, lambda *_: noted())
            else:
                signal.signal(number, lambda number, _: react(number))
        yield
    finally:
        for number, handler in before.items():
            if loop is not None:
                loop.remove_signal_handler(number)
            if loop is not None and _to_the_end:
                signal.signal(number, _no_effect)
                continue
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if _replaced.get(number) is handler:
                del _replaced[number]


@contextmanager
def catching_to_the_end() -> Iterator[None]:
    """Keep what `catching` has caught on a loop from doing anything after it: what is asked for is being done already.

    At the end of the outermost of these, each signal is handled again as it was before.
    """
    global _to_the_end
    if _to_the_end or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, replaced = {number: signal.getsignal(number) for number in STOPPING}, {*_replaced}
    _to_the_end = True
    try:
        yield
    finally:
        _to_the_end = False
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if number not in replaced:
                _replaced.pop(number, None)


def on_interrupt(react: Callable[[], object]) -> None:
    """Call `react` for a Ctrl-C that nobody handles yet, until `catching_to_the_end` ends."""
    if _catchable([signal.SIGINT]) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: react())


def _no_effect(*_: object) -> None:
    """Let a signal do nothing, and yet not be ignored: what is executed would inherit that."""


@contextmanager
def guarding(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """End a forked child that comes back to `loop`: what that polls, and its connections, are the parent's, too."""
    _guarded.append(loop)
    try:
        yield
    finally:
        _guarded.remove(loop)


def _end_at_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(OSError):  # no descriptor is left
        _part_from_loops()
    loop.call_soon(_end_awaiting)
    if (ready := getattr(loop, "_ready", None)) is not None:  # asyncio's own: before anything that waits there
        ready.rotate()


def _part_from_loops() -> None:
    """Give the child's loops nothing to watch, and nobody to write to: those connections are the parent's.

    What was about to run there may still run in the child, once, before it is ended: nobody shall notice. In their
    place is a pair of sockets that nobody reads: what no loop can watch, as the null device, libuv aborts of.
    """
    if not os.path.isdir("/proc/self/fdinfo"):
        return  # no epoll either
    _nowhere.extend(socket.socketpair())
    nowhere = _nowhere[0]
    with select.epoll() as fresh:
        for poll in [number for number in _descriptors("anon_inode:[eventpoll]") if number != fresh.fileno()]:
            with open(f"/proc/self/fdinfo/{poll}") as info:
                watched = {int(found) for found in re.findall(r"^tfd:\s*(\d+)", info.read(), re.MULTILINE)}
            os.dup2(fresh.fileno(), poll, inheritable=False)
            for number in watched & set(_descriptors("socket:")):
                os.dup2(nowhere.fileno(), number, inheritable=False)


def _descriptors(kind: str) -> list[int]:
    """List those of this process that are of a kind."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them is closed
            if os.readlink(f"/proc/self/fd/{name}").startswith(kind):
                found.append(int(name))
    return found


def _end_awaiting() -> NoReturn:
    end_fork(RuntimeError("a child that a handler forks may not await: it shares the worker's event loop and is ended"))


def _catchable(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []
    hung_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in numbers if not (number == signal.SIGHUP and hung_up)]


def _hold_signals() -> None:
    """Let no signal reach the child before it has handlers of its own; the parent gets it a moment later."""
    if _replaced:
        _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(_replaced))


def _let_signals_through() -> None:
    mask = _before_fork.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _part_from_parent() -> None:
    global pid
    pid = os.getpid()
    for loop in _guarded:
        _end_at_the_loop(loop)
    interrupt = _replaced.get(signal.SIGINT, signal.SIG_IGN)
    if _replaced:
        signal.set_wakeup_fd(-1)
        for number, handler in _replaced.items():
            signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
        _replaced.clear()
    _let_signals_through()
    if interrupt is not signal.SIG_IGN:  # only now: a KeyboardInterrupt that is raised here would be ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)


os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_part_from_parent)


def end_fork(error: BaseException | None = None) -> NoReturn:
    """End a forked child that comes back from the code that forked it: it may not go on as a second one of us."""
    if error is None or isinstance(error, SystemExit):
        code = getattr(error, "code", None)
        if isinstance(code, str):
            print(code, file=sys.stderr)
        end(code if isinstance(code, int) else 0 if code is None else 1)
    traceback.print_exception(error)
    end(1)


def open_standard_descriptors() -> None:
    """Open the null device for each of stdin, stdout and stderr that is closed: no socket may take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def open_standard_streams() -> None:
    """Have Python's own stdin, stdout and stderr lead nowhere, too, where they are closed: who prints need not care."""
    open_standard_descriptors()
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, errors="backslashreplace", closefd=False))  # noqa: SIM115 - for good


def leave(code: int) -> int:
    """Get ready to end with an exit code, and give it; or end at once, where threads that handlers left would forbid.

    Python waits for threads that are no daemons, and a message that such a thread is busy with may be worked on
    elsewhere by now. What is to be done at exit is done either way, unless that takes too long. A signal to stop does
    nothing any more.
    """
    for number in _catchable(STOPPING):
        signal.signal(number, _no_effect)
    left = [thread.name for thread in _idle_ended(threading.enumerate())]
    threading.Thread(target=_end_after, args=(_LEAVE, code), name="redisq-leave", daemon=True).start()
    if left:
        log.warning("ending beside %d threads that handlers left: %s", len(left), ", ".join(left[:10]))
        atexit._run_exitfuncs()
        end(code)
    return code


def _idle_ended(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that hold a process up, once those have ended that had nothing to do."""
    ours = (threading.main_thread(), threading.current_thread())
    found = [thread for thread in threads if not thread.daemon or thread.name.startswith(HANDLERS)]
    until = time.monotonic() + _MOMENT
    for thread in (found := [thread for thread in found if thread not in ours]):
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in found if thread.is_alive()]


def warn_of_threads(before: set[threading.Thread]) -> None:
    """Name the threads, none of which was there `before`, that Python will wait for at the end of the process.

    Those of executors are named only while they have something to do: idle, they end by themselves.
    """
    new = [thread for thread in threading.enumerate() if not thread.daemon and thread not in before]
    left = _idle_ended([thread for thread in new if not _waits_for_work(thread)])
    if names := [thread.name for thread in left if not _waits_for_work(thread)]:
        text = "handlers left %d threads that are no daemons, and Python ends the process only after them: %s"
        log.warning(text, len(names), ", ".join(names[:10]))


def _waits_for_work(thread: threading.Thread) -> bool:
    """Return whether it is a thread of an executor that has nothing to do."""
    queue = _threads_queues.get(thread)
    if queue is None or not queue.empty():
        return False
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is None or frame.f_code is _worker.__code__


def _end_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    end(code)


def end(code: int) -> NoReturn:
    """End this process now, whatever its threads do. What was logged and printed is written, if that is soon done.

    Children of `multiprocessing` are killed: its pools' would wait for work for ever, and keep our stdout open.
    """
    with suppress(RuntimeError):  # no thread can be started any more
        last = threading.Thread(target=_last_steps, name="redisq-flush", daemon=True)
        last.start()
        last.join(_FLUSH)
    os._exit(code)


def _last_steps() -> None:
    with suppress(BaseException):  # classes of processes are the user's
        _kill_children()
    _flush()


def _kill_children() -> None:
    children = getattr(sys.modules.get("multiprocessing.process"), "active_children", list)
    for child in children():
        if child._parent_pid == os.getpid():  # a fork knows its parent's, too
            with suppress(Exception):
                child.kill()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, full, or none
            stream.flush()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        with suppress(Exception):
            reference().flush()
