"""The URL of a Redis server: checked before anything is made of it, and shown without its password. Pure.

redis-py takes what it cannot read for something else: a database that is no number for 0, `/1/2` for 12, a password
with a `/` for a host and a path, which it quotes. So whatever would count for something else than it says is refused
here. No text quotes any part of a URL but the names of options that are known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus

from redisq.errors import InvalidSettings

MASK = "***"

_FORM = "REDISQ_URL takes redis://host:port/db, rediss:// (TLS), unix://path or embedded:// (a private server)."
_ENCODE = (
    "In a password / ? # [ ] @ % and the like are percent-encoded, @ as %40: "
    "python -c \"import urllib.parse; print(urllib.parse.quote(input(), ''))\" writes it so."
)
_SCHEMES = ("redis", "rediss", "unix", "embedded")
_HOST = re.compile(r"[\w.-]+")  # underscores, too, as Docker has them; names of other scripts
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_PORT = re.compile(r"[0-9]{1,5}")
_DATABASE = re.compile(r"/?|/[0-9]{1,9}/?")
_NO_CODE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRETS = re.compile(r"([?&](?:ssl_)?password=)[^&]*")
_LONGEST_LABEL, _LONGEST_NAME = 63, 253  # bytes: of a host's name, RFC 1035
_LONGEST_PATH = 107  # bytes: Linux' limit for the path of a socket

_WORD = "true|false|yes|no|1|0"
#: what may follow the ?, and the form of its value
_OPTIONS: Mapping[str, str] = {
    "db": "[0-9]{1,9}",
    "protocol": "[23]",
    "client_name": "[!-~]+",
    "socket_keepalive": _WORD,
    "username": ".+",
    "password": ".+",
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": _WORD,
    "ssl_ca_certs": ".+",
    "ssl_ca_path": ".+",
    "ssl_ca_data": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_password": ".+",
    "ssl_min_version": "77[0-9]",
    "ssl_ciphers": ".+",
    "ssl_include_verify_flags": ".+",
    "ssl_exclude_verify_flags": ".+",
}
#: options of redis-py that redisq sets itself, and what to set in their place
_INSTEAD: Mapping[str, str] = {
    "socket_timeout": "REDISQ_COMMAND_TIMEOUT",
    "timeout": "REDISQ_COMMAND_TIMEOUT",
    "socket_connect_timeout": "REDISQ_CONNECT_TIMEOUT",
    "max_connections": "REDISQ_MAX_CONNECTIONS",
    "retry": "REDISQ_RETRY_DEADLINE",
    "retry_on_timeout": "REDISQ_RETRY_DEADLINE",
    "retry_on_error": "REDISQ_RETRY_DEADLINE",
    "host": "the host before the port",
    "port": "the port after the host",
    **dict.fromkeys(
        (
            *("decode_responses", "encoding", "encoding_errors", "health_check_interval", "socket_read_size"),
            *("socket_type", "parser_class", "connection_class", "legacy_responses", "credential_provider"),
        ),
        "nothing",
    ),
}


class Url(str):
    """A URL whose representation shows no password. As text it is whole."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(shown(self))


def shown(url: str) -> str:
    """Write a URL without its secrets, and of one that is not valid nothing at all."""
    scheme, colon, rest = url.partition("://")
    try:
        check(url)
    except InvalidSettings:
        return f"{scheme}://{MASK}" if colon and scheme in _SCHEMES else MASK
    authority, slash, after = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user, hidden, _ = login.partition(":")
    if hidden:
        login = f"{user}:{MASK}"
    return _SECRETS.sub(_masked, f"{scheme}://{login}{at}{host}{slash}{after}")


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}"


def check(url: str) -> None:
    """Return if a URL is one that is taken as it reads.

    Raises:
        InvalidSettings: it is not; the text says why, and quotes nothing of it.
    """
    if url != url.strip() or any(ord(char) < 32 or ord(char) == 127 for char in url):
        raise InvalidSettings("REDISQ_URL begins or ends with a space or line break, or holds a control character.")
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise InvalidSettings(_FORM)
    if scheme == "embedded":
        if (rest and not rest.startswith("/")) or "?" in rest or "#" in rest:
            raise InvalidSettings("The URL of an embedded server is embedded:// or embedded:///path/of/directory")
        _check_directory(unquote(rest))
        return
    rest, hash, _ = rest.partition("#")
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    login, at, host = authority.rpartition("@")
    if "[" in host and not _BRACKETED.fullmatch(host):
        raise InvalidSettings(f"REDISQ_URL has a host that cannot be one. It takes one server. {_ENCODE}")
    if hash:
        raise InvalidSettings(f"REDISQ_URL holds a #, which ends a URL. {_ENCODE}")
    _check_login(login)
    if scheme == "unix":
        _check_socket(host, slash + path)
    else:
        if "@" in path or (not at and "@" in query):
            raise InvalidSettings(f"REDISQ_URL holds an @ after the end of its host. {_ENCODE}")
        _check_host(authority, host)
        if not _DATABASE.fullmatch(slash + path):
            raise InvalidSettings(
                "REDISQ_URL names a database after its host, and a database is one number: redis://host:6379/0. "
                f"{_ENCODE}"
            )
    _check_options(scheme, query, path.strip("/") if scheme != "unix" else "")


