"""Where Redis is: the URL of the settings, read, and redis-py's connections to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio.connection as async_redis
import redis.connection as sync_redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from redisq import embedded
from redisq.errors import InvalidSettings
from redisq.server import Server, known
from redisq.settings import Settings

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
            InvalidSettings: the URL is not one of redis://, rediss://, unix:// and embedded://.
        """
        url = settings.url
        if url.startswith("embedded:"):
            url = embedded.shared(url).url
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("redis", "rediss", "unix")
            server = parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
            sync_redis.parse_url(url)
        except ValueError:
            known, server = False, ""
        if not known:
            raise InvalidSettings(
                "REDISQ_URL takes redis://host:port/db, rediss:// (TLS), unix://path or embedded:// (a private server)."
            )
        return cls(url, server, settings.command_timeout, settings.connect_timeout)

    def known(self) -> Server:
        """Give what this process knows of the server there."""
        return known(self.url, self.server)

    def arguments(self, parse_url: Callable[[str], Mapping[str, Any]], timeout: float | None) -> dict[str, Any]:
        """Give the arguments of one connection; everything redis-py has a changing default for is set."""
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

    def _make(self, kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        try:
            return kind(**arguments)
        except (TypeError, NameError, RedisError) as error:  # NameError: redis-py 6.3 stumbles over protocol=x
            raise InvalidSettings("REDISQ_URL has an option after ? that redis-py does not take.") from error
