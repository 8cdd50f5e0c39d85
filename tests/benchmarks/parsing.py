"""What the gateway is measured beside: its server, with an endpoint that only parses JSON.

`python -m tests.benchmarks.parsing edge` has the gateway's outermost layer around it, which gives each request its id,
its headers, its line of the log and its place in the metrics; `... bare` has nothing. The body of the answer has as
many bytes as that of `POST /{queue}`.
"""

from __future__ import annotations

import json
import sys

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redisq.cli import logs
from redisq.cli.commands import serve
from redisq.gateway.metrics import Meters
from redisq.gateway.middleware import Outermost
from redisq.gateway.server.server import serve as run
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings

_ANSWER = b'{"id":"01234567-89ab-7def-8123-456789abcdef"}'


async def _parse(request: Request) -> Response:
    json.loads(await request.body())
    return Response(_ANSWER, 201, media_type="application/json")


def main() -> int:
    """Serve until SIGTERM, settled as `redisq serve` is."""
    logs.log_to_stderr()
    layers = [Middleware(Outermost, meters=Meters())] if sys.argv[1:] == ["edge"] else []
    app = Starlette(routes=[Route("/parse", _parse, methods=["POST"])], middleware=layers)
    return run(app, GatewaySettings(port=0), stopping=Stopping(), on_ready=lambda _: serve._settle())


if __name__ == "__main__":
    sys.exit(main())