def _check_directory(path: str) -> None:
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half a character
        is_name = False
    if not is_name:
        raise InvalidSettings("REDISQ_URL names a directory with a character that no name of a file has.")


def _check_login(login: str) -> None:
    _, _, password = login.partition(":")
    if password == MASK:
        raise InvalidSettings("The password in REDISQ_URL is masked, as where settings are shown. Give the whole URL.")
    if any(char in login for char in "@[]") or not _is_encoded(login):
        raise InvalidSettings(f"REDISQ_URL has a user name or password that is not percent-encoded. {_ENCODE}")


def _is_encoded(login: str) -> bool:
    try:
        return unquote(login, errors="strict") is not None and not _NO_CODE.search(login)
    except UnicodeDecodeError:  # what is encoded is no UTF-8
        return False


def _check_socket(host: str, path: str) -> None:
    path = unquote(path)
    if host:
        raise InvalidSettings(f"REDISQ_URL takes a socket's whole path: unix:///run/redis.sock. {_ENCODE}")
    if path.endswith("/") or not path.isprintable() or not path:
        raise InvalidSettings("REDISQ_URL names no socket: it reads unix:///run/redis.sock.")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise InvalidSettings(f"REDISQ_URL names a socket whose path is longer than {_LONGEST_PATH} bytes.")


def _check_host(authority: str, host: str) -> None:
    if not authority:
        return  # redis:// is this machine
    bracketed = _BRACKETED.fullmatch(host)
    name, port = (bracketed[1], bracketed[2] or "") if bracketed else host.partition(":")[::2]
    if ":" in port:
        raise InvalidSettings(f"REDISQ_URL has an IPv6 address without brackets: redis://[::1]:6379/0. {_ENCODE}")
    if not name:
        raise InvalidSettings("REDISQ_URL names no host: redis://:PASSWORD@host:6379/0.")
    if not (_is_ipv6(name) if bracketed else _HOST.fullmatch(name)):
        raise InvalidSettings(f"REDISQ_URL has a host that cannot be one. It takes one server. {_ENCODE}")
    if not (bracketed or _can_be_looked_up(name)):
        raise InvalidSettings(
            f"REDISQ_URL has a name that no host has: a part between dots has 1 to {_LONGEST_LABEL} characters, all "
            f"have {_LONGEST_NAME}."
        )
    if port and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65_535):
        raise InvalidSettings(f"REDISQ_URL has a port that is no number from 1 to 65535. {_ENCODE}")


def _can_be_looked_up(name: str) -> bool:
    """Return whether a host's name can be sent to a name server at all; else Python raises UnicodeError at each try."""
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return False
    name = name.removesuffix(".")
    return len(name) <= _LONGEST_NAME and all(1 <= len(part) <= _LONGEST_LABEL for part in name.split("."))


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address  # for the rare case, as it takes its time to load

    try:
        IPv6Address(text.replace("%25", "%"))
    except ValueError:
        return False
    return True


def _check_options(scheme: str, query: str, database: str) -> None:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        value = unquote_plus(value)
        if name in _INSTEAD:
            instead = f" Set {_INSTEAD[name]} instead." if _INSTEAD[name] != "nothing" else ""
            raise InvalidSettings(f"REDISQ_URL has the option {name}, which redisq sets itself.{instead}")
        if name not in _OPTIONS:
            raise InvalidSettings(
                f"REDISQ_URL has an option after ? that redis-py does not take.{_near(name)} {_ENCODE}"
            )
        if name in found or not re.fullmatch(_OPTIONS[name], value):
            raise InvalidSettings(f"REDISQ_URL has the option {name} twice, or with a value that it does not take.")
        if name.startswith("ssl_") and scheme != "rediss":
            raise InvalidSettings(f"REDISQ_URL has the option {name}, which is for TLS: rediss://.")
        found[name] = value
    if found.get("password") == MASK:
        _check_login(f":{MASK}")
    if database and int(found.get("db", database)) != int(database):
        raise InvalidSettings("REDISQ_URL names two databases: one after the host, another after ?.")


def _near(name: str) -> str:
    from difflib import get_close_matches  # for the rare case, as it takes its time to load

    close = get_close_matches(name, [*_OPTIONS, *_INSTEAD], n=1)
    return f" Did you mean {close[0]}?" if close else ""
