"""Do the tests of the scripts notice when one thing of a script is wrong? `python -m tests.mutants`, `make mutants`.

Each mutant is a copy of the project with one change in one script or one of their shared functions: a comparison, a
number, a command, a key, or a line that is missing. Those that the tests let live are shown: a test is missing, or the
change is harmless, and `HARMLESS` says why. No part of CI: all of them take hours.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = Path("redisq", "store", "scripts")
PATIENCE = 900  # seconds: a script that ends no more keeps its server from answering
#: What is compared, and commands and keys that may be taken for one another.
COMPARED = {"<=": "<", ">=": ">", " < ": " <= ", " > ": " >= ", "==": "~=", "~=": "=="}
COMMANDS = {"ZADD": "ZREM", "HSET": "HDEL", "XADD": "XDEL", "ZREM": "ZSCORE", "HDEL": "HGET", "HGET": "HEXISTS"}
KEYS = {
    "scheduled": "leases",
    "leases": "scheduled",
    "finished": "tombstones",
    "messages": "states",
    "states": "messages",
}
#: What runs against each: the tests of the scripts, and of what the audit's mend.
TESTS = ("tests/scripts", "tests/contract/test_doctor.py")
#: A pattern of `before -> after` -> why it changes nothing that matters.
HARMLESS = {
    r"overdue\(.*, \d+\) -> ": "how many leftovers one call sweeps is a matter of taste",
    r"(lapsed_by|now) > 0 .* -> .* > 1": "a millisecond after 1970 is no time of a lease",
    r"#(ms|sequence|full) <= 1\d .* -> ": "no entry or time has so many digits before the year 33658",
    r"hurried = .* -> .* >= 0": "what it saves are places that are not there",
    r"#new < 8 .* -> .* <= 8": "no body is empty",
    r"step < 1 -> .* step < 2": "how much one look takes is a matter of taste",
    r"math\.max\([01], .* -> .*math\.max\([12], ": "a millisecond more of a wait, or of an age",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line of a file, and what stands in its place."""

    file: Path
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line + 1}: {self.before.strip()} -> {self.after.strip()}"


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Give all mutants of a file, comments, heads of functions and what is said to the caller left out."""
    for number, line in enumerate((ROOT / file).read_text("utf-8").splitlines()):
        code = re.sub(r"\s*--.*", "", line)
        if re.match(r"\s*local function", code):  # another parameter's name gives the same, or what is outside
            continue
        for changed in changes(code):
            mutant = Mutant(file, number, code, changed)
            if not any(re.search(pattern, str(mutant)) for pattern in HARMLESS):
                yield mutant


def changes(code: str) -> Iterator[str]:
    """Give the ways to make one line of code wrong."""
    for words in (COMPARED, {f"'{old}'": f"'{new}'" for old, new in COMMANDS.items()}):
        for old, new in words.items():
            for found in re.finditer(re.escape(old), code):
                yield code[: found.start()] + new + code[found.end() :]
    for old, new in KEYS.items():
        for found in re.finditer(rf"(?<=, ){old}\b", code):
            yield code[: found.start()] + new + code[found.end() :]
    for found in re.finditer(r"(?<![\w.%'])\d+(?![\w.'%])", code):
        yield code[: found.start()] + str(int(found[0]) + 1) + code[found.end() :]
    if re.match(r"\s*(redis\.call|\w+\(|[\w.\[\]]+ = )", code):
        yield re.match(r"\s*", code)[0] + "do end"  # type: ignore[index]


def compiles(text: str) -> bool:
    """Whether a file is Lua still."""
    from lupa.lua51 import LuaError, LuaRuntime

    try:
        LuaRuntime().compile(text)
    except LuaError:
        return False
    return True


def lives(mutant: Mutant) -> bool:
    """Run the tests of the scripts, the mutant's own first, on a copy with it; say whether they pass all the same."""
    with tempfile.TemporaryDirectory(prefix="mutant") as folder:
        for package in ("redisq", "tests"):
            shutil.copytree(ROOT / package, Path(folder, package), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        file = Path(folder, mutant.file)
        lines = file.read_text("utf-8").splitlines()
        lines[mutant.line] = mutant.after
        text = "\n".join(lines) + "\n"
        if not compiles(text):
            return False
        file.write_text(text, "utf-8")
        own = Path("tests", "scripts", f"test_{mutant.file.stem}.py")
        return (not Path(folder, own).exists() or passes(folder, "0", str(own))) and passes(folder, "2", *TESTS)


def passes(folder: str, processes: str, *tests: str) -> bool:
    """Run tests in a folder until one fails; say whether none did."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", processes, "-p", "no:cacheprovider", *tests]
    run = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return run.wait(PATIENCE) == 0
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return False


def main() -> int:
    """Try a sample of the mutants, or all; 0 when at least 95 % were noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="how many; 0 is all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of a file's name")
    options = parser.parse_args()
    files = sorted(path.relative_to(ROOT) for path in (ROOT / SCRIPTS).rglob("*.lua"))
    every = [mutant for file in files if options.only in file.name for mutant in mutants_of(file)]
    chosen = random.Random(options.seed).sample(every, min(options.sample or len(every), len(every)))
    living = 0
    for number, mutant in enumerate(chosen, 1):
        if lives(mutant):
            living += 1
            print(f"lives: {mutant}", flush=True)
        if number % 20 == 0:
            print(f"{number} of {len(chosen)}, {living} live", flush=True)
    print(f"{len(chosen) - living} of {len(chosen)} mutants were noticed, of {len(every)} that there are")
    return 0 if living <= 0.05 * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
