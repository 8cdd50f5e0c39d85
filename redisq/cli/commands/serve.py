"""Serve the HTTP gateway."""

from __future__ import annotations

import gc
import importlib.util
import ipaddress
import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import logs, options, output, streams
from redisq.cli.commands.work import hold_lifeline, tell
from redisq.errors import RedisQError
from redisq.runtime import process

if TYPE_CHECKING:
    from redisq.gateway.settings import GatewaySettings
    from redisq.settings import Settings

_OBJECTS = 5_000  # that are new, and looked at by the garbage collector at once
#: What the extra `http` brings, in modules.
_MODULES = ("starlette", "uvicorn", "httptools", "jinja2", "prometheus_client", "jsonschema_rs")


def _option(flag: str, metavar: str, help: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=help, show_default=False)


def serve(
    host: Annotated[str | None, _option("--host", "ADDRESS", "Listen on this address; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, _option("--port", "PORT", "Listen on this port; 8080 by default, 0 takes a free one.")
    ] = None,
    tls_cert: Annotated[str | None, _option("--tls-cert", "FILE", "Speak TLS with this certificate, in PEM.")] = None,
    tls_key: Annotated[str | None, _option("--tls-key", "FILE", "Its key, where it is not in the same file.")] = None,
    trusted_proxies: Annotated[
        str | None,
        _option(
            "--trusted-proxies", "NETWORKS", "Believe X-Forwarded- headers of these proxies alone; commas between."
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            "--root-path", metavar="PATH", help="Stand under this path of a proxy, like /mq.", show_default=False
        ),
    ] = None,
    url: options.Url = None,
    log_format: logs.FormatOption = None,
    log_level: logs.LevelOption = None,
    lifeline: Annotated[
        bool, typer.Option("--lifeline", hidden=True, help="Stop when stdin ends; report a failed start on it.")
    ] = False,
) -> None:
    """Serve the HTTP gateway until SIGTERM, SIGHUP or Ctrl-C: requests under way end first, a second one cuts them.

    It alone needs the password of Redis. It knows the applications that `redisq app create` registers, by
    REDISQ_MASTER_KEY. Its limits are settings, too: REDISQ_HTTP_ and the name. /_docs describes the API.
    """
    values = {
        "host": host,
        "port": port,
        "certificate": tls_cert,
        "private_key": tls_key,
        "trusted_proxies": trusted_proxies,
        "root_path": root_path,
    }
    given = {name: value for name, value in values.items() if value is not None}
    streams.tolerate_loss()
    logs.warn_of_servers(True)
    line = hold_lifeline() if lifeline else None
    try:
        code = _serve(given, url, log_format, log_level)
    except (RedisQError, output.CommandError) as error:
        if line is None or not tell(line, error):
            raise
        code = 1
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
