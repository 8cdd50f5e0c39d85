"""What handlers of a run do beside working and failing, because users' handlers do."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

from redisq import Defer, Delivery, Retry
from tests.chaos.nemesis import DIED, Occurrence, note
from tests.chaos.part import Part

_DEFERRED = 0.2  # seconds
_DEATH = os.environ.get("CHAOS_DEATH", "")  # place:odds
_CHILD = 10.0  # seconds that a forked child lives whom nobody ends
_PATIENCE = 5.0  # seconds for one to end that was told to
_GLANCE = 0.005


class Bare(Retry):
    """Has nothing that its base's __init__ would have set."""

    def __init__(self) -> None:
        pass


class Planned(Exception):
    """The message told its handler to fail."""


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


def planned_error(do: str, attempt: int) -> Exception:
    """Give what a handler raises that was told to do so."""
    if do == "raise":
        return odd_error(attempt)
    return Defer(after=_DEFERRED) if do == "defer" else Planned(f"attempt {attempt} was told to {do}")


def told(delivery: Delivery) -> str:
    """Say what this attempt shall do: just `work` once it is beyond the first `times`."""
    body = delivery.request
    return str(body["do"]) if delivery.attempt <= body.get("times", 0) else "work"


def pass_by(place: str) -> None:
    """Die here, if the nemesis wants it: CHAOS_DEATH has the place, and in one of how many passes."""
    wanted, _, passes = _DEATH.partition(":")
    if wanted == place and random.randrange(int(passes)) == 0:
        now, part = time.monotonic_ns(), Part.mine()
        note(part.folder, Occurrence(f"{DIED} {place}", f"{part.slot}.{os.getpid()}", now, now))
        os.kill(os.getpid(), signal.SIGKILL)


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
