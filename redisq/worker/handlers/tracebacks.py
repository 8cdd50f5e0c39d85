"""Where an exception of a handler came from, as the error of its message holds it: bounded, and never with locals.

It reads like Python's own traceback. redisq's frames are left out, and where not all of the others fit, those of the
user's own code count most, the innermost first.
"""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Iterator
from types import FrameType, TracebackType

from redisq.worker.handlers.error_text import cause_of, leaves_of, plain, text_of, type_name

_HEAD = "Traceback (most recent call last):\n"
_LINKS = {
    "caused by ": "The above exception was the direct cause of the following exception:",
    "while handling ": "During handling of the above exception, another exception occurred:",
    "": "The above exception is one of those of the following group:",
}
_OURS = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep
_LIBRARIES = (
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen",
)
_NAMES = 300  # characters of a file's name, of a function's, of a line, of an exception's text
_REPEATS = 3  # of one line that calls itself
_FRAMES = 2_000  # that are looked at: Python itself stops at 1,000 unless told otherwise
_EXCEPTIONS = 8  # that hang on one
_LEFT_OUT = 40  # bytes of a line that tells how many frames are

_Frame = tuple[FrameType, int]  # and its line


def traceback_of(error: BaseException, most: int) -> str:
    """Return the traceback of an exception and of those that hang on it, in so many bytes; "" if no frame is to show.

    What it was raised from comes before it, as Python has it, and is left out first where all of it does not fit.
    """
    try:
        return _traceback_of(error, most) if most > 0 and _frames_of(error) else ""
    except BaseException:  # RecursionError, where the handler has left no room
        return ""


def _traceback_of(error: BaseException, most: int) -> str:
    told, room = "", most
    found = list(_and_others(error, "", set()))
    for number, (link, other) in enumerate(found, 1):
        joint = f"\n{_LINKS[link]}\n\n" if told else ""
        share = room if number == len(found) else room * 2 // 3
        block = _block(other, share - len(joint))
        if not block:
            break
        told = f"{block}{joint}{told}"
        room = most - len(told.encode())
    if not told:  # the line that tells most, at least
        frames = _frames_of(error)
        told = _line(*frames[_by_weight(frames)[0]]).strip().encode()[:most].decode("utf-8", "ignore")
    return told.rstrip("\n")


def trim(error: BaseException) -> None:
    """Take the frames of redisq that called the handler out of an exception's traceback.

    They would keep it in memory, as one of them has it among its locals. If there are no others they stay.
    """
    own: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    while own is not None and _is_ours(own.tb_frame):
        own = own.tb_next
    if own is not None:
        BaseException.with_traceback(error, own)


def _and_others(error: BaseException, link: str, seen: set[int]) -> Iterator[tuple[str, BaseException]]:
    """Yield an exception, its leaves and what it was raised from, each with how it hangs on what came before."""
    if id(error) in seen or len(seen) > _EXCEPTIONS:
        return
    seen.add(id(error))
    yield link, error
    for leaf in leaves_of(error):
        yield from _and_others(leaf, "", seen)
    cause, word = cause_of(error)
    if cause is not None:
        yield from _and_others(cause, word, seen)


def _block(error: BaseException, room: int) -> str:
    """Write one exception with as many of its frames as there is room for; "" when there is none for a single one."""
    text = text_of(error, _NAMES)
    last = f"{type_name(error)}: {text}\n" if text else f"{type_name(error)}\n"
    frames = _frames_of(error)
    room -= len(_HEAD) + len(last.encode())
    chosen: dict[int, str] = {}
    for number in _by_weight(frames):
        line = _line(*frames[number])
        needed = len(line.encode()) + (_LEFT_OUT if len(chosen) < 2 else 0)
        if needed > room:
            break
        chosen[number], room = line, room - needed
    if frames and not chosen:
        return ""
    return f"{_HEAD}{_in_order(chosen, len(frames))}{last}" if frames else last


def _in_order(chosen: dict[int, str], count: int) -> str:
    lines, expected = "", 0
    for number in [*sorted(chosen), count]:
        if number > expected:
            lines += f"  ... {number - expected} frames are left out\n"
        lines += chosen.get(number, "")
        expected = number + 1
    return lines


def _by_weight(frames: list[_Frame]) -> list[int]:
    """Return the places of frames, those that tell most first: the user's own ones, the innermost first."""
    package = _package(frames[0][0]) if frames else ""
    own: list[int] = []
    others: list[int] = []
    repeats = 0
    for number in range(len(frames) - 1, -1, -1):
        frame, line = frames[number]
        after = frames[number + 1] if number + 1 < len(frames) else None
        repeats = repeats + 1 if after and after[0].f_code is frame.f_code and after[1] == line else 0
        if repeats < _REPEATS:
            (own if _package(frame) == package or not _is_library(frame) else others).append(number)
    return own + others


def _frames_of(error: BaseException) -> list[_Frame]:
    """Return the frames of an exception's traceback, the outermost first, without redisq's."""
    frames: list[_Frame] = []
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    for _ in range(_FRAMES):
        if trace is None:
            break
        if not _is_ours(trace.tb_frame):
            frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def _line(frame: FrameType, line: int) -> str:
    code = frame.f_code
    where = f'  File "{plain(code.co_filename, _NAMES)}", line {line}, in {plain(code.co_name, _NAMES)}\n'
    try:
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    except BaseException:  # of a loader of the user's
        source = ""
    return f"{where}    {plain(source, _NAMES)}\n" if source else where


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


def _is_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_LIBRARIES)


def _package(frame: FrameType) -> str:
    """Return what the module of a frame is a part of."""
    name = frame.f_globals.get("__name__")
    return name.partition(".")[0] if type(name) is str else ""
