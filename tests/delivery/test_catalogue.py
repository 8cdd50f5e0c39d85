"""The catalogue of faults, and the guide's table of promises, name tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from redisq import guide
from tests.delivery.catalogue import CATALOGUE, REDIS, SCRIPTS, WORKERS

TESTS = Path(__file__).parent.parent
THERE = {
    node.name
    for source in TESTS.glob("*/test_*.py")
    for node in ast.walk(ast.parse(source.read_text("utf-8")))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


@pytest.mark.parametrize("fault", CATALOGUE)
def test_a_fault_is_shown_or_a_reason_given(fault: str) -> None:
    shown = CATALOGUE[fault]
    if isinstance(shown, str):
        assert shown.endswith(".")
        assert " " in shown
    else:
        assert shown
        assert set(shown) <= THERE


def test_no_fault_is_listed_twice() -> None:
    assert len(CATALOGUE) == len(SCRIPTS) + len(WORKERS) + len(REDIS)


def test_what_the_readme_says_proves_a_promise_is_there() -> None:
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", guide.read("promises")))
    assert len(named) > 10
    assert named <= THERE | {source.name for source in TESTS.glob("*/test_*.py")}
