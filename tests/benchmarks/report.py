"""What a run showed: as tables for people, and as one JSON document with every sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import (
    CALL,
    CALLERS,
    CROWD,
    POLICIES,
    PROCESSES,
    TARGETS,
    WAITS,
    Figures,
    Samples,
    Target,
    Verdict,
    written,
)
from tests.benchmarks.growth import BYTES, SERVER_TIME
from tests.benchmarks.peers import ADAPTERS, BROKERS, OURS, RAW, THREADS

_COLUMNS = {
    "queue": "queue",
    f"callers:{CALLERS}": f"{CALLERS} callers",
    "bulk": "bulk",
    "drain": "drain",
    "latency:p50": "p50",
    "latency:p99": "p99",
    "queue:cpu": "Redis/queued",
    "drain:cpu": "/drained",
    "trickle:cpu": "/trickle",
    "waiting": "waiting",
    "disk": "on disk",
    "kept": "kept",
    "idle": "idle",
}
_COSTS = {
    "client_cpu": ("Python, CPU", 1e6, "{:,.1f} us"),
    "cpu": ("server, CPU", 1e6, "{:,.1f} us"),
    "scripts": ("in scripts", 1e6, "{:,.1f} us"),
    "commands": ("commands", 1, "{:,.1f}"),
    "to_server": ("to server", 1, "{:,.0f} B"),
    "from_server": ("from server", 1, "{:,.0f} B"),
}
#: What is costed, whose costs are of interest, and by what name. `client_cpu` is of the process that queues,
#: or works.
_COSTED = (
    ("queue", THREADS, "queue one by one"),
    ("queue", OURS, "queue one by one, asyncio"),
    ("queue", RAW, "queue one by one, raw"),
    (f"callers:{CALLERS}", OURS, f"queue, {CALLERS} callers at once"),
    ("bulk", THREADS, "queue in bulk"),
    ("bulk", RAW, "queue in bulk, raw"),
    ("drain", OURS, "drain, async handler"),
    ("drain", THREADS, "drain, plain handler in 8 threads"),
    ("drain", RAW, "drain, raw"),
)


_ALONE = {
    "maximum": f"{CALLERS} callers and one worker at the same time",
    "load:p50": "latency at half of that, p50",
    "load:p99": "latency at half of that, p99",
    **{f"queue:{policy}": f"queue one by one, appendfsync {policy}" for policy in POLICIES},
    **{f"drain:{policy}": f"one worker, appendfsync {policy}" for policy in POLICIES},
    f"queue:{CROWD} idle": f"queue one by one beside {CROWD:,} idle connections",
    f"drain:{CROWD} idle": f"one worker beside {CROWD:,} idle connections",
    **{f"processes:{number}": f"{number} worker processes" for number in PROCESSES},
    "http": f"POST /{{queue}} over HTTP, {CALLERS} connections",
    "http:p50": "its latency, p50",
    "http:p99": "its latency, p99",
    "http parse": "an endpoint of the same server that only parses JSON",
    "http parse:p50": "its latency, p50 ",
    "http parse:p99": "its latency, p99 ",
    "http parse bare": "the same without ids, headers, metrics and log",
    "http:bare": "POST /{queue} beside that",
    **{f"{measure}:calls": f"{title}, scripts called" for measure, title in WAITS.items()},
    **CALL,
    "import": "CPU of `import redisq`",
    "import client": "CPU of `from redisq import RedisQ`",
    "help": "CPU of `redisq --help`",
}


def show(console: Console, figures: Figures) -> None:
    """Print all tables that have something in them."""
    for table in (_side_by_side(figures), _alone(figures), _costs(figures), _backlog(figures), _targets(figures)):
        if table.row_count:
            console.print(table)


def document(
    samples: Samples, about: Mapping[str, Any], left_out: Mapping[str, str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Give everything, JSON-ready. Seconds and bytes are what numbers are in, latencies in whole microseconds."""
    figures = samples.figures()
    return {
        **about,
        "options": dict(options),
        "left_out": dict(left_out),
        "targets": [_judged(target, target.judge(figures)) for target in TARGETS],
        "figures": figures,
        "samples": samples.numbers,
        "latencies_us": {
            measure: {subject: [round(seconds * 1e6) for seconds in values] for subject, values in subjects.items()}
            for measure, subjects in samples.latencies.items()
        },
    }


