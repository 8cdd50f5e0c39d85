"""Message bodies as bytes: requests, results and errors, under the same limits on the way in and on the way out.

A body is None, bool, int, float, str, bytes, an aware datetime, or a list, tuple or dict of these: at most MAX_DEPTH
containers one inside the other, and MAX_ITEMS list elements and map keys in total. Integers fit 64 signed bits, floats
are finite, text is valid Unicode, keys are text. Types count exactly: a subclass (a defaultdict, a named tuple) would
come back as something else, so it is refused. What comes out equals what went in, with two changes: a tuple comes out
as a list, and a datetime in UTC. Values of a few further types are written as pydantic's JSON mode writes them, and
come out as that: see `typed`.

The bytes are msgpack, and a value has exactly one encoding: `decode` takes only the very bytes that `encode` writes.
That one comparison refuses repeated keys and numbers in a longer form than needed, and because of it whatever was
decoded can be encoded again.

A request travels in an envelope. Headers cost nothing where there are none:

    01 <request>                                  01 is the version
    01 c1 <length, 2 bytes> <headers> <request>   c1 begins no msgpack value

They do not tell one message from another: an envelope has the digest of the same one without headers.

An error names the place, `$.items[3].price`, and what is wrong there. It never shows a value.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

from redisq.errors import InvalidMessage, MessageTooLarge

ENVELOPE_VERSION = 1
DEFAULT_MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_ITEMS = 100_000
MAX_HEADER_BYTES = 0xFFFF  # the most that two length bytes can say

_HEADERS_FOLLOW = 0xC1
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_CONTAINERS = frozenset({dict, list, tuple})
_SCALARS = frozenset({type(None), bool, int, float, str, bytes, datetime})
_BASES = (str, int, float, bytes, list, tuple, dict, datetime)
_SHOWN_KEY_LENGTH = 64  # a key can be as long as the message; an error's path should not

# Room for an array's declared length is set aside before its elements are read: hence max_array_len.
_unpack = partial(msgpack.unpackb, timestamp=3, max_array_len=MAX_ITEMS)

# A place in a message: the place of the list or map that holds it, and the index or key there. None is the message.
Place: TypeAlias = "tuple[Place, int | str] | None"

#: Typed values by their `id`, with what each is written as.
_Written: TypeAlias = dict[int, tuple[object, object]]
_NONE_WRITTEN: _Written = {}  # stays so


def encode(value: object, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """Turn a value into at most max_bytes of msgpack.

    Raises: InvalidMessage, its `path` the place that cannot be encoded; MessageTooLarge.
    """
    try:
        written = _check(value, max_bytes)
        # A new packer each time (100 ns more than a shared one): a shared one could be entered twice, by two threads
        # or by a finalizer that runs while it packs, and would mix up the two messages.
        packer = msgpack.Packer(datetime=True) if not written else _packer_of(written)
        data: bytes = packer.pack(value)
    except InvalidMessage:
        raise
    except Exception as error:  # RuntimeError, for one: another thread changed a dict meanwhile
        raise InvalidMessage(f"The message could not be read to its end: {type(error).__name__}.") from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def decode(data: bytes, max_bytes: int | None = None) -> Any:
    """Turn bytes that `encode` wrote back into the value; of any size if max_bytes is None.

    Raises: InvalidMessage for bytes that `encode` could not have written; MessageTooLarge.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise _too_large(max_bytes)
    try:
        value = _unpack(data)
    except Exception:  # ValueError, OverflowError, TypeError, RecursionError, ...: whichever, it is no message
        raise _unreadable() from None
    if encode(value, max_bytes=sys.maxsize) != data:
        raise _foreign_encoding(data)
    return value


def check_extent(data: bytes) -> None:
    """Refuse a stranger's bytes of more list elements and map keys than a message has, before all of it is made.

    Raises: InvalidMessage; for bytes that are not msgpack as well.
    """
    if len(data) <= MAX_ITEMS:  # each takes a byte at least
        return
    items = 0

    def count(container: Sequence[object]) -> None:
        nonlocal items
        items += len(container)
        if items > MAX_ITEMS:
            raise _TooMany

    try:
        _unpack(data, max_map_len=MAX_ITEMS, list_hook=count, object_pairs_hook=count)
    except _TooMany:
        raise too_many_items() from None
    except Exception:
        raise _unreadable() from None


class _TooMany(Exception):
    """There are more elements than a message may have."""


def too_many_items() -> InvalidMessage:
    """Say that a message has too many list elements and map keys."""
    return InvalidMessage(f"The message has more than {MAX_ITEMS:,} list elements and map keys; split it.")


def _unreadable() -> InvalidMessage:
    return InvalidMessage(
        "These bytes are not a message that redisq wrote: they are damaged, cut short or beyond its limits."
    )


