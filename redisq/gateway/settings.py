"""Settings of the gateway alone, from arguments or from REDISQ_HTTP_ environment variables. Times are in seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from redisq.errors import InvalidSettings
from redisq.gateway.requests.hosts import names
from redisq.gateway.server.addresses import Network, networks
from redisq.settings import problems_of, warn_of_unknown
from redisq.tokens.scopes import is_pattern


def _networks(value: Any) -> Any:
    return networks(value) if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=3600)]


def _separated(value: Any) -> Any:
    """Read a list as an environment variable has it: separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_ROOT_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")


def _root_path(value: str) -> str:
    """Read the path that the gateway stands under: "" where that is the whole host."""
    path = value.removesuffix("/")
    if len(path) > 256 or not _ROOT_PATH.fullmatch(path) or path.startswith("/_"):
        raise ValueError(
            "it takes a path like /mq or /tools/mq, of letters, digits and . _ ~ - between slashes, whose first part "
            "does not begin with an underscore; nothing for the whole host"
        )
    return path


def _patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not is_pattern(value):
            raise ValueError(f"{value[:100]!r} is no queue's name, nor the beginning of one with a final *")
    return values


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and its limits.

    Raises:
        InvalidSettings: a value is out of its bounds; the text names the environment variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="REDISQ_HTTP_", extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    """address to listen on"""
    port: int = Field(default=8080, ge=0, le=65_535)
    """port to listen on; 0 takes a free one"""
    certificate: Path | None = None
    """PEM file with the certificate and those of its issuers: the gateway speaks TLS"""
    private_key: Path | None = None
    """PEM file with the certificate's key, where it is not in the same file"""
    root_path: Annotated[str, AfterValidator(_root_path)] = ""
    """path that the gateway stands under, like /mq, whether the proxy in front of it takes it away or passes it on"""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    """networks of proxies whose X-Forwarded-For and -Proto are believed, with commas between; of nobody else's"""

    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated)] = ()
    """origins whose scripts may call the gateway from a browser, separated by commas; * is any"""
    open_queues: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated), AfterValidator(_patterns)] = ()
    """queues that anybody may use whose `security` is none; names, or beginnings with a final *, with commas between"""
    hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_separated), AfterValidator(names)] = ()
    """names it answers to without a token, beside addresses and localhost, with commas between; see gateway.md"""
    metrics_allow: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    """networks that may read /_metrics without a token, separated by commas"""
    registry_poll: float = Field(default=2, gt=0, le=5)
    """the registry of applications is read this often, so a revocation takes as long to count"""
    registry_stale_after: float = Field(default=30, ge=5, le=300)
    """a gateway that could not read the registry for this long lets nobody in"""

    head_bytes: int = Field(default=16_384, ge=1024, le=1_048_576)
    """bytes of a request's first line and headers"""
    head_fields: int = Field(default=100, ge=8, le=10_000)
    """headers of a request"""
    head_timeout: Seconds = 10
    """a connection's first request, and each next one from its first byte, must be there as a whole head"""
    body_idle_timeout: Seconds = 10
    """longest pause within a body"""
    body_timeout: Seconds = 60
    """a whole body must have come by then, later by a second for each `slowest_rate` bytes of it"""
    slowest_rate: float = Field(default=4096, gt=0)
    """bytes per second at which a client must send a long body and read a long answer"""
    write_timeout: Seconds = 10
    """a client must have read all that was sent, later by a second for each `slowest_rate` bytes of it"""
    keep_alive: Seconds = 15
    """longest pause between two requests of a connection"""
    request_timeout: Seconds = 45
    """longest time from the end of a request to the begin of its answer, long waits (30 s at most) included"""
    connections: int = Field(default=4096, ge=1, le=1_000_000)
    """connections in all; further ones are turned away"""
    connections_per_address: int = Field(default=512, ge=1, le=1_000_000)
    """connections of one IPv4 address or one /64 of IPv6; from trusted proxies, requests under way of each client"""
    grace: float = Field(default=25, ge=0, le=86_400)
    """requests under way get this long to end after SIGTERM; long waits end at once"""

    rate: float = Field(default=0, ge=0, le=1_000_000)
    """requests per second of one application, at all gateways together; 0 is no limit. A stream is slowed down to it"""
    burst: int = Field(default=0, ge=0, le=1_000_000)
    """requests of one application at once after a quiet time; 0 is those of one second"""
    failures: int = Field(default=30, ge=1, le=1_000_000)
    """bad tokens and secrets from one address (or /64) within `failures_window`, after which further ones get 429"""
    failures_window: Seconds = 60
    """seconds from an address' first failure until its count begins anew"""
    waits_per_token: int = Field(default=1000, ge=1, le=1_000_000)
    """long waits under way of one application, with all its tokens together"""
    waits_per_address: int = Field(default=1000, ge=1, le=1_000_000)
    """long waits under way from one address (or /64)"""

    def __init__(self, **values: Any) -> None:
        problems = ""
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = problems_of(error, "REDISQ_HTTP_")
        if problems:
            raise InvalidSettings(problems)
        warn_of_unknown("REDISQ_HTTP_", type(self).model_fields)
