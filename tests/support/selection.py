"""Which cases run: `make test` leaves out what is there for completeness, `make test-all` runs everything.

A test that is marked `full` multiplies cases, or repeats a long schedule, to be complete; of `full(keep=2)` two cases
are run all the same, drawn by their names. The scripts' own tests run on fakeredis for completeness, too: what they
promise there is promised by the contract suite; and so does that suite with asyncio, as either client runs on a server,
and two of three of its other cases.

    (nothing)              what is not left out: minutes
    --full                 everything, also on the oldest server that is supported
    --left-out --sample F  of what is left out, the part F of the cases, drawn by `--seed`; and the tests whose counts
                           `--scale` sets, which the other run has at a fiftieth
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from typing import Any

import pytest

MARK = "full(keep=0): runs in `make test-all`; of its cases so many, drawn by their names, in `make test`, too"

_COUNTS = pytest.StashKey[Counter[str]]()


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("which cases run")
    group.addoption("--full", action="store_true", help="run everything, on all servers")
    group.addoption("--left-out", action="store_true", help="run what a run without --full leaves out")
    group.addoption("--sample", type=float, default=1.0, help="with --left-out: the part of those cases that is run")
    group.addoption("--seed", type=int, default=1, help="which part that is")


def select(config: pytest.Config, items: list[pytest.Item], oldest: str) -> None:
    """Take the cases out of `items` that this run leaves out; `oldest` is the server that is there for completeness."""
    if config.getoption("--full"):
        return
    extra = _extra(items, oldest)
    counts = config.stash.setdefault(_COUNTS, Counter())
    kept, gone = [], []
    for item in items:
        why = extra.get(item.nodeid)
        if config.getoption("--left-out"):
            takes = "scaled" in getattr(item, "fixturenames", ()) or (why is not None and _drawn(config, item))
        else:
            takes = why is None
        if not takes and why is not None:
            counts[why] += 1
        (kept if takes else gone).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=gone)


def told(config: pytest.Config) -> str:
    """Say what this run left out, and what runs it; nothing when it left nothing out."""
    counts = config.stash.get(_COUNTS, Counter())
    parts = ", ".join(f"{count:,} {why}" for why, count in sorted(counts.items()))
    return parts and f"left out: {parts}; `make test-all` runs them"


def hand_over(config: pytest.Config) -> None:
    """Tell the process that reports what this one, which runs a part of the tests for it, has left out."""
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(config.stash.get(_COUNTS, Counter()))


def take_over(node: Any) -> None:
    """Take what such a process says: each has collected all cases, so one counts for all."""
    if output := getattr(node, "workeroutput", None):
        node.config.stash[_COUNTS] = Counter(output["left_out"])


def _extra(items: list[pytest.Item], oldest: str) -> dict[str, str]:
    """Return why each case that is there for completeness is, by its name."""
    marked: dict[str, list[pytest.Item]] = defaultdict(list)
    extra: dict[str, str] = {}
    for item in items:
        server = _server_of(item)
        if server == oldest:
            extra[item.nodeid] = f"on {oldest}"
        elif server == "fakeredis" and "/scripts/" in f"/{item.nodeid}":
            extra[item.nodeid] = "of the scripts on fakeredis"
        elif server == "fakeredis" and _client_of(item) == "Async":
            extra[item.nodeid] = "of asyncio on fakeredis"
        elif server == "fakeredis" and "/contract/" in f"/{item.nodeid}" and zlib.crc32(item.nodeid.encode()) % 3:
            extra[item.nodeid] = "of the contract on fakeredis"
        elif item.get_closest_marker("full"):
            marked[item.nodeid.partition("[")[0]].append(item)
    for cases in marked.values():
        mark = cases[0].get_closest_marker("full")
        assert mark is not None
        cases.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        extra |= {item.nodeid: "for completeness" for item in cases[mark.kwargs.get("keep", 0) :]}
    return extra


def _server_of(item: pytest.Item) -> str | None:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    names = ("server", "real_server", "own_server", "kind")
    return next((str(parameters[name]) for name in names if name in parameters), None)


def _client_of(item: pytest.Item) -> str | None:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return getattr(parameters.get("make_client"), "__name__", None)


def _drawn(config: pytest.Config, item: pytest.Item) -> bool:
    draw = zlib.crc32(f"{config.getoption('--seed')} {item.nodeid}".encode()) / 2**32
    return bool(draw < config.getoption("--sample"))
