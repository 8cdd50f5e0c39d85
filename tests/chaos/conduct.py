"""What handlers of a run do beside working and failing, because users' handlers do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

from redisq import Retry

_CHILD = 10.0  # seconds that a forked child lives whom nobody ends
_PATIENCE = 5.0  # seconds for one to end that was told to
_GLANCE = 0.005


class Bare(Retry):
    """Has nothing that its base's __init__ would have set."""

    def __init__(self) -> None:
        pass


class Mute(Exception):
    """Would end the process of whoever wants to read it."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Undecided(Retry):
    """Does not say when."""

    @property
    def after(self) -> float:  # type: ignore[override]
        raise KeyError("after")

    def __init__(self) -> None:
        pass


def odd_error(attempt: int) -> Exception:
    """Give another one on each of the first three attempts."""
    return (Bare, Mute, Undecided)[(attempt - 1) % 3]()


def end_a_child() -> None:
    """Fork a child and end it by SIGTERM, as pools end theirs: it is for the child alone."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(_CHILD,), daemon=True)
    child.start()
    child.terminate()
    child.join(_PATIENCE)
    if child.is_alive():
        child.kill()
        child.join()


def is_forked_child() -> bool:
    """Fork a child, who is told so and may not go on as a second worker; the parent waits until it has ended."""
    child = os.fork()
    if child == 0:
        return True
    end = time.monotonic() + _PATIENCE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(_GLANCE)
    return False
