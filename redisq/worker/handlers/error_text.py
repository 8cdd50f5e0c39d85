"""What an exception of a handler says as the error of its message.

An exception's own code may fail here, or raise what ends a process; that must not keep the message from its outcome. So
everything that belongs to the user is read behind a fence, and what is read is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_TYPE_TEXT = 200  # characters of a type's name that are kept
_ERROR_TEXT = 2_000  # characters of an exception's own text
_OTHER_TEXT = 300  # characters of each other one that it names
_NAMED = 20  # others at most
_LEVELS = 8  # of groups in groups, and of causes of causes
_ERROR_BYTES = 8_000  # of all of it


def error_of(error: BaseException) -> dict[str, str]:
    """Describe a handler's exception as the message's error: its type, and its text cut and made valid Unicode.

    After its own text come the leaves of a group, what it was raised from, and its notes.
    """
    try:
        text = " | ".join([text_of(error), *_others(error)])
    except BaseException as broken:  # RecursionError, where the handler has left no room
        text = f"The exception could not be read: {type_name(broken)}."
    return {"type": type_name(error), "message": text.encode()[:_ERROR_BYTES].decode("utf-8", "ignore")}


def type_name(value: object) -> str:
    """Name the type of an object, whatever its metaclass makes of names."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return plain(name, _TYPE_TEXT)


def text_of(error: BaseException, most: int = _ERROR_TEXT) -> str:
    """Return the first characters of an exception's text, as valid Unicode."""
    try:
        return plain(str(error), most)
    except BaseException as broken:
        return f"The exception has no text: its __str__ raised {type_name(broken)}."


def plain(text: str, most: int) -> str:
    """Cut a text, also one of a class of the user's own, and make it valid Unicode."""
    return str.__getitem__(text, slice(most)).encode("utf-8", "replace").decode("utf-8")


def _others(error: BaseException) -> list[str]:
    found: list[str] = []
    for text in _trail(error, {id(error)}, 1):
        if len(found) == _NAMED:
            return [*found, "..."]
        found.append(text)
    return found


def _trail(error: BaseException, seen: set[int], level: int) -> Iterator[str]:
    """Name what hangs on an exception: leaves, then causes, then notes. One that was `seen` is not named again."""
    for leaf in leaves_of(error):
        yield from _named("", leaf, seen, level)
    cause, word = cause_of(error)
    if cause is not None:
        yield from _named(word, cause, seen, level)
    for note in _notes_of(error):
        yield f"note: {note}"


def _named(word: str, error: BaseException, seen: set[int], level: int) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    if word or not _is_group(error):
        text = text_of(error, _OTHER_TEXT)
        yield f"{word}{type_name(error)}: {text}" if text else f"{word}{type_name(error)}"
    if level < _LEVELS:
        yield from _trail(error, seen, level + 1)


def _is_group(error: BaseException) -> bool:
    return issubclass(type(error), BaseExceptionGroup)


def leaves_of(error: BaseException) -> tuple[BaseException, ...]:
    if not _is_group(error):
        return ()
    found: tuple[BaseException, ...] = _read(lambda: BaseExceptionGroup.__dict__["exceptions"].__get__(error), ())
    return found[: _NAMED + 1]


def cause_of(error: BaseException) -> tuple[BaseException | None, str]:
    """Return what an exception was raised from, or else while; by what Python keeps, whatever its class says of it."""
    kept = BaseException.__dict__
    cause: BaseException | None = kept["__cause__"].__get__(error)
    if cause is not None:
        return cause, "caused by "
    context: BaseException | None = kept["__context__"].__get__(error)
    return (None, "") if kept["__suppress_context__"].__get__(error) else (context, "while handling ")


def _notes_of(error: BaseException) -> list[str]:
    notes: Any = _read(lambda: getattr(error, "__notes__", ()), ())
    if type(notes) not in (list, tuple):
        return []
    return [plain(note, _OTHER_TEXT) for note in notes[: _NAMED + 1] if issubclass(type(note), str)]


def _read(read: Callable[[], Any], otherwise: Any) -> Any:
    """Read something of the user's, or do without it."""
    try:
        return read()
    except BaseException:
        return otherwise
