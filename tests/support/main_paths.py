"""Go redisq's main paths with what is installed beside it: run in an environment of the lowest versions allowed.

REDISQ_URL names a server, and the current folder is empty. It fails where a path does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from pathlib import Path

from redisq import AsyncRedisQ, RedisQ, SchemaViolation, Settings, Worker, embedded
from redisq.gateway.access.nobody import Nobody
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings

REDISQ = str(Path(sysconfig.get_path("scripts"), "redisq"))
SHOP = """
from redisq import Worker
worker = Worker()

@worker.handler("orders")
def handle(delivery):
    if delivery.request["n"] < 0:
        raise ValueError("told to fail")
    return delivery.request["n"] * 2
"""


def redisq(*arguments: str, input: str = "", **environment: str) -> str:
    """Run a command that succeeds without a warning, and give what it prints."""
    done = subprocess.run(
        [REDISQ, *arguments], input=input, capture_output=True, text=True, env={**os.environ, **environment}, timeout=99
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr or done.stdout}"
    assert "Traceback" not in done.stderr
    return done.stdout.strip()


def command_line() -> None:
    assert "--port" in redisq("serve", "--help")
    assert "orders" not in redisq("queues", "list").split()
    id = redisq("queue", "orders", '{"n": 21}', "--expires-in", "1h")
    failing = redisq("queue", "orders", '{"n": -1}')
    redisq("queue", "orders", "--lines", input='{"n": 1}\n{"n": 2}\n')
    redisq("worker", "shop:worker", "--burst", REDISQ_MAX_ATTEMPTS="1", REDISQ_LOG_ERRORS="type")
    assert redisq("get", "orders", id, "--wait", "60", "--raw") == "42"
    assert failing in redisq("dead", "list", "orders")
    for arguments in ("stats", "stats orders", "queues show orders", f"trace orders {id}", f"get orders {id}"):
        assert "orders" in redisq(*arguments.split()), arguments
    assert "audited" in redisq("doctor")
    assert json.loads(redisq("stats", "orders", "--json"))["completed"] == 3
    environment = dict(line.removeprefix("export ").split("=") for line in redisq("app", "create", "shop").splitlines())
    token = redisq("token", "create", **environment)
    assert "yes" in redisq("token", "inspect", token, **environment)
    environment = dict([redisq("app", "master-key").removeprefix("export ").split("=")])
    redisq("app", "create", "web", "--allow", "get:orders", **environment)
    assert "web" in redisq("app", "list", **environment)


async def clients() -> None:
    async with AsyncRedisQ() as mq:
        ids = await mq.queue_messages("many", range(50))
        assert (await mq.get_message("many", ids[7])).request == 7
        await mq.delete_message("many", ids[7])
    with RedisQ() as mq:
        mq.define("strict", schema={"type": "object", "required": ["n"]})
        try:
            mq.queue_message("strict", {})
        except SchemaViolation:
            return
    raise AssertionError("a schema was not checked")


async def schedule() -> None:
    worker = Worker()
    ticked = asyncio.Event()

    @worker.every("* * * * * *", queue="ticks")
    def tick() -> dict[str, int]:
        return {"n": 1}

    @worker.handler("ticks")
    async def handle(_: object) -> None:
        ticked.set()

    working = asyncio.create_task(worker.run_async())
    await asyncio.wait_for(ticked.wait(), 60)
    worker.stop()
    assert await working == 0


async def gateway() -> None:
    settings, options = Settings(), GatewaySettings(port=0)
    app = create_app(Context(AsyncRedisQ(settings=settings), Nobody(), settings, options))
    async with running(app, options) as address:
        for path in ("/_health", "/_docs", "/_openapi.json", "/_ui", "/_metrics"):
            assert (await asyncio.to_thread(urllib.request.urlopen, address + path)).status == 200, path
        request = urllib.request.Request(f"{address}/web", b'{"n": 1}', {"Content-Type": "application/json"})
        answer = await asyncio.to_thread(urllib.request.urlopen, request)
        assert answer.status == 201


def development() -> None:
    """Redis, gateway and worker of `redisq dev`; then the servers that `embedded` starts."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
    dev = subprocess.Popen([REDISQ, "dev", "shop:worker", "--reload"], stdout=subprocess.PIPE, text=True, env=clean)
    with dev:
        assert dev.stdout
        watchdog = threading.Timer(60, dev.kill)
        watchdog.start()
        assert any("working on orders" in line for line in dev.stdout), "the worker of `redisq dev` did not start"
        dev.send_signal(signal.SIGTERM)
        dev.stdout.read()
        assert dev.wait(60) == 0
        watchdog.cancel()
    for kind in {found.kind for found in embedded.candidates()}:
        with embedded.start(kind=kind) as server, RedisQ(server.url) as mq:
            id = mq.queue_message("orders", 1)
            assert mq.get_message("orders", id).status == "PENDING", kind
    assert "agree" in redisq("demo", "--limit", "5", "--json")


def main() -> None:
    Path("shop.py").write_text(SHOP)
    command_line()
    asyncio.run(clients())
    asyncio.run(schedule())
    asyncio.run(gateway())
    development()
    print("all paths", sys.version.split()[0])


if __name__ == "__main__":
    main()
