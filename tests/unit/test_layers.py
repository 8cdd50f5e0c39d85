"""Imports go downwards, and each kind of impurity has its home. What the tree promises, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import redisq

ROOT = Path(redisq.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

#: The lowest row first. A module, or a package as a whole, imports only from rows below its own.
ROWS: list[set[str]] = [
    {"errors", "extras", "logs", "private", "process"},
    {"embedded_folder"},
    {"supervisor", "loops"},
    {
        "addresses",
        "keys",
        "model",
        "scopes",
        "strict",
        "faults",
        "gate",
        "embedded",
        "failpoints",
        "packing",
        "portions",
        "tls",
        "urls",
        "idle",
        "per_loop",
    },
    {"aside", "bounds", "jsonlines", "schema_keywords"},
    {"codec", "findings", "options", "server", "tokens", "scripts"},
    {"lineage", "masters"},
    {"applications"},
    {"acl", "settings", "replies", "schema_bounds", "schema_errors"},
    {"calls", "endpoint", "schemas"},
    {"definitions"},
    {"coalescing", "operations", "conversation"},
    {
        "aconnection",
        "connection",
        "batches",
        "dead_letters",
        "deliveries",
        "directory",
        "doctor",
        "existence",
        "listing",
        "waiting",
    },
    {"client", "aclient", "doorbell"},
    {"preload"},
    {"worker"},
    {"gateway"},
    {"cli", "testing"},
    {"__main__"},
]
#: Beside the rows: a private server for development knows nothing of queues.
BESIDE = {
    "private": set(),
    "embedded_folder": {"private"},
    "supervisor": {"process", "private", "embedded_folder"},
    "embedded": {"errors", "extras", "private", "embedded_folder"},
}
#: Only these speak Redis' protocol.
REDIS_PY = {"aconnection", "connection", "endpoint", "doorbell", "client", "aclient"}
#: Settings are read by pydantic in `settings`; these hand the environment on to a process that they start.
ENVIRONMENT = {
    "settings.py": "variables that are none of ours, to warn of them",
    "failpoints.py": "REDISQ_FAILPOINTS, for tests alone",
    "embedded.py": "the supervisor; and REDISQ_EMBEDDED_SERVER, where a server is started without settings",
    "cli/dev_crew.py": "Redis, the gateway and the workers, of which the gateway alone gets the master key",
    "cli/demo_run.py": "the demonstration's workers, which it gives a server and credentials of their own",
    "cli/dev_run.py": "Redis and the workers, which it gives a server and credentials of their own",
    "cli/work.py": "the worker's module, which reads its settings itself",
}
#: The server's clock decides. A client's own matters for tokens, and for what a handler is told of its deadline.
WALL_CLOCK = {
    "operations.py": "tokens, and at= of a new message, which becomes a delay",
    "cli/tokens.py": "tokens",
    "deliveries.py": "deadlines, from the lease that a renewal gave",
    "directory.py": "tokens: from when on they count, until when a key does",
    "gateway/door.py": "tokens",
    "gateway/edge.py": "the log",
    "gateway/token.py": "tokens",
    "doctor.py": "this machine's clock, compared with the server's",
    "cli/dead.py": "how long ago a dead letter died, for people",
    "gateway/page/session.py": "tokens",
    "gateway/page/views.py": "how long ago something was, for people",
    "worker/claiming.py": "Delivery.deadline, from the lease that the claim gave",
    "worker/schedule.py": "the ticks of schedules; the ids of their messages make workers agree",
    "worker/heartbeat.py": "Delivery.deadline, from the lease that the renewal gave",
}

row_of = {unit: number for number, row in enumerate(ROWS) for unit in row}


def name_of(source: Path) -> str:
    return source.relative_to(ROOT).as_posix()


def unit_of(source: Path) -> str:
    return source.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(source: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, dotted; of `from package import name` both readings."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(source)}: a relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units_imported(source: Path) -> set[str]:
    """Which units of redisq a file imports; a public name counts as the module that it lives in."""
    seconds = {name.split(".")[1] for name in imports(source) if name.startswith("redisq.")}
    homes = redisq._HOME
    return {homes.get(name, name) for name in seconds} - {unit_of(source), "__version__"}


def attributes(source: Path) -> set[str]:
    """The dotted names `a.b` that a file uses, and what it imports."""
    tree = ast.parse(source.read_text("utf-8"))
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return used | set(imports(source))


def inner_sources() -> list[Path]:
    """All but the package's own `__init__`, which only names where its public names live."""
    return [source for source in SOURCES if source != ROOT / "__init__.py"]


@pytest.mark.parametrize("source", inner_sources(), ids=name_of)
def test_imports_go_downwards(source: Path) -> None:
    unit = unit_of(source)
    assert unit in row_of, "a new module needs a row"
    lower = {other for other, row in row_of.items() if row < row_of[unit]}
    assert units_imported(source) <= BESIDE.get(unit, lower)


def test_the_check_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "from redisq.client import RedisQ",
        "from redisq import client",
        "from redisq import RedisQ",
        "import redisq.client",
        "def later():\n    from redisq.client import RedisQ",
    ):
        source = tmp_path / "calls.py"
        source.write_text(text)
        monkeypatch.setattr("tests.unit.test_layers.ROOT", tmp_path)
        with pytest.raises(AssertionError):
            test_imports_go_downwards(source)


def test_redis_py_is_used_by_the_connection_and_the_clients_alone() -> None:
    users = {unit_of(source) for source in SOURCES if any(name.split(".")[0] == "redis" for name in imports(source))}
    assert "connection" in users
    assert users <= REDIS_PY


def test_only_settings_read_the_environment() -> None:
    users = {
        name_of(source)
        for source in SOURCES
        if attributes(source) & {"os.environ", "os.getenv", "os.environb", "os.getenvb"}
    }
    assert users <= set(ENVIRONMENT)


def test_few_ask_for_the_time_of_day() -> None:
    users = {
        name_of(source)
        for source in SOURCES
        if attributes(source) & {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
    }
    assert users <= set(WALL_CLOCK)


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_a_module_has_400_lines_at_most(source: Path) -> None:
    assert len(source.read_text("utf-8").splitlines()) <= 400
