"""The example of a whole project: its own tests, its types, and all of it in processes on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.conftest import Crew, eventually
from tests.system.test_readme import free_port

EXAMPLE = Path(__file__).parents[2] / "deploy" / "example"
ROOT = EXAMPLE.parents[1]
ORDER = {"customer": "ada@example.com", "lines": [{"sku": "A-1", "count": 2, "price": "10.50"}]}


def good(*arguments: str, **environment: str) -> str:
    """Run a module of Python in the folder of the example, with nothing of ours in the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("REDISQ_", "PYTEST_"))}
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE)])}
    run = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=EXAMPLE,
        env={**clean, **paths, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.skipif(find_spec("redisq.testing") is None, reason="there is no redisq.testing")
def test_its_own_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    ours = ["-c", str(tmp_path / "pytest.ini"), "--rootdir", str(EXAMPLE), "-p", "no:cacheprovider", "-p", "no:valkey"]
    assert " passed" in good("pytest", "-q", *ours, "--basetemp", str(tmp_path / "made"), "webshop")


def test_it_is_well_typed(tmp_path: Path) -> None:
    ours = ["--strict", "--no-error-summary", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    assert good("mypy", *ours, "-p", "webshop") == ""


@pytest.fixture
def shop(crew: Crew, tmp_path: Path) -> Iterator[httpx.Client]:
    """The API and a worker, in processes of their own."""
    port = free_port()
    paths = os.pathsep.join([str(ROOT), str(EXAMPLE)])
    environment = crew.environment(PYTHONPATH=paths, SHOP_DATABASE=str(tmp_path / "shop.db"))
    for arguments in (
        ["uvicorn", "webshop.api:app", "--port", port, "--log-level", "warning"],
        ["redisq", "worker", "webshop.worker:worker"],
    ):
        command = [sys.executable, "-m", *arguments]
        crew.processes.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL))
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def answers() -> bool:
        try:
            return client.get("/orders/none").status_code == 404
        except httpx.ConnectError:
            return False

    with client:
        eventually(answers, "the API")
        yield client


def test_it_works_in_processes(shop: httpx.Client, crew: Crew) -> None:
    key = {"Idempotency-Key": "cart-1"}
    made = [shop.post("/orders", json=ORDER, headers=key).json()["number"] for _ in range(2)]
    assert made[0] == made[1]

    def steps() -> list[dict[str, Any]]:
        answer = shop.get(f"/orders/{made[0]}")
        assert answer.status_code == 200
        return list(answer.json())

    def shipped() -> bool:
        return [step["status"] for step in steps()] == ["COMPLETE"] * 3

    eventually(shipped, "the order's three steps")
    answer = shop.post("/quotes", json=[ORDER] * 1000)
    assert answer.json() == {"priced": 1000, "total": "21000.00"}
    shop.close()
    for process in reversed(crew.processes):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it was sent
    assert crew.processes[1].returncode == 0
