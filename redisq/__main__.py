"""Make `python -m redisq` the same as `redisq`."""

import os
import sys


def _forget_current_folder() -> None:
    """Have nothing more imported from the current folder, which -m puts ahead of the standard library.

    A worker's modules are looked for there, but later in the path: see `redisq.cli.modules`.
    """
    try:
        if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
            del sys.path[0]
    except (OSError, IndexError):  # the current folder was removed
        pass


if __name__ == "__main__":
    _forget_current_folder()
    from redisq.cli import main

    sys.exit(main())
