"""Docstrings are in plain English: what is returned is said to be, and nothing "is none"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_layers import SOURCES, name_of

#: Said in place of what Python's own documentation says: "Return ...", "is invalid", "cannot be used with".
ODD = re.compile(r"goes? not with|what is none|that is none\b|a (URL|value|path|header) .{0,20}is none\b")


def functions(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The docstrings of functions that return something, by name; commands' are help for people."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (told := ast.get_docstring(node)):
            returns = ast.unparse(node.returns) if node.returns else "None"
            if returns not in ("None", "NoReturn") and "contextmanager" not in "".join(
                map(ast.unparse, node.decorator_list)
            ):
                yield node.name, told


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_a_function_says_what_it_returns(source: Path) -> None:
    text = source.read_text("utf-8")
    told = dict(functions(ast.parse(text)))
    assert [name for name, said in told.items() if re.match(r"(Tell|Say) whether|Give (the|an?|what|how) ", said)] == []
    assert ODD.findall(text) == []
