"""The gateway of `redisq dev`, a process like a worker's."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from redisq.cli import modules
from redisq.cli.dev.service import Service
from redisq.cli.dev.state import Journal
from redisq.gateway.settings import GatewaySettings

NAME = "gateway"

_LOOPBACK = "127.0.0.1"
_USUAL_PORT = 8080


def port(wanted: int | None) -> int:
    """Return the port to listen on: the wanted one, REDISQ_HTTP_PORT, the usual one, or any when that is taken.

    Raises:
        InvalidSettings: a REDISQ_HTTP_ variable is not valid.
    """
    options = GatewaySettings()
    if wanted is None and "port" in options.model_fields_set:
        wanted = options.port
    if wanted:
        return wanted
    return (wanted is None and _free(_USUAL_PORT)) or _free(0)


def _free(number: int) -> int:
    """Return a port that is free: this one, or any for 0; 0 when it is not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, number))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def service(number: int, journal: Journal, patience: float, secrets: Mapping[str, str]) -> Service:
    """Make the process that serves it. It alone has the `secrets`."""
    command = modules.command("serve", "--host", _LOOPBACK, "--port", str(number), "--lifeline")
    return Service(NAME, command, journal, patience, secrets)
