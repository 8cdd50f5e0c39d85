"""A tiny application that says what reached it, and its server as a process of its own.

/seen     what was executed, in order, how many requests are under way, and how many saw their client go
/wait     a long wait, which ends when the server is stopped
/hang     never answers
/big      sends as long as it is read
/deaf     answers after a while, and reads no body
others    read their body, of a MiB at most, and say what it was
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from redisq.gateway.server.server import serve
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings

MOST = 1024 * 1024


class Tiny:
    """The application. `executed` holds the paths of requests that came as a whole."""

    def __init__(self, stopping: Stopping | None = None) -> None:
        self.stopping = Stopping() if stopping is None else stopping
        self.executed: list[str] = []
        self.under_way = 0
        self.gone = 0
        self.ran = False
        self.cancelled = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        self.under_way += 1
        try:
            await self.answer(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.under_way -= 1

    async def live(self, receive: Any, send: Any) -> None:
        for event in ("startup", "shutdown"):
            await receive()
            self.ran = event == "startup"
            await send({"type": f"lifespan.{event}.complete"})

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/seen":
            seen = {"executed": self.executed, "under_way": self.under_way - 1, "gone": self.gone}
            return await say(send, 200, seen)
        if path == "/deaf":
            await self.stopping.wait_or(0.05)
            return await say(send, 401, {})
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return None
            length += len(message["body"])
            if length > MOST:
                return await say(send, 413, {})
            if not message["more_body"]:
                break
        self.executed.append(path)
        if path == "/hang":
            await asyncio.Event().wait()
        if path == "/big":
            return await flood(send)
        stopped = path == "/wait" and await self.stopping.wait_or(60)
        told = {"path": path, "query": scope["query_string"].decode(), "length": length, "stopped": stopped}
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        return await say(send, 200, {**told, "client": scope["client"][0], "scheme": scope["scheme"], **headers})


async def say(send: Any, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def flood(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": b"x" * MOST, "more_body": True})
    await send({"type": "http.response.body"})


def main() -> int:
    stopping = Stopping()
    options = GatewaySettings.model_validate_json(sys.argv[1])
    return serve(Tiny(stopping), options, stopping=stopping, on_ready=lambda address: print(address, flush=True))


if __name__ == "__main__":
    sys.exit(main())
