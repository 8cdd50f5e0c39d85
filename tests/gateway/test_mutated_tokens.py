"""Mutated tokens at the door: 20,000 in the ordinary run, a million with `make fuzz-tokens`. None opens any route."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from typing import Any

from redisq import tokens
from redisq.tokens import OPS
from tests.gateway.conftest import QUEUE, Office
from tests.unit.test_applications import MUTATIONS, MUTATORS

ID = uuid.uuid4()
ROUTES = (
    ("POST", f"/{QUEUE}"),
    ("PUT", f"/{QUEUE}/{ID}"),
    ("GET", f"/{QUEUE}/{ID}"),
    ("DELETE", f"/{QUEUE}/{ID}"),
    ("GET", f"/{QUEUE}"),
    ("POST", f"/{QUEUE}/_claim"),
    ("POST", f"/{QUEUE}/_purge"),
    ("GET", "/_queues"),
    ("GET", "/_metrics"),
    ("GET", "/_ui"),
    ("GET", f"/_ui/queues/{QUEUE}"),
)


async def status_of(app: Any, method: str, path: str, token: str, number: int) -> int:
    """Send a request as a server would, from an address of its own, and give the status of its answer.

    Pages get the token in a cookie.
    """
    raw = token.encode("utf-8", "surrogatepass")
    client = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    headers = [
        (b"host", b"gateway"),
        (b"cookie", b"redisq_token=" + raw) if path.startswith("/_ui") else (b"authorization", b"Bearer " + raw),
        (b"content-type", b"application/json"),
    ]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": headers, "client": (client, 1), "http_version": "1.1", "scheme": "http", "root_path": ""}
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    (status,) = statuses
    return status


def test_mutated_tokens_open_no_route(office: Office) -> None:
    audience = office.gateway.context.settings.token_audience
    everything = f"{','.join(sorted(OPS))}:*"
    shop, billing = office.create("shop", everything), office.create("billing", everything)
    now = time.time()
    genuine = [
        tokens.sign(shop, audience=audience, ops=OPS, queues=["*"], now=now, ttl=86_400),
        tokens.sign(billing, audience=audience, ops=["get", "stats"], queues=["*"], now=now, ttl=86_400),
    ]
    genuine += [tokens.narrow(genuine[0], ops=["get", "stats"]), tokens.narrow(genuine[1], scope=["stats:ord*"])]
    genuine += [tokens.narrow(genuine[2], queues=["orders"], expires_at=now + 3600)]
    office.gateway.mq.define(QUEUE, lease=30)
    rng, found = random.Random(20_261_127), Counter[int]()

    async def send_all() -> None:
        app = office.gateway.app
        for token in genuine:
            assert await status_of(app, "GET", f"/{QUEUE}", token, 0) == 200
        for number in range(MUTATIONS):
            mutant = rng.choice(MUTATORS)(rng, rng.choice(genuine), rng.choice(genuine))
            if mutant.strip() not in genuine:  # spaces around it are no part of a cookie
                method, path = rng.choice(ROUTES)
                found[await status_of(app, method, path, mutant, number)] += 1
            if number % 10_000 == 0:
                await office.registry.refresh()

    office.gateway.runner.run(send_all())
    assert found.keys() == {401}
    assert found[401] > MUTATIONS * 0.9  # the others were genuine still
    assert office.gateway.mq.queues() == [QUEUE]
    assert office.gateway.mq.stats(QUEUE).queued == 0
