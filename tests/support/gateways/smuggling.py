"""Pairs of requests that two servers could cut apart in different places: the first is none, the second its stowaway.

FIRST and SECOND stand for paths.
"""

from __future__ import annotations

_SECOND = b"GET SECOND HTTP/1.1\r\nHost: gateway\r\n\r\n"
_TE = b"Transfer-Encoding: chunked"


def _post(*fields: bytes, body: bytes = b"", line: bytes = b"POST FIRST HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: gateway", *fields, b"", b""]) + body + _SECOND


def _chunked(body: bytes) -> bytes:
    return _post(_TE, body=body)


_END = b"0\r\n\r\n"
_FIVE = b"5\r\nhello\r\n"

PAIRS: dict[str, bytes] = {
    # two lengths
    "length and chunked": _post(b"Content-Length: 5", _TE, body=_END),
    "chunked and length": _post(_TE, b"Content-Length: 5", body=_END),
    "length twice": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "two lengths": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "list of lengths": _post(b"Content-Length: 5, 5", body=b"hello"),
    "length of another case twice": _post(b"Content-Length: 5", b"content-LENGTH: 0", body=b"hello"),
    # lengths that are no numbers
    "length with a plus": _post(b"Content-Length: +5", body=b"hello"),
    "length with a minus": _post(b"Content-Length: -5", body=b"hello"),
    "length with leading zeros": _post(b"Content-Length: 005", body=b"hello"),
    "length in hex": _post(b"Content-Length: 0x5", body=b"hello"),
    "length with a space within": _post(b"Content-Length: 5 0", body=b"hello"),
    "length with an underscore": _post(b"Content-Length: 1_0", body=b"hello"),
    "length with a point": _post(b"Content-Length: 5.0", body=b"hello"),
    "length of nothing": _post(b"Content-Length:", body=b"hello"),
    "length beyond 64 bits": _post(b"Content-Length: 18446744073709551621", body=b"hello"),
    "length of 16 digits": _post(b"Content-Length: 9007199254740993", body=b"hello"),
    "length in other digits": _post("Content-Length: \u0665".encode(), body=b"hello"),
    # other codings
    "xchunked": _post(b"Transfer-Encoding: xchunked", body=_END),
    "gzip and chunked": _post(b"Transfer-Encoding: gzip, chunked", body=_END),
    "chunked and identity": _post(b"Transfer-Encoding: chunked, identity", body=_END),
    "chunked and chunked": _post(b"Transfer-Encoding: chunked, chunked", body=_END),
    "identity": _post(b"Transfer-Encoding: identity", body=_END),
    "coding twice": _post(_TE, b"Transfer-Encoding: identity", body=_END),
    "chunked twice": _post(_TE, _TE, body=_END),
    "chunked quoted": _post(b'Transfer-Encoding: "chunked"', body=_END),
    "chunked with a parameter": _post(b"Transfer-Encoding: chunked;q=1", body=_END),
    "chunked after a vertical tab": _post(b"Transfer-Encoding: \x0bchunked", body=_END),
    "chunked in capitals and a length": _post(b"Transfer-Encoding: CHUNKED", b"Content-Length: 5", body=_END),
    "chunked in capitals twice": _post(b"Transfer-Encoding: CHUNKED", b"transfer-encoding: Chunked", body=_END),
    "chunked in capitals in HTTP/1.0": _post(b"Transfer-Encoding: Chunked", body=_END, line=b"POST FIRST HTTP/1.0"),
    "coding of nothing": _post(b"Transfer-Encoding:", body=_END),
    "chunked in HTTP/1.0": _post(_TE, body=_END, line=b"POST FIRST HTTP/1.0"),
    # lines
    "space before a colon": _post(b"Transfer-Encoding : chunked", body=_END),
    "tab before a colon": _post(b"Content-Length\t: 5", body=b"hello"),
    "folded line": _post(b"X: a", b" Content-Length: 5", body=b"hello"),
    "folded coding": _post(b"Transfer-Encoding:", b" chunked", body=_END),
    "first line folded": b"POST FIRST HTTP/1.1\r\n Host: gateway\r\nHost: gateway\r\n\r\n" + _SECOND,
    "bare LF after a field": _post(b"X: a\nContent-Length: 5", body=b"hello"),
    "bare LF everywhere": _post(b"Content-Length: 0").replace(b"\r\n", b"\n"),
    "bare LF at the end": b"POST FIRST HTTP/1.1\r\nHost: gateway\r\n\n" + _SECOND,
    "bare CR in a field": _post(b"X: a\rContent-Length: 5", body=b"hello"),
    "bare CR at the end": b"POST FIRST HTTP/1.1\r\nHost: gateway\r\n\r" + _SECOND,
    "two CR before a LF": _post(b"X: a\r", b"Content-Length: 5", body=b"hello"),
    "field without a colon": _post(b"Content-Length 5", body=b"hello"),
    "field without a name": _post(b": 5", body=b"hello"),
    # characters
    "NUL in a value": _post(b"X: a\0b"),
    "control character in a value": _post(b"X: a\x01b"),
    "DEL in a value": _post(b"X: a\x7fb"),
    "NUL in a name": _post(b"Content-Length\0: 5", body=b"hello"),
    "bracket in a name": _post(b"[Content-Length]: 5", body=b"hello"),
    "byte beyond ASCII in a name": _post(b"Content-Length\xa0: 5", body=b"hello"),
    # chunks
    "chunk size with 0x": _chunked(b"0x5\r\nhello\r\n" + _END),
    "chunk size with a plus": _chunked(b"+5\r\nhello\r\n" + _END),
    "chunk size with a minus": _chunked(b"-1\r\n" + _END),
    "chunk size after a space": _chunked(b" 5\r\nhello\r\n" + _END),
    "chunk size before a space": _chunked(b"5 \r\nhello\r\n" + _END),
    "chunk size of nothing": _chunked(b"\r\n" + _END),
    "chunk size beyond 64 bits": _chunked(b"10000000000000005\r\nhello\r\n" + _END),
    "chunk size that is none": _chunked(b"five\r\nhello\r\n" + _END),
    "chunk size with a bare LF": _chunked(b"5\nhello\r\n" + _END),
    "chunk size with a bare CR": _chunked(b"5\rhello\r\n" + _END),
    "chunk longer than its size": _chunked(b"5\r\nhelloGET\r\n" + _END),
    "chunk without its end": _chunked(b"5\r\nhello" + _END),
    "chunk with a bare LF": _chunked(b"5\r\nhello\n" + _END),
    "chunk extension with a bare LF": _chunked(b"5;a\nhello\r\n" + _END),
    "chunk extension with a bare CR": _chunked(b"5;a\rb\r\nhello\r\n" + _END),
    "chunk extension with a line within quotes": _chunked(b'5;a="\r\n"\r\nhello\r\n' + _END),
    "chunk extension without an end": _chunked(b"5;" + b"a" * 40_000 + b"\r\nhello\r\n" + _END),
    "last chunk with a bare LF": _chunked(_FIVE + b"0\n\n"),
    "trailers": _chunked(_FIVE + b"0\r\nContent-Length: 5\r\n\r\n"),
    "trailers without an end": _chunked(_FIVE + b"0\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"),
    # whom it is for
    "no Host": b"POST FIRST HTTP/1.1\r\n\r\n" + _SECOND,
    "two Hosts": _post(b"Host: gateway"),
    "two other Hosts": _post(b"Host: another"),
    "Host with a path": b"POST FIRST HTTP/1.1\r\nHost: gateway/SECOND\r\n\r\n" + _SECOND,
    "Host with a user": b"POST FIRST HTTP/1.1\r\nHost: a@gateway\r\n\r\n" + _SECOND,
    "Host of nothing": b"POST FIRST HTTP/1.1\r\nHost:\r\n\r\n" + _SECOND,
    "URL of another host": _post(line=b"POST http://anotherFIRST HTTP/1.1"),
    "URL of another port": _post(line=b"POST http://gateway:81FIRST HTTP/1.1"),
    "URL of no host": _post(line=b"POST http:///FIRST HTTP/1.1"),
    "URL of another scheme": _post(line=b"POST ftp://gatewayFIRST HTTP/1.1"),
    "URL with a user": _post(line=b"POST http://a@gatewayFIRST HTTP/1.1"),
    "target that is a host": _post(line=b"POST gateway:80 HTTP/1.1"),
    "target that is a star": _post(line=b"OPTIONS * HTTP/1.1"),
    "target with a fragment": _post(line=b"POST FIRST#a HTTP/1.1"),
    "target with a byte beyond ASCII": _post(line=b"POST FIRST\xff HTTP/1.1"),
    "target with a space": _post(line=b"POST FIRST a HTTP/1.1"),
    "tunnel": _post(line=b"CONNECT gateway:80 HTTP/1.1"),
    # methods, versions, other protocols
    "method in small letters": _post(line=b"post FIRST HTTP/1.1"),
    "method that nobody knows": _post(line=b"SMUGGLE FIRST HTTP/1.1"),
    "no version": _post(line=b"POST FIRST"),
    "version 0.9": _post(line=b"POST FIRST HTTP/0.9"),
    "version 2.0": _post(line=b"POST FIRST HTTP/2.0"),
    "version 1.2": _post(line=b"POST FIRST HTTP/1.2"),
    "version of many digits": _post(line=b"POST FIRST HTTP/1.10"),
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SECOND,
    "upgrade to h2c": _post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    "upgrade to a websocket": _post(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    "upgrade without Connection": _post(b"Upgrade: h2c"),
    # bytes after what was the last request
    "request after Connection: close": _post(b"Connection: close"),
}
#: whose first request is a good one
FIRST_IS_GOOD = {"request after Connection: close"}


def pair(name: str, first: str, second: str) -> bytes:
    """Write a pair with these paths."""
    return PAIRS[name].replace(b"FIRST", first.encode()).replace(b"SECOND", second.encode())
