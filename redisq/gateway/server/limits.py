"""What a server is given: where it listens, and the limit of everything. Times are in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from redisq.gateway.server.addresses import Network


class Limits(Protocol):
    """The gateway's settings, which have their bounds and say what each is, as far as the server knows them."""

    host: str
    port: int
    certificate: Path | None
    private_key: Path | None
    trusted_proxies: tuple[Network, ...]
    head_bytes: int
    head_fields: int
    head_timeout: float
    body_idle_timeout: float
    body_timeout: float
    slowest_rate: float
    write_timeout: float
    keep_alive: float
    request_timeout: float
    connections: int
    connections_per_address: int
    grace: float
