"""TLS that does not come about: what is wrong with the files that a URL names, and which side speaks none.

From the client's side much of that looks like an outage, and is none: waiting does not help. So once a connection broke
at its beginning the server is looked at more closely, by one more connection that is closed again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Mapping

from redisq.errors import InvalidSettings

_PATIENCE = 0.5  # seconds for a server to say something, when it is looked at
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HINT = "rediss://host:6379/0?ssl_ca_certs=/path/ca.pem names the authority, ssl_certfile= and ssl_keyfile= a client"


def check_files(options: Mapping[str, str]) -> None:
    """Return if the files that a URL's options name can be read, and hold certificates and keys that can be used.

    Raises:
        InvalidSettings: they do not.
    """
    for name in _FILES:
        if name in options:
            _check_file(name, options[name])
    path = options.get("ssl_ca_path")
    if path is not None and not os.path.isdir(path):
        raise InvalidSettings(f"REDISQ_URL names by ssl_ca_path what is no folder: {path!r}.")
    problem = ""
    try:
        _context(options)
    except (ssl.SSLError, OSError, ValueError) as error:
        problem = getattr(error, "reason", None) or type(error).__name__
    if problem:
        named = ", ".join(name for name in options if name.startswith("ssl_"))
        raise InvalidSettings(
            f"REDISQ_URL names by {named} no certificate or key that can be used ({problem}): {_HINT}."
        )


def _check_file(name: str, path: str) -> None:
    problem = ""
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "it cannot be"
    if problem:
        raise InvalidSettings(f"REDISQ_URL names by {name} a file that cannot be read, {path!r}: {problem}.")


def _context(options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who looks only wants to know what it is
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if certificate or key:
        context.load_cert_chain(certificate or "", key, options.get("ssl_password", ""))
    places = options.get("ssl_ca_certs"), options.get("ssl_ca_path"), options.get("ssl_ca_data")
    if any(places):
        context.load_verify_locations(*places)
    return context


def look(host: str, port: int, options: Mapping[str, str] | None) -> ssl.SSLError | str | None:
    """Look at a server that hung up, or said nothing; with `options` as one that should speak TLS.

    Give the error by which it refuses this client; or what it speaks, `plain` or `tls`, where that is the other than is
    spoken to it; None when there is nothing to tell.
    """
    found = _hello(host, port, options or {})
    if options is None:
        return "tls" if found else None
    if found == "tls":
        return None
    return found or _ping(host, port)


def _hello(host: str, port: int, options: Mapping[str, str]) -> ssl.SSLError | str | None:
    """Shake hands: `tls` if it does, or the alert by which it refuses this client."""
    try:
        with _connected(host, port) as plain, _context(options).wrap_socket(plain, server_hostname=host) as secure:
            with contextlib.suppress(TimeoutError):  # which is when it waits for a command
                secure.recv(1)
            return "tls"
    except ssl.SSLError as error:
        return error if "ALERT" in (error.reason or "") else None
    except OSError:
        return None


def _ping(host: str, port: int) -> str | None:
    with contextlib.suppress(OSError), _connected(host, port) as plain:
        plain.sendall(b"PING\r\n")
        if plain.recv(1) in (b"+", b"-"):
            return "plain"
    return None


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), _PATIENCE)
