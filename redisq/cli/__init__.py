"""The command line. Its libraries come with the extra `cli`; without them `main` says so."""

from __future__ import annotations

import importlib.util
import sys

from redisq import process


def main() -> int:
    """Run the command line on `sys.argv` and give the exit code.

    0 is success, 1 an error (one line on stderr says what to do), 2 wrong usage, 130 an interrupt.
    """
    if not (importlib.util.find_spec("typer") and importlib.util.find_spec("rich")):
        print("redisq: the command line is an extra. Install it: pip install 'redisq[cli]'", file=sys.stderr)
        return 1
    process.open_standard_descriptors()
    try:
        from redisq.cli.app import run

        return run()
    except KeyboardInterrupt:  # before or after the command itself, which ends so, too
        return 130
