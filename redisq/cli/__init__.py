"""The command line. Its libraries come with the extra `cli`; without them `main` says so.

Imports: async_client, body, client, embedded, errors, gateway, guide, link, model, operations, runtime, settings,
store, tokens, worker.
"""

from __future__ import annotations

import importlib.util

from redisq.cli import output, streams


def main() -> int:
    """Run the command line on `sys.argv` and give the exit code.

    0 is success, 1 an error (one line on stderr says what to do), 2 wrong usage, 130 an interrupt.
    """
    with streams.guarded():
        if not (importlib.util.find_spec("typer") and importlib.util.find_spec("rich")):
            from redisq.runtime import extras

            output.complain(f"the command line needs packages that are not here: {extras.install('cli')}")
            return 1
        try:
            from redisq.cli.app import run

            return run()
        except KeyboardInterrupt:  # before or after the command itself, which ends so, too
            return 130
