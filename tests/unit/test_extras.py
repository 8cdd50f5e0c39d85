"""What the tree and redisq's errors tell anybody to install: packages of others by name, ours from a place we own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from redisq.runtime import extras

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).resolve()
#: A command that installs packages, up to the end of the line or of the code that it stands in.
COMMAND = re.compile(
    r"\b(?:pip3?|uvx?|pipx|poetry|pdm|rye|hatch|conda)\b[^\n`]*?\b(?:install|add|download|tool|run)\b([^\n`]*)"
)
#: Our distribution, or what is somebody else's on the index, as a requirement; a file's name or a URL is none.
OURS = re.compile(r"redisq(?:[-_.]mq)?(?:$|[\[<>=~!;,.])", re.IGNORECASE)
#: The chapter that tells how it gets into a project of one's own.
GUIDE = "redisq/guide/installing.md"
EXTRAS = ["all", "bench", "cli", "cron", "dev", "django", "embedded", "http", "schema", "testing"]


def texts() -> Iterator[tuple[str, str]]:
    """All that this tree says, file by file."""
    folders = [folder for name in ("redisq", "tests", "deploy", ".ci") for folder in (ROOT / name).rglob("*")]
    for file in [*ROOT.glob("*.*"), ROOT / "Makefile", *folders]:
        if file.is_file() and "__pycache__" not in file.parts and file.resolve() != HERE:
            try:
                yield file.relative_to(ROOT).as_posix(), file.read_text("utf-8").replace("\\\n", " ")
            except UnicodeDecodeError:
                continue


def from_an_index(text: str) -> list[str]:
    """The requirements of ours that the commands in a text would have from an index: without a place behind an @."""
    commands = [[*match[1].split(), ""] for match in COMMAND.finditer(text)]
    words = [(word.strip("\"'().,:"), then) for words in commands for word, then in pairwise(words)]
    return [word for word, then in words if OURS.match(word) and then != "@"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pip install redisq", ["redisq"]),
        ("run: python -m pip install 'redisq[cli]'.", ["redisq[cli]"]),
        ("`pip3 install -U redisq-mq`", ["redisq-mq"]),
        ('uv add "redisq_mq[all]>=1"', ["redisq_mq[all]>=1"]),
        ("pipx install redisq==1", ["redisq==1"]),
        ("pip install '.[cli]' redis-server", []),
        ("pip install redisq_mq-1-py3-none-any.whl", []),
        ("pip install /srv/redisq /dist/redisq_mq-*.whl", []),
        ("pip install 'git+https://example.org/redisq'", []),
        ("pip install 'redisq-mq[cli] @ git+https://example.org/redisq'", []),
    ],
)
def test_the_check_tells_an_index_from_a_place(text: str, found: list[str]) -> None:
    assert from_an_index(text) == found


def test_no_text_has_ours_installed_from_an_index() -> None:
    found = {name: ours for name, text in texts() if (ours := from_an_index(text))}
    assert not found
    assert len(list(texts())) > 200


def test_only_the_project_file_and_the_guide_spell_our_extras_as_requirements() -> None:
    named = {name for name, text in texts() if re.search(r"(?<![\w/.])redisq(?:[-_]mq)?\[[a-z]", text)}
    assert named == {"pyproject.toml", GUIDE, "tests/system/test_packaging.py"}
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'\nname = "{extras.DISTRIBUTION}"\n' in project
    assert not re.search(r"""["']redisq\[""", project)


def test_one_module_alone_writes_such_commands() -> None:
    sources = {name for name, text in texts() if name.startswith("redisq/") and re.search(r"pip\w* install", text)}
    assert sources == {"redisq/runtime/extras.py", GUIDE}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_told_by_its_own_packages(extra: str) -> None:
    wanted = [Requirement(line) for line in metadata.requires(extras.DISTRIBUTION) or []]
    wanted = [it for it in wanted if it.marker and it.marker.evaluate({"extra": extra})]
    told = shlex.split(extras.install(extra))
    assert told[:2] == ["pip", "install"]
    assert [(it.name, it.extras, it.specifier) for it in map(Requirement, told[2:])] == [
        (it.name, it.extras, it.specifier) for it in wanted
    ]


def test_the_missing_cron_extra_is_one_package() -> None:
    assert re.fullmatch(r"pip install 'cronsim>=[\d.]+'", extras.install("cron"))


def test_what_this_machine_cannot_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "one>=1; extra == 'x'",
        "two; (sys_platform == 'nowhere' or python_version < '3.9') and extra == 'x'",
        "three; python_version >= '3.9' and python_full_version != '3.9.10' and extra == 'x'",
        "four; platform_machine in 'a b' and extra == 'x'",
        "five; extra == 'y'",
        "six",
    ]
    monkeypatch.setattr(extras.metadata, "requires", lambda _: lines)
    assert extras.install("x") == "pip install 'one>=1' three"


def test_without_metadata_it_names_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "DISTRIBUTION", "redisq-that-is-not-installed")
    assert extras.install("cron") == "install what redisq's pyproject.toml lists as cron"
