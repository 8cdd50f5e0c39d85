"""Schemathesis against the gateway and its document, by all its checks: no 5xx, no unknown status, no broken schema.

It makes about 1,500 requests; `--scale 1` has it make more than 5,000, and `--fuzz-seed` other ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redisq
from redisq import embedded, tokens
from redisq.gateway.server.server import running
from redisq.gateway.table import document
from redisq.gateway.work.waits import Waits
from redisq.tokens import OPS
from tests.conftest import settings_for
from tests.gateway.conftest import MakeGateway, Office

ROOT = Path(redisq.__file__).parents[1]
EXAMPLES = 220  # of each operation and as many walks along links, beside what the examples and the bounds give
FROM_BOUNDS = 1000  # requests at least, whatever the scale
PATIENCE = 0.05  # seconds that a long wait gets

CONFIG = """
hooks = "tests.support.gateways.schemathesis_hooks"
[cache]
enabled = false
[generation]
database = "none"
[warnings]
fail-on = true
[phases.fuzzing.generation]
max-examples = {examples}
[phases.stateful.generation]
max-examples = {examples}
[auth.openapi.bearer]
bearer = "{token}"
[auth.openapi.application]
username = "{name}"
password = "{secret}"
"""


async def hurry(waits: Waits) -> None:
    """End long waits again and again, as the gateway does when it stops: thousands shall not last 30 s each."""
    while True:
        await asyncio.sleep(PATIENCE)
        waits.drain()
        waits.draining = False


async def schemathesis(office: Office, folder: Path, seed: int) -> tuple[str, dict[str, Any]]:
    """Serve the gateway and run Schemathesis; give what it said and its report."""
    context, report = office.gateway.context, folder / "report.json"
    async with running(office.gateway.app, context.options, context.stopping) as url:
        hurrying = asyncio.create_task(hurry(context.waits))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml",
            "run", f"{url}/_openapi.json", "--checks", "all", "--seed", str(seed),
            "--continue-on-failure", "--no-color", "--report", "json", "--report-json-path", str(report),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = await process.communicate()
        finally:
            hurrying.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
    return said.decode(), json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture
def office(make_gateway: MakeGateway, real_server: embedded.EmbeddedServer, namespace: str) -> Office:
    """A gateway on a free port that turns nobody away for bad tokens, of which it will see thousands."""
    return Office(make_gateway, settings_for(real_server.url, namespace), failures=1_000_000, port=0)


@pytest.mark.full
@pytest.mark.system
def test_whatever_schemathesis_sends_is_answered_as_the_document_says(
    office: Office,
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    application = office.create("fuzz", f"{','.join(sorted(OPS))}:*")
    audience, examples = office.gateway.context.settings.token_audience, scaled(EXAMPLES, 5)
    token = tokens.sign(application, ops=OPS, queues=["*"], ttl=86_400, now=time.time(), audience=audience)
    config = CONFIG.format(examples=examples, token=token, name=application.app, secret=application.secret())
    (tmp_path / "schemathesis.toml").write_text(config)

    seed = request.config.getoption("--fuzz-seed")
    said, report = office.gateway.runner.run(schemathesis(office, tmp_path, seed))

    assert report.get("exit_code") == 0, said
    assert report["failures"] == report["errors"] == [], said
    assert not any(report["warnings"].values()), said
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}, said
    assert report["phases"].keys() == {"examples", "coverage", "fuzzing", "stateful"}
    all_but_itself = sum(len(methods) for methods in document()["paths"].values()) - 1
    assert report["operations"]["tested"] == all_but_itself  # it does not ask again for the document that it has read
    made = report["test_cases"]["generated"]
    assert made >= max(FROM_BOUNDS, 5000 if examples == EXAMPLES else 0), said
    figure(f"Schemathesis, seed {seed}: {made:,} requests, answered as the document says")
