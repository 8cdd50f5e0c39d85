"""Imports go downwards, as the map and the folders say; each kind of impurity has its home. Read from the source."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import redisq

ROOT = Path(redisq.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

#: A line of the map in `redisq/__init__.py`: units, folders with a slash, and their duty.
_MAP_LINE = re.compile(r"^    ([a-z_]+/?(?:, [a-z_]+/?)*)  +\S", re.MULTILINE)
#: What a folder's `__init__` says that it imports, or what inside of a folder of folders lies below it.
_SAYS = re.compile(r"^(?:Imports|Beside it): ([a-z_, \n]+)\.", re.MULTILINE)


def units() -> list[str]:
    """What the package consists of, in the order of its map: the lowest first."""
    lines: list[str] = _MAP_LINE.findall(redisq.__doc__ or "")
    return [name.removesuffix("/") for line in lines for name in line.split(", ")] + ["__main__"]


def says(folder: Path) -> set[str]:
    """What a folder may import, by its own words."""
    found = _SAYS.search(ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or "")
    return set(found[1].replace("\n", " ").split(", ")) if found else set()


#: Settings are read by pydantic in `settings`; these hand the environment on to a process that they start.
ENVIRONMENT = {
    "settings.py": "variables that are none of ours, to warn of them",
    "runtime/failpoints.py": "REDISQ_FAILPOINTS, for tests alone",
    "embedded/server.py": "the supervisor; and REDISQ_EMBEDDED_SERVER, where a server is started without settings",
    "cli/dev/service.py": "Redis, the gateway and the workers, of which the gateway alone gets the master key",
    "cli/demo/run.py": "the demonstration's workers, which it gives a server and credentials of their own",
    "cli/dev/run.py": "Redis and the workers, which it gives a server and credentials of their own",
    "cli/commands/work.py": "the worker's module, which reads its settings itself",
}
#: The server's clock decides. A client's own matters for tokens, and for what a handler is told of its deadline.
WALL_CLOCK = {
    "operations/caller.py": "tokens",
    "operations/queueing.py": "at= of a new message, which becomes a delay",
    "cli/commands/tokens.py": "tokens",
    "operations/deliveries.py": "deadlines, from the lease that a renewal gave",
    "operations/applications.py": "tokens: from when on they count, until when a key does",
    "gateway/access/guard.py": "tokens",
    "gateway/middleware.py": "the log",
    "gateway/routes/token.py": "tokens",
    "operations/doctor.py": "this machine's clock, compared with the server's",
    "cli/commands/dead.py": "how long ago a dead letter died, for people",
    "gateway/page/session.py": "tokens",
    "gateway/page/views.py": "how long ago something was, for people",
    "claims/claimer.py": "Delivery.deadline, from the lease that the claim gave",
    "worker/schedule.py": "the ticks of schedules; the ids of their messages make workers agree",
    "worker/heartbeat.py": "Delivery.deadline, from the lease that the renewal gave",
    "testing/deliveries.py": "Delivery.deadline, of one that nobody leases",
    "testing/virtual_clock.py": "where a virtual clock begins",
}


#: Whose loggers are the standard library's: what raises there ends a request, or a connection, and nothing else.
PLAIN_LOGGERS = ("gateway/",)


def name_of(source: Path) -> str:
    return source.relative_to(ROOT).as_posix()


def place_of(source: Path) -> list[str]:
    """The units that a file lies in, the outermost first."""
    parts = source.relative_to(ROOT).with_suffix("").parts
    return list(parts[:-1] if parts[-1] == "__init__" else parts)


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


def imported(source: Path) -> set[tuple[str, ...]]:
    """The places of redisq that a file imports from; a public name counts as the module that it lives in."""
    found = {tuple(name.split(".")[1:]) for name in imports(source) if name.startswith("redisq.")}
    homes = redisq._HOME
    return {tuple(homes[place[0]].split(".")) if place[0] in homes else place for place in found} - {("__version__",)}


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
    unit, *_ = place_of(source)
    assert unit in units(), "a new part needs a line of the map"
    lower = set(units()[: units().index(unit)])
    if (ROOT / unit).is_dir():
        assert says(ROOT / unit) <= lower
        lower = says(ROOT / unit)
    assert {place[0] for place in imported(source)} - {unit} <= lower


@pytest.mark.parametrize("source", [source for source in SOURCES if len(place_of(source)) > 2], ids=name_of)
def test_rooms_of_a_folder_import_what_they_say(source: Path) -> None:
    unit, room, *_ = place_of(source)
    known = {path.stem for path in (ROOT / unit).iterdir()}
    beside = {place[1] for place in imported(source) if place[0] == unit and len(place) > 1 and place[1] in known}
    assert beside - {room} <= says(ROOT / unit / room)


@pytest.mark.parametrize("source", sorted((ROOT / "gateway/server").glob("*.py")), ids=name_of)
def test_the_gateways_server_knows_no_application(source: Path) -> None:
    outside = {place for place in imported(source) if place[:2] != ("gateway", "server")}
    assert {place[0] for place in outside} <= {"errors", "runtime"}


@pytest.mark.parametrize("unit", ["gateway", "cli", "worker"])
def test_rooms_of_a_folder_lie_in_an_order(unit: str) -> None:
    below: dict[str, set[str]] = {}
    for source in (ROOT / unit).rglob("*.py"):
        _, room, *_ = [*place_of(source), "__init__"]
        seen = {place[1] for place in imported(source) if place[0] == unit and len(place) > 1}
        below.setdefault(room, set()).update(seen - {room})
    graphlib.TopologicalSorter(below).prepare()  # raises for a circle


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("store/calls.py", "from redisq.client import RedisQ"),
        ("store/calls.py", "from redisq import client"),
        ("store/calls.py", "from redisq import RedisQ"),
        ("store/calls.py", "import redisq.client"),
        ("store/calls.py", "def later():\n    from redisq.client import RedisQ"),
        ("claims/claimer.py", "from redisq.worker.slots import Seat"),
        ("claims/claimer.py", "from redisq.tokens import sign"),  # below, but its folder does not say so
        ("nowhere.py", "import json"),
    ],
)
def test_the_check_can_fail(place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / place
    source.parent.mkdir(exist_ok=True)
    if source.parent != tmp_path:
        shutil.copy(ROOT / source.parent.name / "__init__.py", source.parent)
    source.write_text(text)
    monkeypatch.setattr("tests.unit.test_layers.ROOT", tmp_path)
    with pytest.raises(AssertionError):
        test_imports_go_downwards(source)


@pytest.mark.parametrize("folder", sorted({source.parent for source in SOURCES}), ids=name_of)
def test_a_folder_says_its_duty_and_holds_15_modules_at_most(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
    assert len(list(folder.glob("*.py"))) <= 16, "and its `__init__`"


def test_nothing_of_the_product_imports_what_is_for_tests() -> None:
    users = {name_of(source) for source in inner_sources() if any(place[0] == "testing" for place in imported(source))}
    assert users
    assert all(name.startswith("testing/") for name in users)


def test_redis_py_is_used_by_links_alone() -> None:
    users = {
        place_of(source)[0] for source in SOURCES if any(name.split(".")[0] == "redis" for name in imports(source))
    }
    assert users == {"link"}


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


#: The two front doors may have 40 methods.
FRONT_DOORS = {"RedisQ", "AsyncRedisQ"}


def sizes(text: str) -> Iterator[tuple[str, int, int]]:
    """The classes of a module with their methods, the functions with their lines, and how many each may have."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body)
            yield node.name, methods, 40 if node.name in FRONT_DOORS else 25
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            yield node.name, node.end_lineno - node.lineno + 1, 60


def too_large(text: str) -> dict[str, int]:
    return {name: size for name, size, most in sizes(text) if size > most}


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_a_class_has_25_methods_at_most_and_a_function_60_lines(source: Path) -> None:
    assert too_large(source.read_text("utf-8")) == {}


def test_what_is_too_large_is_found() -> None:
    body = "    def a(self): ...\n    async def b(self): ...\n"
    assert too_large("class Small:\n" + body * 12) == too_large("class RedisQ:\n" + body * 20) == {}
    assert too_large("class Large:\n" + body * 13) == {"Large": 26}
    assert too_large("class RedisQ:\n" + body * 21) == {"RedisQ": 42}
    assert too_large("def short():\n" + "    pass\n" * 59) == {}
    assert too_large("async def long():\n" + "    pass\n" * 60) == {"long": 61}


def test_loggers_are_fenced() -> None:
    """A filter or a handler of the user's may raise; see `redisq.runtime.logs`."""
    plain = re.compile(r"^\w+ = logging\.getLogger\(", re.MULTILINE)
    users = {name_of(source) for source in SOURCES if plain.search(source.read_text("utf-8"))}
    assert {name for name in users if not name.startswith(PLAIN_LOGGERS)} == set()
