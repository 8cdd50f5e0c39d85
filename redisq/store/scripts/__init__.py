"""The Lua scripts: one file per atomic operation, spliced with the shared functions of `lib/` that its header USES.

Where a script says ORDINARY its ordinary case comes first, of `ordinary/`, before any shared function is made: a Lua
closure is made when its line is run, so what returns before pays nothing for the rules behind it.

A script is called by the SHA-1 of its whole text, so two versions of it live side by side on one server. All are read
together, at the first use of any: one that is first needed hours later may be missing by then, or newer than this code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_ORDINARY = "-- ORDINARY\n"
_USES = re.compile(r"^-- USES (.+)$", re.MULTILINE)
_KEY = re.compile(r"^-- KEYS\[\d+\] +(\w+)", re.MULTILINE)
_COMMAND = re.compile(r"redis\.call\('(\w+)'")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its file's name, its text as the server gets it, that text's SHA-1 in hex, its keys' names.

    `commands` are those that it calls, each once, in the order of the alphabet; what it only tries, by pcall, may fail.
    """

    name: str
    text: bytes
    sha: bytes
    keys: tuple[str, ...]
    commands: tuple[str, ...]


@cache
def load(name: str) -> Script:
    """Return the script `name`, made ready once per process."""
    sources, shared, ordinary = read_all()
    return assemble(name, sources[name], shared, ordinary.get(name, ""))


def assemble(name: str, source: str, shared: Mapping[str, str], ordinary: str) -> Script:
    """Put a script together: its keys' names, its ordinary case, the shared functions that it uses, its rules."""
    parts = [shared[part] for line in _USES.findall(source) for part in line.split(", ")]
    keys, marked, rules = source.partition(_ORDINARY)
    text = _without_comments("\n".join([keys, ordinary, *parts, rules] if marked else [*parts, source]))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
    commands = tuple(sorted(set(_COMMAND.findall(text))))
    return Script(name, text.encode(), sha, tuple(_KEY.findall(source)), commands)


@cache
def read_all() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Read all files, once per process: the scripts, what is shared, and ordinary cases, by name."""
    folder = files(__name__)
    return _texts(folder), _texts(folder / "lib"), _texts(folder / "ordinary")


def _texts(folder: Traversable) -> dict[str, str]:
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name[:-4]: file.read_text("utf-8") for file in found if file.name.endswith(".lua")}


def _without_comments(source: str) -> str:
    """Drop comment lines and indentation: the server need not keep them. Line numbers in its errors count the rest."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--")) + "\n"