def _judged(target: Target, verdict: Verdict | None) -> dict[str, Any]:
    asked = {
        "title": target.title,
        "measure": target.measure,
        "subject": target.ours,
        "factor": target.factor,
        "than": target.than,
        "at_most": target.at_most,
    }
    if verdict is None:
        return {**asked, "met": None}
    return {**asked, "figure": verdict.own, "other": verdict.subject, "others": verdict.value, "met": verdict.met}


def _table(title: str, *columns: str) -> Table:
    """Make a table; columns without names make it one without a head."""
    first, *others = columns
    table = Table(
        first,
        title=title,
        show_header=any(columns),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _side_by_side(figures: Figures) -> Table:
    """Show everybody's figures: messages per second, times from queueing to the handler, bytes, commands."""
    measures = [measure for measure in _COLUMNS if figures.get(measure)]
    table = _table("Side by side", "", *(_COLUMNS[measure] for measure in measures))
    for name, adapter in {**ADAPTERS, **BROKERS}.items():
        cells = [figures[measure].get(name) for measure in measures]
        if any(cell is not None for cell in cells):
            shown = zip(measures, cells, strict=True)
            row = ("-" if cell is None else written(measure, cell) for measure, cell in shown)
            table.add_row(adapter.title, *row)
    return table


def _alone(figures: Figures) -> Table:
    """Show what is measured of redisq alone."""
    table = _table("redisq alone", "", "")
    for measure, title in _ALONE.items():
        for name in (OURS, THREADS):
            if name in figures.get(measure, {}):
                kind = ", threads" if name == THREADS and measure not in CALL else ""
                table.add_row(title + kind, written(measure, figures[measure][name]))
    return table


def _costs(figures: Figures) -> Table:
    """Show what one message costs on each side."""
    table = _table("What one message costs", "", *(title for title, _, _ in _COSTS.values()))
    for measure, name, title in _COSTED:
        if name in figures.get(measure, {}):
            costs = [(figures[f"{measure}:{cost}"][name] * scale, form) for cost, (_, scale, form) in _COSTS.items()]
            table.add_row(title, *(form.format(cost) for cost, form in costs))
    return table


def _backlog(figures: Figures) -> Table:
    """Show server time and memory by the number of messages that wait."""
    sizes = sorted(map(int, figures.get(BYTES, {})))
    table = _table("Server time by messages waiting", "", *(f"{size:,}" for size in sizes))
    for measure, by_size in figures.items():
        if measure.startswith(SERVER_TIME):
            cells = _microseconds(by_size[str(size)] for size in sizes)
            table.add_row(measure.removeprefix(SERVER_TIME), *cells)
    if sizes:
        table.add_row("bytes per message", *(f"{figures[BYTES][str(size)]:,.0f} B" for size in sizes))
    return table


def _microseconds(seconds: Iterable[float]) -> Sequence[str]:
    return [f"{value * 1e6:,.0f} us" for value in seconds]


def _targets(figures: Figures) -> Table:
    """Show each target that something was measured for, and whether it is met."""
    table = _table("Targets", "", "redisq", "target", "beside", "is")
    for target in TARGETS:
        verdict = target.judge(figures)
        if verdict is not None:
            style, word = ("green", "met") if verdict.met else ("red", "missed")
            table.add_row(*_row(verdict), f"[{style}]{word}[/]")
    return table


def _row(verdict: Verdict) -> tuple[str, str, str, str]:
    target = verdict.target
    sign = "<=" if target.at_most else ">="
    own = written(target.measure, verdict.own)
    if target.than is None:
        return target.title, own, f"{sign} {written(target.measure, target.factor)}", ""
    other = f"{ADAPTERS[verdict.subject].title} {written(target.measure, verdict.value)}"
    return target.title, own, f"{sign} {target.factor:g} x", f"{verdict.ratio:.2f} x {other}"
