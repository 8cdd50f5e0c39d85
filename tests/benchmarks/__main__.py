"""`python -m tests.benchmarks`: how fast redisq is, beside others, and what each message costs."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from redisq import RedisQError
from tests.benchmarks import budget, machine, report, server
from tests.benchmarks.peers import PEERS, RAW, NotThere, chosen
from tests.benchmarks.scenarios import POWERS, SCENARIOS, Plan, Run

FULL: dict[str, Any] = {
    "messages": 10_000,
    "rounds": 3,
    "backlog": 5_000_000,
    "watch": 15.0,
    "concurrencies": POWERS,
    "waits": 1_000,
}
QUICK: dict[str, Any] = {
    "messages": 2_000,
    "rounds": 1,
    "backlog": 200_000,
    "watch": 1.0,
    "concurrencies": [1, 64],
    "waits": 100,
}


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    told = "\n".join(f"  {name:<12} {text}" for name, text in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"{__doc__}\n\nscenarios:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", type=_names(SCENARIOS), default=list(SCENARIOS), help="scenarios, with commas between"
    )
    parser.add_argument(
        "--messages", type=int, help=f"in each measurement; {FULL['messages']:,}, or fewer of a slow peer"
    )
    parser.add_argument("--rounds", type=int, help=f"the median of which counts; {FULL['rounds']}")
    parser.add_argument("--backlog", type=int, help=f"waiting messages at most; {FULL['backlog']:,}, about 1 GB")
    parser.add_argument(
        "--peers",
        type=_names([RAW, *PEERS]),
        default=[RAW, *PEERS],
        help=f"whom to measure beside redisq: {', '.join([RAW, *PEERS])}; none: an empty word",
    )
    parser.add_argument("--server", help="path of a redis-server or valkey-server; else one that is found here")
    parser.add_argument("--quick", action="store_true", help="one round, fewer messages, a smaller backlog")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for results, and for the peers")
    parser.add_argument("--budget", action="store_true", help="only count what test_budget.py bounds, and print it")
    return parser


def _names(known: Any) -> Any:
    def names(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        if strange := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: known are {', '.join(known)}")
        return found

    return names


def plan_of(options: argparse.Namespace) -> Plan:
    """Make the plan: what is not given is as in a full run, or as in a quick one."""
    values = {
        name: value if (given := getattr(options, name, None)) is None else given
        for name, value in (QUICK if options.quick else FULL).items()
    }
    return Plan(scenarios=options.only, **values)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(options: argparse.Namespace) -> None:
    """Measure, print tables, write the document and the plots, and name their files."""
    plan, console = plan_of(options), Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    began, where = datetime.now(UTC), machine.machine()  # before anything runs: its `load` is others' work
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redisq-bench-")))
        redis = stack.enter_context(server.running(options.server))
        run = Run(
            plan,
            redis,
            folder,
            lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", flush=True),
            options.out / "peers",
        )
        candidates = run.prepare(chosen(options.peers))
        about = {
            "began": began.isoformat(timespec="seconds"),
            "machine": where,
            "versions": machine.software(redis, candidates),
        }
        run.measure(candidates)
    from tests.benchmarks import plots  # matplotlib takes its time to load

    report.show(console, run.samples.figures())
    console.print(f"{about['machine']}\n{about['versions']}", style="dim", markup=False)
    stem = options.out / began.strftime("%Y%m%d-%H%M%S")
    options.out.mkdir(parents=True, exist_ok=True)
    path = stem.with_suffix(".json")
    path.write_text(
        json.dumps(report.document(run.samples, about, run.left_out, vars(plan)), separators=(",", ":")) + "\n", "utf-8"
    )
    print("\n".join(map(str, [path, *plots.draw(run.samples, stem)])))


def main() -> int:
    """Run, and give the exit code: 1 when something of redisq could not be measured. A missed target is no failure."""
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leave as Ctrl-C does: nothing runs on
    logging.getLogger("redisq.server").setLevel(logging.ERROR)  # a server that keeps nothing on disk is what we want
    try:
        if options.budget:
            with server.running(options.server) as redis:
                print(budget.written(budget.count(redis.url)))
        else:
            run(options)
    except (NotThere, RedisQError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