def encode_request(
    value: object, max_bytes: int = DEFAULT_MAX_BYTES, headers: Mapping[str, str] | None = None
) -> bytes:
    """Put a request and its headers into an envelope.

    max_bytes counts the msgpack bytes of the request alone, `len(encode(value))`; neither the version byte nor the
    headers, which may take MAX_HEADER_BYTES of their own. Empty headers are the same as none.

    Raises: InvalidMessage, MessageTooLarge.
    """
    request = encode(value, max_bytes)
    if not headers:
        return b"%c%b" % (ENVELOPE_VERSION, request)
    packed = _encode_headers(headers)
    return b"%c%c%b%b%b" % (ENVELOPE_VERSION, _HEADERS_FOLLOW, len(packed).to_bytes(2, "big"), packed, request)


def decode_request(data: bytes) -> tuple[Any, dict[str, str]]:
    """Take the request and the headers, in this order, out of an envelope.

    Raises: InvalidMessage for bytes that `encode_request` could not have written, a newer redisq's among them.
    """
    if not data:
        raise InvalidMessage("There is no message: its envelope is empty.")
    if data[0] != ENVELOPE_VERSION:
        raise InvalidMessage(
            f"A newer redisq wrote this message: its envelope has version {data[0]}, and only version"
            f" {ENVELOPE_VERSION} is known here. Upgrade redisq."
        )
    if len(data) > 1 and data[1] == _HEADERS_FOLLOW:
        end = _end_of_headers(data)
        return decode(data[end:]), _decode_headers(data[4:end])
    return decode(data[1:]), {}


def digest(body: bytes) -> bytes:
    """Fingerprint an envelope in 8 bytes: the order of a map's keys counts, headers do not."""
    if len(body) > 1 and body[1] == _HEADERS_FOLLOW:
        body = body[:1] + body[_end_of_headers(body) :]
    return blake2b(body, digest_size=8).digest()


def _end_of_headers(envelope: bytes) -> int:
    return 4 + int.from_bytes(envelope[2:4], "big")


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    if not _are_headers(headers):
        raise InvalidMessage("The names and the values of headers must be str.")
    try:
        return encode(dict(headers), MAX_HEADER_BYTES)
    except InvalidMessage:  # its path would look like one in the request
        raise InvalidMessage(f"The headers must be valid Unicode, at most {MAX_HEADER_BYTES:,} bytes of it.") from None


def _decode_headers(data: bytes) -> dict[str, str]:
    try:
        headers = decode(data)
    except InvalidMessage:
        headers = None
    if type(headers) is not dict or not headers or not _are_headers(headers):
        raise InvalidMessage("The message's envelope has headers that redisq did not write.")
    return headers


def _are_headers(headers: Mapping[Any, Any]) -> bool:
    return all(type(name) is str and type(text) is str for name, text in headers.items())


def _check(value: Any, max_bytes: int) -> _Written:
    """Refuse a value that cannot be encoded, or surely not in max_bytes; return what its typed values are written as.

    This comes before packing, which would unroll a value that holds itself, or one long text a million times. Text and
    bytes count towards max_bytes with their length, never more than their encoded size.
    """
    written = _NONE_WRITTEN
    if type(value) not in _CONTAINERS:
        if type(value) not in _SCALARS:
            written = {}
            value = _write(value, None, written)
        if type(value) not in _CONTAINERS:
            _check_scalar(value, None)
            return written
    items, room = MAX_ITEMS, max_bytes
    smallest, largest, isfinite = _MIN_INT, _MAX_INT, math.isfinite
    waiting: list[tuple[Any, Place, int]] = [(value, None, 1)]
    while waiting:
        container, place, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _refusal(place, f"lists and maps go deeper than {MAX_DEPTH} levels; flatten them, or break a cycle")
        items -= len(container)
        if items < 0:
            raise too_many_items()
        is_map = type(container) is dict
        if is_map:
            room -= _check_keys(container, place)
        for step, item in container.items() if is_map else enumerate(container):
            kind = type(item)
            # The usual scalars pass right here: a call for each of them would double the time.
            if kind is str and item.isascii():
                room -= len(item)
            elif (kind is int and smallest <= item <= largest) or (kind is float and isfinite(item)):
                pass
            elif kind in _CONTAINERS:
                waiting.append((item, (place, step), depth + 1))
            elif kind in _SCALARS:
                room -= _check_scalar(item, (place, step))
            else:
                written = written or {}
                if type(plain := _write(item, (place, step), written)) in _CONTAINERS:
                    waiting.append((plain, (place, step), depth + 1))
                else:
                    room -= _check_scalar(plain, (place, step))
        if room < 0:
            raise _too_large(max_bytes)
    return written


