"""What is imported in a function of a process that runs for long is imported at its start, too."""

from __future__ import annotations

import ast
import subprocess
import sys

from redisq import _HOME, preload
from tests.unit.test_layers import SOURCES, name_of, place_of

#: Imported when handlers are registered, a server or a loop starts, or a client is made, or (`fcntl`) long before.
AT_THE_START = {
    "cronsim",
    "fakeredis",
    "importlib.metadata",
    "uvloop",
    "hiredis",
    "annotationlib",
    "jinja2",
    "markdown_it",
    "fcntl",
}

MODULES = {".".join(["redisq", *place_of(source)]) for source in SOURCES if source.name != "__init__.py"}


def imported_in_functions() -> set[str]:
    found: set[str] = set()
    for source in SOURCES:
        if not name_of(source).startswith(("cli/", "testing/", "__")):
            for function in ast.walk(ast.parse(source.read_text("utf-8"))):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= {name for node in ast.walk(function) for name in names_of(node)}
    return found


def names_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return (names & MODULES) or {str(node.module)}
    return set()


def test_what_is_imported_late_is_known() -> None:
    homes = {f"redisq.{home}" for home in _HOME.values()}
    assert imported_in_functions() - homes == {*preload.RARE} | AT_THE_START


def test_it_is_left_for_the_start_of_a_process_that_runs_for_long() -> None:
    """`import redisq` and a client take none of it with them."""
    code = (
        "import sys, redisq; from redisq import RedisQ, Worker, preload; late = {*preload.RARE} & {*sys.modules}; "
        "print(late - {'difflib', 'ipaddress'}, 'redisq.store.scripts' in sys.modules); preload.read_all(); "
        "print({*preload.RARE} - {*sys.modules} <= {'jsonschema_rs'}, 'redisq.async_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() True\nTrue True\n"
