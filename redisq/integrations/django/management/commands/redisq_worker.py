"""`manage.py redisq_worker`: run tasks in this process."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from redisq.errors import RedisQError
from redisq.integrations.django.worker import make_worker


class Command(BaseCommand):
    """Works until a signal comes, as `redisq worker` does."""

    help = "Run the tasks of a redisq backend until SIGTERM, SIGHUP or Ctrl-C; a second one cuts running tasks short."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the options."""
        parser.add_argument("--backend", default="default", help="Which backend of TASKS.")
        parser.add_argument("--queue", action="append", default=[], help="Work on this queue; may be repeated.")
        parser.add_argument("--concurrency", type=int, default=10, help="How many tasks at once, each in a thread.")
        parser.add_argument("--burst", action="store_true", help="End when the queues have nothing ready.")

    def handle(self, **options: Any) -> None:
        """Run the worker, and end with its exit code."""
        if options["verbosity"]:
            _log_to_stderr()
        try:
            worker = make_worker(options["backend"], options["queue"], concurrency=options["concurrency"])
            code = worker.run(burst=options["burst"])
        except RedisQError as error:
            raise CommandError(str(error)) from None
        if code:
            sys.exit(code)


def _log_to_stderr() -> None:
    """Write what redisq logs to stderr, unless LOGGING has a place for it."""
    log = logging.getLogger("redisq")
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
