"""Serve the HTTP gateway."""

from __future__ import annotations

import gc
import importlib.util
import ipaddress
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import lifeline, logs, options, output, streams
from redisq.runtime import process

if TYPE_CHECKING:
    from redisq.gateway.settings import GatewaySettings
    from redisq.settings import Settings

_OBJECTS = 5_000  # that are new, and looked at by the garbage collector at once
#: What the extra `http` brings, in modules.
_MODULES = ("starlette", "uvicorn", "httptools", "jinja2", "prometheus_client", "jsonschema_rs")


Host = Annotated[str | None, options.valued("--host", "ADDRESS", "Listen on this address; 127.0.0.1 by default.")]
Port = Annotated[
    int | None, options.valued("--port", "PORT", "Listen on this port; 8080 by default, 0 takes a free one.")
]
Certificate = Annotated[str | None, options.valued("--tls-cert", "FILE", "Speak TLS with this certificate, in PEM.")]
PrivateKey = Annotated[str | None, options.valued("--tls-key", "FILE", "Its key, where it is not in the same file.")]
TrustedProxies = Annotated[
    str | None,
    options.valued(
        "--trusted-proxies", "NETWORKS", "Believe X-Forwarded- headers of these proxies alone; commas between."
    ),
]
RootPath = Annotated[str | None, options.valued("--root-path", "PATH", "Stand under this path of a proxy, like /mq.")]


def serve(
    host: Host = None,
    port: Port = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    trusted_proxies: TrustedProxies = None,
    root_path: RootPath = None,
    url: options.Url = None,
    log_format: logs.FormatOption = None,
    log_level: logs.LevelOption = None,
    kept: lifeline.Option = False,
) -> None:
    """Serve the HTTP gateway until SIGTERM, SIGHUP or Ctrl-C: requests under way end first, a second one cuts them.

    It alone needs the password of Redis. It knows the applications that `redisq app create` registers, by
    REDISQ_MASTER_KEY. Its limits are settings, too: REDISQ_HTTP_ and the name. /_docs describes the API.
    """
    values = {
        "host": host,
        "port": port,
        "certificate": certificate,
        "private_key": private_key,
        "trusted_proxies": trusted_proxies,
        "root_path": root_path,
    }
    given = {name: value for name, value in values.items() if value is not None}
    streams.tolerate_loss()
    logs.warn_of_servers(True)
    with lifeline.held(kept):
        code = _serve(given, url, log_format, log_level)
    raise typer.Exit(code)


def missing() -> str | None:
    """Name a module that the gateway needs and that is not installed; None when all are."""
    return next((name for name in _MODULES if importlib.util.find_spec(name) is None), None)


def _serve(given: dict[str, Any], url: str | None, form: logs.Format | None, level: logs.Level | None) -> int:
    if name := missing():
        from redisq.runtime import extras

        raise output.CommandError(f"The gateway needs the package {name}: {extras.install('http')}")
    from redisq.async_client import AsyncRedisQ
    from redisq.gateway.access.nobody import Nobody
    from redisq.gateway.access.registry import LiveRegistry
    from redisq.gateway.app import create_app
    from redisq.gateway.context import Context, Verifier
    from redisq.gateway.server.server import serve as run
    from redisq.gateway.settings import GatewaySettings
    from redisq.settings import Settings

    logs.log_to_stderr(form, level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # of what is in order the gateway itself tells
    settings, gateway = Settings.merged(None, url), GatewaySettings(**given)
    check_open(settings, gateway)
    mq = AsyncRedisQ(settings=settings)
    verifier: Verifier = Nobody() if settings.auth == "none" else LiveRegistry(mq, gateway)
    context = Context(mq, verifier, settings, gateway)
    code = run(create_app(context), gateway, stopping=context.stopping, on_ready=lambda _: _settle())
    return process.leave(code)


def _settle() -> None:
    """Spare the garbage collector what is there for good, such as modules.

    At 8,000 requests a second it went over all of that twice a second, for 50 ms each: p99 was 55 ms, and is 12 so.
    A request that is answered leaves nothing for it; to look for that after every 700 new objects took 6 percent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])


def check_open(settings: Settings, gateway: GatewaySettings) -> None:
    """Refuse to let everybody in from everywhere.

    Raises:
        CommandError: nobody is asked for a token, and the address is not of this machine alone.
    """
    if settings.auth == "none" and not _is_loopback(gateway.host):
        raise output.CommandError(
            f"REDISQ_AUTH=none lets in whoever reaches {gateway.host}: listen on 127.0.0.1 or ::1, or use tokens."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
