"""The command line. Its libraries come with the extra `cli`; without them `main` says so."""

from __future__ import annotations

import importlib.util
import sys


def main() -> int:
    """Run the command line on `sys.argv` and give the exit code.

    0 is success, 1 an error (one line on stderr says what to do), 2 wrong usage, 130 an interrupt.
    """
    if not (importlib.util.find_spec("typer") and importlib.util.find_spec("rich")):
        from redisq import extras

        print(f"redisq: the command line needs packages that are not here: {extras.install('cli')}", file=sys.stderr)
        return 1
    try:
        from redisq.cli.app import run

        return run()
    except KeyboardInterrupt:  # before or after the command itself, which ends so, too
        return 130
