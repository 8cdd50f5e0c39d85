"""What finds a user's module: the same in one process, in several and under `redisq dev`."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import redisq
from tests.support.shell import Shell
from tests.system.conftest import eventually

#: Names of the standard library that a project may well use, early and late imported ones, files and a package.
NAMES = ("types", "email", "random", "queue", "code", "statistics", "select", "token", "signal", "typing")
TRAP = "raise ImportError('a file of the user stands in for a module of the standard library')\n"
SHOP = """
import os, random, statistics, types
from pathlib import Path
from redisq import Worker
import helper
worker = Worker()

@worker.handler("orders")
def handle(delivery):
    import code, email.mime.text
    Path("handled").touch()
    return helper.VALUE + random.choice([1])
"""


@pytest.fixture
def project(shell: Shell) -> Shell:
    for name in NAMES:
        (shell.folder / f"{name}.py").write_text(TRAP)
    (shell.folder / "html").mkdir()
    (shell.folder / "html" / "__init__.py").write_text(TRAP)
    (shell.folder / "helper.py").write_text("VALUE = 41\n")
    (shell.folder / "shop.py").write_text(SHOP)
    return shell


def begin(project: Shell, *arguments: str) -> subprocess.Popen[str]:
    """Start a command as the installed `redisq` begins, which has no current folder in its path."""
    code = "import sys; from redisq.cli import main; sys.exit(main())"
    with project.log.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments],
            cwd=project.folder,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    project.started.append(process)
    return process


@pytest.mark.parametrize("processes", [pytest.param("1", marks=pytest.mark.full), "2"])
def test_a_worker_whose_project_has_names_of_the_standard_library(project: Shell, processes: str) -> None:
    worker = begin(project, "worker", "shop:worker", "--processes", processes)
    id = project.text("queue", "orders", "1")
    message = project.json("get", "orders", id, "--wait", "60")
    assert (message["status"], message["result"]) == ("COMPLETE", 42), project.log.read_text()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


@pytest.mark.full
def test_dev_whose_project_has_names_of_the_standard_library(project: Shell) -> None:
    project.environment = {name: value for name, value in project.environment.items() if not name.startswith("REDISQ_")}
    dev = begin(project, "dev", "shop:worker", "--reload", "--http-port", "0")
    exports = begin(project, "dev", "--env")
    assert exports.stdout is not None
    lines = exports.stdout.read()
    project.environment |= dict(re.findall(r"^export (\w+)=(.*)$", lines.replace("'", ""), re.MULTILINE))
    queued = begin(project, "queue", "orders", "1")
    assert queued.wait(60) == 0, project.log.read_text()
    eventually((project.folder / "handled").exists, "the handler")
    dev.send_signal(signal.SIGHUP)
    assert dev.wait(60) == 0


def test_what_a_project_installs_and_has_itself_is_its_own(
    project: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The current folder comes before what is installed."""
    shown = "import sys; sys.path.append('/x/site-packages'); from redisq.cli.modules import load; load('paths:worker')"
    (project.folder / "paths.py").write_text(
        "import os, sys\nfrom redisq import Worker\nworker = Worker()\nprint(sys.path.index(os.getcwd()), sys.path)\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", shown], cwd=project.folder, env=project.environment, capture_output=True, text=True
    )
    place, _, path = run.stdout.partition(" ")
    entries = ast.literal_eval(path)
    library = entries.index(os.path.dirname(os.__file__))
    first_installed = next(n for n, entry in enumerate(entries) if entry.endswith("-packages"))
    assert library < int(place) < first_installed


ERRORS = {
    "random:worker": r"The module random \(found at .*random\.py\) has no 'worker'\. "
    r"The current folder's random\.py is not that: rename it, .*",
    "random:randint": r"random:randint is no redisq\.Worker but of type method, in random \(found at .*\. The .*",
    "types.work:worker": r"There is no module types\.work: types was found at .*types\.py\. The current folder's .*",
    "helper:worker": r"The module helper \(found at .*helper\.py\) has no 'worker'\. Is it spelled so there\?",
    "helper:VALUE": r"helper:VALUE is no redisq\.Worker but of type int, in helper \(found at .*helper\.py\)\.",
    "sys:worker": r"The module sys \(found at Python itself\) has no 'worker'\..*",
    "wrong:worker": r"Importing wrong failed: ImportError: cannot import .*The current folder's random\.py .*",
}


def test_an_error_says_which_file_was_found(project: Shell) -> None:
    (project.folder / "wrong.py").write_text("from random import mine\n")
    code = """
import sys
from redisq.cli.modules import load
from redisq.cli.output import CommandError
for target in sys.argv[1:]:
    try:
        load(target)
    except CommandError as error:
        print(error)
"""
    command = [sys.executable, "-P", "-c", code, *ERRORS]
    run = subprocess.run(command, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for told, pattern in zip(run.stdout.splitlines(), ERRORS.values(), strict=True):
        assert re.fullmatch(pattern, told), told


@pytest.mark.parametrize("processes", [pytest.param("1", marks=pytest.mark.full), "2"])
def test_such_an_error_is_one_line(project: Shell, processes: str) -> None:
    worker = begin(project, "worker", "random:worker", "--processes", processes)
    assert worker.wait(60) == 1
    (told,) = re.findall("^redisq: (.*)$", project.log.read_text(), re.MULTILINE)
    assert re.fullmatch(ERRORS["random:worker"], told), told


def test_processes_run_the_package_that_this_one_runs(tmp_path: Path) -> None:
    """Also one that is not installed but lies in the current folder."""
    package = Path(redisq.__file__).parent
    shutil.copytree(package, tmp_path / "redisq", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "redisq" / "__init__.py").open("a") as file:
        file.write("\nprint('the copy')\n")
    (tmp_path / "typing.py").write_text(TRAP)
    code = (
        "import typing, subprocess, sys; sys.path.insert(0, ''); from redisq.cli.modules import command; "
        "subprocess.run(command('--version'), check=True)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.count("the copy")) == (0, 2), done.stderr
