"""Bodies of requests: of one of the types that a route takes, read up to a limit, and strictly."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from redisq.body import codec, jsonlines
from redisq.errors import InvalidMessage, MessageTooLarge
from redisq.gateway.requests.errors import BadRequest, ClientGone, HttpError
from redisq.gateway.requests.fields import values
from redisq.runtime.aside import aside

T = TypeVar("T")

JSON, MSGPACK, NDJSON = "application/json", "application/msgpack", "application/x-ndjson"

#: JSON takes more bytes than the msgpack that max_bytes counts: "\u0436" is 6 bytes of JSON and 2 of msgpack.
_TIMES = {JSON: 3, NDJSON: 3, MSGPACK: 1}
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
#: Parameters of a type; an invalid one is left out, as behind a semicolon at the end (RFC 9110, section 5.6.6).
_PARAMETER = rf"[ \t]*+;[ \t]*+(?:({_WORD})=({_WORD}|{_QUOTED}))?+"
_PARAMETERS, _ONE = re.compile(rf"(?:{_PARAMETER})*+[ \t]*+"), re.compile(_PARAMETER)
_UTF_8 = frozenset({"utf-8", "utf8"})
_HEADROOM = 16 * 1024  # bytes, for white space
_SMALL = 32 * 1024  # bytes of a body that is parsed at once
_MOST_ITEMS = codec.MAX_ITEMS + 16  # of a message, and of what goes around it


def header(scope: Scope, name: bytes) -> str | None:
    """Return the only header of a name, None when there is none.

    Raises:
        BadRequest: there are two.
    """
    found = values(scope, name)
    if len(found) > 1:
        raise BadRequest(f"There are two headers {name.decode('ascii')}.")
    return str(found[0], "latin-1") if found else None


def type_of(scope: Scope, *accepted: str) -> str:
    """Return the type of the request's body, one of those that the route accepts.

    Raises:
        HttpError: it is another one, or it is encoded in some way.
    """
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.lower() not in ("", "identity"):
        raise _unsupported("The body must not be encoded: send it without Content-Encoding.", accepted)
    given = header(scope, b"content-type") or ""
    if given not in accepted:
        kind, mark, rest = given.partition(";")
        kind, charsets = kind.strip(" \t").lower(), _charsets(mark + rest)
        if kind not in accepted or charsets is None or not charsets <= (_UTF_8 if kind != MSGPACK else frozenset()):
            raise _unsupported(f"The body must be {' or '.join(accepted)}, as its Content-Type says.", accepted)
        return kind
    return given


def _charsets(parameters: str) -> set[str] | None:
    """Return each charset that a type's parameters name, in lower case, None where they are malformed.

    Others say nothing that matters here.
    """
    if not _PARAMETERS.fullmatch(parameters):
        return None
    found = [(name.lower(), value) for name, value in _ONE.findall(parameters)]
    return {value.strip('"').replace("\\", "").lower() for name, value in found if name == "charset"}


def _unsupported(text: str, accepted: Sequence[str]) -> HttpError:
    return HttpError(415, "unsupported_media_type", text, {"Accept": ", ".join(accepted)})


def limit_of(kind: str, max_bytes: int) -> int:
    """Return how many bytes a body of a type may have, for a message of at most `max_bytes`."""
    return max_bytes * _TIMES[kind] + _HEADROOM


class Body:
    """A request's body, read in pieces: no more of it is held than the limit."""

    def __init__(self, request: Request, limit: int) -> None:
        self._request = request
        self.limit = limit
        length = header(request.scope, b"content-length")
        self.length = int(length) if length and length.isascii() and length.isdecimal() and len(length) < 16 else None

    async def whole(self) -> bytes:
        """Read all of it.

        Raises:
            MessageTooLarge: it has more bytes than the limit, or says so.
            ClientGone: it was never whole.
        """
        if (self.length or 0) > self.limit:
            raise too_large(self.limit)
        parts: list[bytes] = []
        size, more, receive = 0, True, self._request.receive
        while more:  # as `pieces`, whose generator would take as long as all the rest
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size > self.limit:
                raise too_large(self.limit)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Read it as it comes, without a limit to the whole."""
        receive, more = self._request.receive, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if part := message.get("body", b""):
                yield part


async def empty(request: Request) -> None:
    """Read the body of a request that has none.

    Raises:
        BadRequest: it has one.
    """
    async for _ in Body(request, 0).pieces():
        raise BadRequest("The request takes no body.")


def too_large(limit: int) -> MessageTooLarge:
    """Say that a body is larger than what is read of it."""
    return MessageTooLarge(f"The body has more than {limit:,} bytes. Send a reference to its data, or raise max_bytes.")


async def parsed(raw: bytes, parse: Callable[[bytes], T]) -> T:
    """Parse a body, beside the event loop where that may take long."""
    return parse(raw) if len(raw) <= _SMALL else await aside(partial(parse, raw))


def parse(kind: str, raw: bytes) -> Any:
    """Read a message.

    Raises:
        InvalidMessage: it is malformed, or says something twice.
    """
    if kind != MSGPACK:
        return parse_json(raw)
    codec.check_extent(raw)
    return codec.decode(raw)


def parse_json(raw: bytes) -> Any:
    """Read a JSON document, in UTF-8.

    Raises:
        InvalidMessage: it is no JSON, or has a key twice, or NaN, or what no message can hold.
    """
    _check_extent(raw)
    try:
        return _JSON.decode(jsonlines.unmarked(raw).decode())
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " * (error.lineno > 1)
        raise InvalidMessage(f"The body is not JSON ({error.msg}, {line}column {error.colno}).") from None
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"The body is not UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise InvalidMessage("The body is nested too deeply.") from None
    except jsonlines.Refused as error:  # a repeated key; NaN
        raise InvalidMessage(f"The body cannot be read: {error}.") from None
    except ValueError:  # of thousands of digits
        raise InvalidMessage("The body cannot be read: a number in it is far too long.") from None


def _check_extent(raw: bytes) -> None:
    """Refuse a document of more elements and keys than a message has, before a million objects are made of it."""
    if len(raw) <= _MOST_ITEMS or _items(raw) <= _MOST_ITEMS:
        return
    outside = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    texts = outside.count(b'"') // 2
    if texts > 2 * _MOST_ITEMS or _items(b"".join(outside.split(b'"')[::2])) > _MOST_ITEMS:
        raise codec.too_many_items()


def _items(raw: bytes) -> int:
    """Count what a document has at least, when none of it is text: each comma parts two, each bracket begins one."""
    return max(raw.count(b","), raw.count(b"[") + raw.count(b"{"))


def whole(value: Any) -> Any:
    """Take 3.0 for the whole number that it is in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse(name: str) -> NoReturn:
    raise jsonlines.Refused(f"{name} is no JSON")


_JSON = json.JSONDecoder(object_pairs_hook=jsonlines.unique, parse_constant=_refuse)
