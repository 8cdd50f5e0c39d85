"""The Lua scripts: one file per atomic operation, spliced with the shared functions of `lib/` that its header USES.

A script is called by the SHA-1 of its whole text, so two versions of it live side by side on one server.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_USES = re.compile(r"^-- USES (.+)$", re.MULTILINE)
_KEY = re.compile(r"^-- KEYS\[\d+\] +(\w+)", re.MULTILINE)
_COMMAND = re.compile(r"redis\.call\('(\w+)'")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its file's name, its text as the server gets it, that text's SHA-1 in hex, its keys' names.

    `commands` are those that its text holds, each once, in the order of the alphabet.
    """

    name: str
    text: bytes
    sha: bytes
    keys: tuple[str, ...]
    commands: tuple[str, ...]


@cache
def load(name: str) -> Script:
    """Read the script `name`, once per process."""
    folder = files(__name__)
    source = (folder / f"{name}.lua").read_text("utf-8")
    uses = _USES.search(source)
    parts = uses[1].split(", ") if uses else []
    shared = [(folder / "lib" / f"{part}.lua").read_text("utf-8") for part in parts]
    text = _without_comments("\n".join([*shared, source]))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
    commands = tuple(sorted(set(_COMMAND.findall(text))))
    return Script(name, text.encode(), sha, tuple(_KEY.findall(source)), commands)


def _without_comments(source: str) -> str:
    """Drop comment lines and indentation: the server need not keep them. Line numbers in its errors count the rest."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--")) + "\n"
