"""JSON as files and streams bring it, taken alike over HTTP and on the command line. Pure.

A document is UTF-8, and may begin with a byte order mark, which is skipped. In a stream each line is a document; a line
ends with LF or CRLF, the last one with the stream, too; and a line of nothing but white space is no document.
"""

from __future__ import annotations

_MARK = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"  # in JSON


def unmarked(document: bytes | bytearray) -> bytes | bytearray:
    """Return a document without the byte order mark that it may begin with."""
    return document[3:] if document.startswith(_MARK) else document


def is_blank(line: bytes | bytearray) -> bool:
    """Return whether a line of a stream is no document."""
    return not line or not unmarked(line).strip(_WHITE)
