"""Every command and code block of the README and of the guide runs: in order, in one shell, in an empty folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

import redisq
from redisq import Message, Settings, guide
from redisq.tokens.applications import MasterKey
from tests.conftest import REAL
from tests.system.conftest import Crew

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = [README, *(guide.read(chapter) for chapter in guide.CHAPTERS)]


def blocks_of(text: str) -> list[tuple[str, str]]:
    """The blocks of a text, with their kinds."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


BLOCKS = [block for text in TEXTS for block in blocks_of(text)]
#: Chapters that need nothing of those before them.
ALONE = ("frameworks", "patterns", "migrating", "notebooks")
#: Before Django 6 they are a package of their own, as the guide says.
DJANGO_HAS_TASKS = find_spec("django.tasks") is not None

#: what cannot run inside a test, and the test that stands for it
ELSEWHERE = {
    "make demo": "test_make_demo_works_from_this_checkout",
    "make test": "test_ci_runs_the_test_command",
    "make setup": "test_make_demo_works_from_this_checkout",
    ". .venv/bin/activate": "this interpreter's environment is on PATH",
    "redisq dev shop:worker --reload": "tests/system/test_dev.py: it runs until Ctrl-C",
}


def test_every_block_is_of_a_known_kind() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "js", "json"}
    assert len(BLOCKS) >= 7


def runs(line: str) -> bool:
    """Whether a command of the README runs in this test."""
    return line not in ELSEWHERE and (not line.startswith("node ") or shutil.which("node") is not None)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def run_blocks(blocks: Sequence[tuple[str, str]], folder: Path, **more: str) -> str:
    """Run blocks of the README or the guide in one shell, in a folder, and give what they print."""
    port = free_port()
    script = ["set -eum", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]  # -m: `kill %1` wants job control
    for kind, text in blocks:
        text = text.replace("8080", port)
        if not DJANGO_HAS_TASKS:
            text = text.replace("from django.tasks", "from django_tasks")
        if kind in ("python", "js"):
            name = re.match(r"(?:#|//) (\w+\.m?(?:py|js))\n", text)
            assert name, f"a block of code begins with its file's name: {text}"
            (folder / name[1]).write_text(text)
        elif kind == "sh":
            script += [f"echo {shlex.quote('>>> ' + line)}\n{line}" for line in text.splitlines() if runs(line)]
    bin = folder / "bin"
    bin.mkdir()
    for name, module in (("redisq", "-m redisq"), ("python", "")):
        (bin / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (bin / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
    environment |= {**more, "PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    bash = shutil.which("bash")
    assert bash
    run = subprocess.run(
        [bash, "-c", "\n".join(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.skipif(REAL is None, reason="fakeredis keeps nothing between two commands")
def test_the_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    alone = [block for chapter in (*ALONE, "installing") for block in blocks_of(guide.read(chapter))]
    # "installing" is tests/system/test_packaging.py's, which makes environments
    told = run_blocks([block for block in BLOCKS if block not in alone], tmp_path)
    assert "{'total': 21}" in told
    shown = told[told.index('>>> redisq get orders "$id" --json') :].split("\n", 1)[1]
    message, _ = json.JSONDecoder().raw_decode(shown)
    assert message["result"] == {"total": 21}
    assert "get" in told[told.index(">>> redisq token inspect") :]
    assert told[told.index(">>> python over_http.py") :].count("PENDING") == 1 + bool(shutil.which("node"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("chapter", ALONE)
def test_the_blocks_of_a_chapter_run(chapter: str, crew: Crew, tmp_path: Path) -> None:
    """Run it with a server, credentials and a gateway's key, beside the README's worker and producer."""
    files = [block for block in blocks_of(README) if block[0] == "python"]
    (tmp_path / "gateway.env").write_text(f"export REDISQ_MASTER_KEY={MasterKey.generate().text()}\n")
    run_blocks([*files, *blocks_of(guide.read(chapter))], tmp_path, **crew.environment())


def test_the_messages_shape_is_the_one_shown() -> None:
    (shown,) = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    assert list(shown) == list(Message.__dataclass_fields__)


def test_the_schedule_shown_is_what_the_text_says(tmp_path: Path) -> None:
    (text,) = [text for _, text in BLOCKS if text.startswith("# reports.py\n")]
    (tmp_path / "reports.py").write_text(text)
    worker = runpy.run_path(str(tmp_path / "reports.py"), run_name="reports")["worker"]
    assert worker.schedules == ["reports.report"]
    (schedule,) = worker._schedules.values()
    tick = schedule.cron.after(datetime(2026, 1, 2, 12, tzinfo=UTC))  # a Friday
    assert tick == datetime(2026, 1, 5, 5, 30, tzinfo=UTC)
    assert asyncio.run(schedule.request(tick)) == {"day": "2026-01-05"}


def test_ci_runs_the_test_command() -> None:
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_make_demo_works_from_this_checkout() -> None:
    make = shutil.which("make")
    if make is None or (ROOT / ".venv").is_symlink() or not (ROOT / ".venv" / "bin" / ".ready").exists():
        pytest.skip("make demo sets up .venv, which `make test` has done before it runs this")
    run = subprocess.run([make, "demo"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "messages/s" in run.stdout


def settings_table() -> str:
    """The table of all settings, from the settings themselves."""
    rows = ["| environment variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `REDISQ_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_settings() -> None:
    """When this fails, put the expected text into the guide."""
    (shown,) = re.findall(r"^\| environment variable .*?(?=\n*\Z)", guide.read("settings"), re.MULTILINE | re.DOTALL)
    assert shown == settings_table()


def test_troubleshooting_quotes_what_redisq_says() -> None:
    quoted = re.findall(r"^\| `([^`]+)` \|", guide.read("troubleshooting"), re.MULTILINE)
    assert len(quoted) >= 10
    said = " ".join(path.read_text("utf-8") for path in (ROOT / "redisq").rglob("*.py"))
    said = re.sub(r'"\s+f?"|\s+', lambda found: "" if '"' in found[0] else " ", said)
    assert [text for text in quoted if text not in said] == []


def test_supported_pythons_are_those_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11"' in project
    assert "3.11" in README
    assert redisq.__version__
