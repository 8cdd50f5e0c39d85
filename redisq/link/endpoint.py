"""Where Redis is: the URL of the settings, read, and redis-py's connections to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
import redis.asyncio.connection as async_redis
import redis.connection as sync_redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from redisq import embedded, urls
from redisq.errors import InvalidSettings, Unavailable
from redisq.link import idle, tls
from redisq.link.server import Server, known
from redisq.settings import Settings

_OF_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_HUNG_UP = ("reset", "closed", "EOF", "Broken pipe")
try:
    from redis.driver_info import DriverInfo

    _ABOUT_REDIS_PY: dict[str, Any] = {"driver_info": DriverInfo()}
except ImportError:  # redis-py 6
    _ABOUT_REDIS_PY = {"lib_version": redis.__version__}
# Which, left out, redis-py looks up in its installed files for each connection; by then there may be none to be read.


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Redis is: redis-py's connection arguments, and a name for error texts that holds no password."""

    url: str = field(repr=False)
    server: str
    timeout: float
    connect_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> Endpoint:
        """Read the settings' URL; an `embedded://` one starts its server.

        Raises:
            InvalidSettings: the URL is not one of those that are taken, see `urls.check`.
        """
        url: str = settings.url
        urls.check(url)
        if url.startswith("embedded:"):
            url = embedded.shared(url, settings.embedded_server).url
        parts = urlsplit(url)
        if parts.scheme == "rediss":
            tls.check_files(dict(parse_qsl(parts.query)))
        server = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        return cls(url, server, settings.command_timeout, settings.connect_timeout)

    def known(self) -> Server:
        """Return what this process knows of the server there."""
        return known(self.url, self.server)

    def arguments(self, parse_url: Callable[[str], Mapping[str, Any]], timeout: float | None) -> dict[str, Any]:
        """Return the arguments of one connection; everything redis-py has a changing default for is set."""
        arguments = {
            "protocol": 2,
            "socket_timeout": timeout,
            "socket_connect_timeout": self.connect_timeout,
            "retry": Retry(NoBackoff(), 0),
            "client_name": "redisq",
            **_ABOUT_REDIS_PY,
            **parse_url(self.url),
        }
        if not self.url.startswith("unix:"):
            arguments.setdefault("socket_keepalive", True)
            arguments["socket_keepalive_options"] = idle.keepalive()
        return arguments

    def connection(self) -> sync_redis.AbstractConnection:
        """Make a connection for threads, not yet connected."""
        arguments = self.arguments(sync_redis.parse_url, self.timeout)
        kind = arguments.pop("connection_class", sync_redis.Connection)
        connection: sync_redis.AbstractConnection = self._make(kind, arguments)
        return connection

    def async_connection(self) -> async_redis.AbstractConnection:
        """Make a connection for asyncio, not yet connected. Its link sets the time limits, cheaper than redis-py's."""
        arguments = self.arguments(async_redis.parse_url, None)
        kind = arguments.pop("connection_class", async_redis.Connection)
        connection: async_redis.AbstractConnection = self._make(kind, arguments)
        return connection

    def is_odd(self, error: Exception) -> bool:
        """Return whether a connection that broke at its beginning may be no outage: then `explained` may tell more.

        A server that has answered in this process is what it should be.
        """
        secure, unix = (self.url.startswith(f"{scheme}:") for scheme in ("rediss", "unix"))
        if secure and any(isinstance(cause, _OF_FILES) for cause in (error, error.__context__)):
            return True
        hung_up = any(word in str(error) for word in _HUNG_UP)
        silent = secure and isinstance(error, TimeoutError | RedisTimeout)
        return not unix and (hung_up or silent) and not self.known().is_known(strict=False)

    def explained(self, error: Exception) -> Exception:
        """Return why a connection broke at its beginning, in place of `error`, by a look at the server of up to 2 s."""
        parts = urlsplit(self.url)
        options = dict(parse_qsl(parts.query)) if parts.scheme == "rediss" else None
        try:
            tls.check_files(options or {})
        except InvalidSettings as told:
            return Unavailable(str(told))  # they were there when this process began
        found = tls.look(parts.hostname or "localhost", parts.port or 6379, options)
        if isinstance(found, str):
            says, scheme = ("speaks", "rediss://") if found == "tls" else ("does not speak", "redis://")
            return Unavailable(f"Redis at {self.server} refused: it {says} TLS. REDISQ_URL takes {scheme} for it.")
        return found or error

    def _make(self, kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        with contextlib.suppress(TypeError, NameError, RedisError):  # NameError: 6.3 stumbles over options, too
            return kind(**arguments)
        raise InvalidSettings("REDISQ_URL has an option after ? that redis-py does not take.")
