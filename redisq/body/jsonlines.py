"""JSON as files and streams bring it, taken alike over HTTP and on the command line. Pure.

A document is UTF-8, and may begin with a byte order mark, which is skipped. In a stream each line is a document; a line
ends with LF or CRLF, the last one with the stream, too; and a line of nothing but white space is no document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MARK = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"  # in JSON


class Refused(ValueError):
    """A document has what no message can hold, or says something twice."""


def unmarked(document: bytes | bytearray) -> bytes | bytearray:
    """Return a document without the byte order mark that it may begin with."""
    return document[3:] if document.startswith(_MARK) else document


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its pairs, for `json`'s `object_pairs_hook`.

    Raises:
        Refused: two have the same key, and nobody can tell which of them was meant.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("an object has the same key twice")
    return found


def is_blank(line: bytes | bytearray) -> bool:
    """Return whether a line of a stream is no document."""
    return not line or not unmarked(line).strip(_WHITE)
