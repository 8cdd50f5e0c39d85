"""The floor of the gateway: its server, with an application that only parses JSON. `python -m tests.benchmarks.parsing`.

Its answer has as many bytes of body as that of `POST /{queue}`.
"""

from __future__ import annotations

import json
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq.cli import logs, serve
from redisq.gateway.server import serve as run
from redisq.gateway.settings import GatewaySettings
from redisq.gateway.stopping import Stopping

_ANSWER = b'{"id":"01234567-89ab-7def-8123-456789abcdef"}'


async def _parse(request: Request) -> Response:
    json.loads(await request.body())
    return Response(_ANSWER, 201, media_type="application/json")


def main() -> int:
    """Serve until SIGTERM, settled as `redisq serve` is."""
    logs.log_to_stderr()
    app = Starlette(routes=[Route("/parse", _parse, methods=["POST"])])
    return run(app, GatewaySettings(port=0), stopping=Stopping(), on_ready=lambda _: serve._settle())


if __name__ == "__main__":
    sys.exit(main())
