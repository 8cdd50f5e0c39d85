"""The text of a token, `rq1.<kid>.<payload>[.<caveat>...].<tag>`, written one way and read no other.

Everything that could be spelled in two ways is refused: lax base64 (padding, stray characters, unused bits), doubled
JSON keys, numbers that are not whole. The size is checked before anything is decoded; the caller checks the tag before
anything is parsed.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

from redisq.errors import InvalidToken

MAX_TOKEN_BYTES = 2048
MAX_CAVEATS = 8

KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
KEY_BYTES = 32  # exactly: to HMAC a key and the key + b"\0" are the same

VERSION = "rq1"
_ONE_CASE = re.compile(r"[a-z_-]+|[A-Z_-]+")
_MAX_DEPTH = 4  # objects and lists inside each other


class Parts(NamedTuple):
    """A token's parts, still base64url: `sealed` is the payload, then the caveats."""

    kid: str
    sealed: list[str]
    tag: str


_REMEDIES = {
    "not_yet": "it is not valid yet: the clock of the machine that made it is ahead of this one. Set both by NTP.",
    "unknown_key": "it was signed with another secret than this process' REDISQ_APP_SECRET.",
    "app": "it was made for another application than this process' REDISQ_APP_ID.",
    "bad_mac": "it was changed after it was made.",
    "audience": "it was made for another REDISQ_NAMESPACE or REDISQ_AUDIENCE than this process has.",
    "version": "redisq's tokens begin with rq1; this is none, or one of a later redisq.",
    "revoked": "it was revoked, or its application was disabled. Ask who runs the gateway.",
    "malformed": "it is no whole token of redisq. Was it cut when it was copied?",
}


def refuse(reason: str) -> NoReturn:
    """Raise InvalidToken, without the cause: it could quote the token."""
    remedy = _REMEDIES.get(reason, "Make a new one: `redisq token create`.")
    raise InvalidToken(f"The token is not valid ({reason}): {remedy}", reason) from None


def encode(raw: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Read what `encode` wrote, and nothing else.

    Raises:
        ValueError: `encode` would have written these bytes differently, or never writes such a text.
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def read_secret(version: str, text: object) -> tuple[str, bytes] | None:
    """Read `<version>.<key id>.<key>`; None for anything else."""
    try:
        begins, kid, key = str.split(text, ".")  # type: ignore[arg-type]
        return (kid, decode(key)) if begins == version else None
    except (TypeError, ValueError):
        return None


def seal(value: dict[str, Any]) -> str:
    """Write a payload or a caveat."""
    return encode(json.dumps(value, separators=(",", ":")).encode())


def join(kid: str, sealed: Iterable[str], tag: bytes) -> str:
    """Write a token.

    Raises:
        ValueError: it would be too large.
    """
    token = ".".join([VERSION, kid, *sealed, encode(tag)])
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(f"a token has at most {MAX_TOKEN_BYTES} bytes: name fewer queues, or use a prefix")
    return token


def split(token: object) -> Parts:
    """Take a token apart, decoding nothing.

    Raises:
        InvalidToken: malformed, too_large, version.
    """
    if not isinstance(token, str) or not token:
        refuse("malformed")
    if len(token) > MAX_TOKEN_BYTES:
        refuse("too_large")
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        refuse("malformed")
    version, *parts = token.split(".")
    if version != VERSION:
        refuse("version" if version else "malformed")
    if not 3 <= len(parts) <= 3 + MAX_CAVEATS:
        refuse("malformed")
    kid, *sealed, tag = parts
    if not KID.fullmatch(kid):
        refuse("malformed")
    return Parts(kid, sealed, tag)


def decode_all(texts: Sequence[str]) -> list[bytes]:
    """Decode parts of a token, none of which may be empty.

    Raises:
        InvalidToken: malformed.
    """
    try:
        parts = [decode(text) for text in texts]
    except ValueError:
        refuse("malformed")
    if not all(parts):
        refuse("malformed")
    return parts


def parse(raw: bytes) -> dict[str, Any]:
    """Read the JSON object of a payload or a caveat.

    Raises:
        InvalidToken: malformed.
    """
    try:
        value = _JSON.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # an int of too many digits is a ValueError too
        refuse("malformed")
    if not isinstance(value, dict) or _is_deeper(value, _MAX_DEPTH):
        refuse("malformed")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _not_whole(_number: str) -> None:
    """Read 1.5, 1e400, NaN and Infinity as null, which no claim and no caveat accepts."""


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=_not_whole, parse_constant=_not_whole)


def _is_deeper(value: object, levels: int) -> bool:
    """Return whether a value has more than this many levels of objects and lists, looking no deeper than that."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def mac(key: bytes, kid: str, sealed: Sequence[str]) -> bytes:
    """Return the tag of a token: over its key id and payload as written, then chained over its caveats."""
    payload, *caveats = sealed
    tag = hmac.digest(key, length_prefixed("redisq.token.v1", kid, payload), "sha256")
    for caveat in caveats:
        tag = chain(tag, caveat)
    return tag


def chain(tag: bytes, caveat: str) -> bytes:
    """Return the tag after one more caveat: the tag before is the key."""
    return hmac.digest(tag, length_prefixed(caveat), "sha256")


def length_prefixed(*texts: str) -> bytes:
    """Join texts so that no other texts give the same bytes: each after its length in 4 bytes, big end first."""
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in (text.encode() for text in texts))


def hkdf(secret: bytes, *, info: bytes, salt: bytes = b"", length: int = 32) -> bytes:
    """Derive a key for one purpose, named by `info`, from a secret: HKDF-SHA256, RFC 5869."""
    extracted = hmac.digest(salt, secret, "sha256")
    output = block = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


def is_key(value: object) -> bool:
    """Return whether this is 32 bytes, not visibly made up; beside each test, how likely a random key fails it."""
    if not isinstance(value, bytes) or len(value) != KEY_BYTES:
        return False
    steps = {(after - before) % 256 for before, after in pairwise(value)}
    return (
        len(set(value)) >= 17  # 2e-15; not one byte or a short word, repeated
        and len(steps) >= 17  # 3e-14; not 0, 1, 2, 3, ...
        and not all(0x20 <= byte <= 0x7E for byte in value)  # 2e-14; not a passphrase, nor hex digits
        and not _ONE_CASE.fullmatch(encode(value))  # 7e-16; nor a passphrase instead of the base64url text
    )
