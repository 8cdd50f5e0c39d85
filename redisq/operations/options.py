"""Arguments of operations: checked, and brought to what is sent. Pure: the time of day is passed in.

Types count: text is no number, True is none, and neither is a timedelta: times are seconds.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, TypeGuard, Unpack

from redisq.errors import InvalidArgument, InvalidMessage, RedisQError
from redisq.store import keys

#: Seconds. Beyond a year a slip of units is likelier than intent.
LONGEST = 31_536_000
HIGHEST = 9  # as in AMQP's brokers and JMS, where the larger number goes first, too
_MOST_HEADERS = 64
_HEADER_BYTES = 8192  # of all names and values, in UTF-8
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_LONGEST_KEY = 512  # characters
_SHORTEST_LIFE = 0.001  # seconds: scripts count in milliseconds, and 0 of them is for ever


class Options(TypedDict, total=False):
    """What may go with a message as it is queued: the front doors take it by name and hand it on as one thing."""

    id: str | uuid.UUID | None
    idempotency_key: str | None
    delay: float
    at: datetime | None
    expires_in: float | None
    priority: int
    headers: Mapping[str, str] | None


class Item:
    """A message of many that has options of its own: `queue_messages("orders", [Item(order, delay=60), another])`.

    It takes what `queue_message` takes by name.

    Raises:
        TypeError: there is no such option.
    """

    __slots__ = ("options", "request")

    def __init__(self, request: Any, **options: Unpack[Options]) -> None:
        _check_names(options, "Item()")
        #: what is to be queued
        self.request: Any = request
        self.options: Options = options


def of_line(document: object, headers: Mapping[str, str], *, as_item: bool) -> object:
    """Return what is queued for a JSON document: itself, or the item that it describes, each with these headers, too.

    An item's document is an object of its `request`, and of what `Item` takes by name; its own headers count more.

    Raises:
        InvalidMessage: it describes no item.
    """
    if not as_item:
        return Item(document, headers=headers) if headers else document
    if not isinstance(document, dict) or "request" not in document:
        raise InvalidMessage('An item is an object with a request: {"request": {"sku": "A-1"}, "priority": 5}')
    given = {name: value for name, value in document.items() if name != "request"}
    if given.keys() - Options.__annotations__.keys():
        names = ", ".join(f'"{name}"' for name in Options.__annotations__)
        raise InvalidMessage(f"An item has a field that is not known. Beside its request it takes {names}")
    if given.get("at") is not None:
        given["at"] = _moment(given["at"])
    if headers:
        given["headers"] = {**headers, **(headers_of(given.get("headers")) or {})}
    return Item(document["request"], **given)


def _moment(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        at = None
    if at is None or at.utcoffset() is None:
        raise InvalidMessage("at= takes a time with its zone, like 2026-12-24T18:00:00Z")
    return at


class Terms(NamedTuple):
    """The same, checked: the 16 bytes of the id, delay and life in seconds, the priority, the headers."""

    id: bytes
    delay: float
    expires_in: float | None
    priority: int
    headers: Mapping[str, str] | None


def checked(options: Options, application: str, queue: str, now: float) -> Terms:
    """Check what goes with a message of a queue, by `now`, as Unix time.

    Raises:
        InvalidMessage: something is not valid, or two exclude each other.
        TypeError: there is no such option.
    """
    if not options:  # as is usual
        return Terms(keys.new_id(), 0.0, None, 0, None)
    _check_names(options, "queue_message()")
    return Terms(
        id_of(options.get("id"), options.get("idempotency_key"), application, queue),
        delay_of(options.get("delay", 0.0), options.get("at"), now),
        life_of(options.get("expires_in")),
        priority_of(options.get("priority", 0)),
        headers_of(options.get("headers")),
    )


def _check_names(options: Options, of: str) -> None:
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"{of} got an unexpected keyword argument {min(unknown)!r}")


def delay_of(delay: object, at: object, now: float) -> float:
    """Return the seconds from `now` (Unix time) until a message is due, by `delay` or by `at`; a past `at` is due now.

    Raises:
        InvalidMessage: one of them is not valid, or both are given.
    """
    if not (is_seconds(delay) and 0 <= delay <= LONGEST):
        raise InvalidMessage("delay= takes seconds, from 0 to a year (31,536,000)")
    if at is None:
        return delay
    if delay:
        raise InvalidMessage("at= cannot go with delay=: give one of them.")
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise InvalidMessage("at= takes a datetime with a time zone: datetime(2026, 12, 24, 18, tzinfo=UTC)")
    left = at.timestamp() - now
    if not left <= LONGEST:  # nor is it NaN, as somebody's own kind of datetime may say
        raise InvalidMessage("at= takes a time at most a year ahead")
    return max(0.0, left)


def life_of(expires_in: object) -> float | None:
    """Return the seconds after which a message shall not be delivered any more, None for never.

    Raises:
        InvalidMessage: they are not valid.
    """
    if expires_in is None:
        return None
    if not (is_seconds(expires_in) and 0 < expires_in <= LONGEST):
        raise InvalidMessage("expires_in= takes seconds, more than 0, at most a year (31,536,000)")
    return max(_SHORTEST_LIFE, expires_in)


def priority_of(priority: object) -> int:
    """Return a message's priority, 0 for an ordinary one.

    Raises:
        InvalidMessage: it is not valid.
    """
    if isinstance(priority, int) and not isinstance(priority, bool) and 0 <= priority <= HIGHEST:
        return priority
    raise InvalidMessage(f"priority= takes a whole number from 0, as is usual, to {HIGHEST}, the most urgent")


def headers_of(headers: object) -> dict[str, str] | None:
    """Return a message's headers, their names in lower case; None where there are none.

    Raises:
        InvalidMessage: they are not valid.
    """
    if headers is None:
        return None
    if not isinstance(headers, Mapping) or len(headers) > _MOST_HEADERS:
        raise InvalidMessage(f'headers= takes a dict of at most {_MOST_HEADERS} names and texts: {{"tenant": "a"}}')
    found: dict[str, str] = {}
    for name, text in headers.items():
        if type(name) is not str or not _HEADER_NAME.fullmatch(name):
            raise InvalidMessage("headers= takes names of a to z, 0 to 9 and -, like tenant or trace-id")
        if type(text) is not str or not text.isprintable():
            raise InvalidMessage(f"headers= takes printable text of one line, which that of {name[:64]} is not")
        if name.lower() in found:
            raise InvalidMessage(f"headers= has {name[:64].lower()} twice: capitals do not count")
        found[name.lower()] = text
    if sum(len(name) + len(text.encode()) for name, text in found.items()) > _HEADER_BYTES:
        raise InvalidMessage(f"headers= takes at most {_HEADER_BYTES:,} bytes, names and texts together")
    return found


def id_of(id: object, idempotency_key: object, application: str, queue: str) -> bytes:
    """Return the 16 bytes of a new message's id: a random one, the caller's own, or the one that belongs to his key.

    Raises:
        InvalidMessage: one of them is not valid, or both are given.
    """
    if idempotency_key is None:
        return keys.new_id() if id is None else keys.given_id(id)
    if id is not None:
        raise InvalidMessage("idempotency_key= cannot go with id=: the key makes the id.")
    if not isinstance(idempotency_key, str) or not 1 <= len(idempotency_key) <= _LONGEST_KEY:
        raise InvalidMessage(f"idempotency_key= takes text of 1 to {_LONGEST_KEY} characters")
    try:
        return keys.derived_id(application, queue, idempotency_key)
    except UnicodeEncodeError:
        raise InvalidMessage("idempotency_key= holds half a character (a lone surrogate)") from None


def seconds_of(name: str, value: object) -> float:
    """Return an argument that is seconds, from 0 to a year.

    Raises:
        InvalidArgument: it is not.
    """
    if is_seconds(value) and 0 <= value <= LONGEST:
        return value
    raise InvalidArgument(f"{name} takes seconds, from 0 to a year ({LONGEST:,})")


def whole_of(name: str, value: object, low: int, high: int) -> int:
    """Return an argument that is a whole number within bounds.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise InvalidArgument(f"{name} takes {low:,} to {high:,}, a whole number")


def switch_of(name: str, value: object) -> bool:
    """Return an argument that is True or False: "no" would count as True.

    Raises:
        InvalidArgument: it is neither.
    """
    if isinstance(value, bool):
        return value
    raise InvalidArgument(f"{name} takes True or False")


def several(name: str, values: object, error: type[RedisQError] = InvalidArgument) -> Iterable[Any]:
    """Return an argument that is a list or any other iterable of items. A single item is refused, iterable or not.

    Raises:
        RedisQError: of the kind `error`: it is not.
    """
    one = isinstance(values, str | bytes | bytearray | memoryview | Mapping) or hasattr(type(values), "model_fields")
    if isinstance(values, Iterable) and not one:
        return values
    if isinstance(values, AsyncIterable):
        raise error(
            f"{name}= takes a list of {name}, or what a plain for loop reads: [item async for item in ...] makes one"
        )
    what = "None" if values is None else f"one {type(values).__name__}"
    raise error(f"{name}= takes a list of {name}, or another iterable, not {what}: put a single one in [ ]")


def is_seconds(value: object) -> TypeGuard[float]:
    """Return whether this is a number that may be one of seconds."""
    return isinstance(value, int | float) and not isinstance(value, bool)
