"""Make `python -m redisq` the same as `redisq`."""

import sys

from redisq.cli import main

if __name__ == "__main__":
    sys.exit(main())