def _write(item: Any, place: Place, written: _Written) -> Any:
    """Return what a typed value is written as, and note it: the packer is to pack what was checked."""
    if id(item) not in written:
        from redisq.body import typed  # here, as it loads pydantic, which nobody needs who sends plain values

        if not typed.is_taken(type(item)):
            raise _refusal(place, _unsupported(type(item)))
        try:
            written[id(item)] = item, typed.written(item)  # with the value itself, that its id stays its own
        except Exception as error:  # pydantic's, a serializer's of the user's own: its text may quote the value
            name = type(item).__name__
            raise _refusal(place, f"{name} could not be made JSON: {type(error).__name__}") from None
    return written[id(item)][1]


def _packer_of(written: _Written) -> Any:
    """Return a packer that packs typed values as they are written, those also that are a kind of str or int."""

    def plain(item: Any) -> Any:
        return list(item) if type(item) is tuple else written[id(item)][1]

    return msgpack.Packer(datetime=True, strict_types=True, default=plain)


def _check_keys(container: dict[Any, Any], place: Place) -> int:
    """Refuse keys that are not valid text; give their length in total."""
    length = 0
    for key in container:
        if type(key) is not str:
            raise _refusal(place, f"a key of the map is {type(key).__name__}; make it a str")
        if not key.isascii():
            _check_text(key, (place, key))
        length += len(key)
    return length


def _check_scalar(item: Any, place: Place) -> int:
    """Refuse what cannot be encoded and is no container; give the length of text and bytes."""
    kind = type(item)
    if item is None or kind is bool:
        return 0
    if kind is str:
        _check_text(item, place)
        return len(item)
    if kind is bytes:
        return len(item)
    if kind is int:
        if not _MIN_INT <= item <= _MAX_INT:
            raise _refusal(place, "the int does not fit 64 signed bits; send it as str")
    elif kind is float:
        if not math.isfinite(item):
            raise _refusal(place, "the float is NaN or infinite; send None or a str in its stead")
    elif kind is datetime:
        _check_datetime(item, place)
    else:
        raise _refusal(place, _unsupported(kind))
    return 0


def _check_text(text: str, place: Place) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refusal(place, "the text has a lone surrogate, which is not Unicode; replace it") from None


def _check_datetime(moment: datetime, place: Place) -> None:
    try:
        naive = moment.utcoffset() is None
        if not naive:
            moment.astimezone(UTC)
    except Exception:  # OverflowError at the ends of the calendar, or anything that a tzinfo of the caller's raises
        raise _refusal(place, "the datetime has no UTC time in the years 1 to 9999; correct it") from None
    if naive:
        raise _refusal(place, "the datetime is naive; give it a timezone, as datetime.now(UTC) has")


def _unsupported(kind: type) -> str:
    for base in _BASES:
        if issubclass(kind, base):
            return f"{kind.__name__} is a subclass of {base.__name__}; convert it to a plain {base.__name__}"
    return (
        f"{kind.__name__} cannot be sent; convert it to None, bool, int, float, str, bytes, datetime, list or dict, or"
        " to a pydantic model, a dataclass, UUID, Decimal, Enum or date"
    )


def _foreign_encoding(data: bytes) -> InvalidMessage:
    """Return why bytes that can be read are not the ones that `encode` writes."""
    place = _repeated_key(data)
    if place is not None:
        return _refusal(place, "the map has this key more than once; write it once")
    return InvalidMessage("The message is not in the one encoding that redisq writes; encode it with redisq.")


class _Pairs(list[tuple[str, Any]]):
    """A map as it was written, repeated keys included."""


def _repeated_key(data: bytes) -> Place:
    """Find a key that its map has twice. Takes only what `decode` could unpack, but any depth of it."""
    waiting: list[tuple[Any, Place]] = [(_unpack(data, object_pairs_hook=_Pairs), None)]
    while waiting:
        node, place = waiting.pop()
        if type(node) not in (_Pairs, list):
            continue
        seen: set[int | str] = set()
        for step, item in node if type(node) is _Pairs else enumerate(node):
            if step in seen:
                return place, step
            seen.add(step)
            waiting.append((item, (place, step)))
    return None


def _too_large(max_bytes: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"The message takes more than {max_bytes:,} bytes; send a reference to its data or raise the queue's max_bytes."
    )


def _refusal(place: Place, problem: str) -> InvalidMessage:
    path = path_of(place)
    return InvalidMessage(f"{path}: {problem}.", path=path)


def path_of(place: Place) -> str:
    """Write a place as JSONPath, in ASCII but for identifiers; long keys are cut."""
    steps: list[str] = []
    while place is not None:
        place, step = place
        if isinstance(step, int):
            steps.append(f"[{step}]")
        else:
            key = step if len(step) <= _SHOWN_KEY_LENGTH else step[:_SHOWN_KEY_LENGTH] + "..."
            steps.append(f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]")
    return "$" + "".join(reversed(steps))
