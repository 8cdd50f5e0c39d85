"""What `redisq dev` keeps of what its workers say, and hands to others that show it."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from redisq.cli.dev.folder import Folder
from redisq.cli.dev.state import Journal, Line, Process, Queue, Snapshot
from redisq.cli.dev.view import Lines, _block
from redisq.cli.output import CommandError


def snapshot(*numbers: int) -> Snapshot:
    lines = [Line(number, "12:00:00", "shop:worker", "", f"line {number}") for number in numbers]
    return Snapshot(
        1, "redis", [Process("shop:worker", "running", 2, 1)], [Queue("q", 1, 2, 3, 4, 5, 6, 7.5)], lines, ()
    )


def test_lines_that_were_forgotten_are_counted() -> None:
    lines = Lines()
    assert [line.text for line in lines.new(snapshot(5, 6))] == ["line 5", "line 6"]
    assert lines.new(snapshot(5, 6)) == []
    assert [line.text for line in lines.new(snapshot(9))] == ["2 lines are left out", "line 9"]


def test_a_snapshot_survives_its_file() -> None:
    shown = snapshot(*range(1, 300))
    found = Snapshot.from_json(shown.to_json())
    assert dataclasses.replace(found, lines=shown.lines, errors=()) == shown
    assert [line.number for line in found.lines] == list(range(100, 300))


def test_what_workers_say_cannot_control_a_terminal() -> None:
    journal = Journal()
    journal.relay("shop:worker", "red \x1b[31m, \r back\tand on")
    journal.relay("shop:worker", "x" * 10_000)
    first, second = journal.lines
    assert first.text == "red \\x1b[31m, \\r back    and on"
    assert len(second.text) < 3000
    assert not journal.errors


def test_log_records_keep_their_level() -> None:
    journal = Journal()
    journal.relay("shop:worker", "2026-01-02T03:04:05.678Z WARNING redisq.worker[99] queue orders: no claim")
    journal.relay("shop:worker", "2026-01-02T03:04:06.000Z INFO redisq.worker[99] stopping")
    journal.say("shop:worker: killed", "ERROR")
    warning, info, error = journal.lines
    assert (warning.level, warning.text) == ("WARNING", "queue orders: no claim")
    assert (info.level, info.text) == ("INFO", "stopping")
    assert list(journal.errors) == [warning, error]
    assert [line.number for line in journal.lines] == [1, 2, 3]


def test_the_last_errors_are_shown_whole_on_some_rows() -> None:
    error = "queue orders message 1 attempt 1 of 5: failed: ValueError: " + "no stock, " * 20 + "tried again in 0.4 s"
    journal = Journal()
    journal.relay("shop:worker", f"2026-01-02T03:04:05.678Z WARNING redisq.worker[99] {error}")
    journal.relay("shop:worker", "2026-01-02T03:04:05.678Z ERROR redisq.worker[99] " + "x" * 1_900)
    console = Console(width=100, height=50, file=io.StringIO())
    console.print(_block(dataclasses.replace(snapshot(1), errors=list(journal.errors)), console))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert error in " ".join(shown.split())
    assert shown.count("x" * 60) < 15
    assert shown.splitlines()[-1].strip() == "Ctrl-C ends this."


def test_its_folder_is_its_owner_s_alone_whoever_made_it(tmp_path: Path) -> None:
    made = tmp_path / ".redisq"
    made.mkdir()
    made.chmod(0o755)
    Folder(tmp_path)
    assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077], ids=oct)
def test_what_it_holds_is_closed_to_others_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        folder = Folder(tmp_path)
        folder.credentials()
        assert folder.take() is None
        folder.publish(snapshot(1))
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert found == dict.fromkeys((".gitignore", "credentials", "dev.lock", "dev.json"), 0o600)
    assert Snapshot.from_json((folder.path / "dev.json").read_text()).lines == snapshot(1).lines
    folder.leave()


def test_what_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    made = tmp_path / ".redisq"
    made.mkdir()
    made.chmod(0o775)
    with pytest.raises(CommandError, match=r"Other users may write to the folder .*\.redisq"):
        Folder(tmp_path)
    made.chmod(0o755)
    (made / "credentials").write_text("REDISQ_APP_ID=mallory\n")
    (made / "credentials").chmod(0o666)
    with pytest.raises(CommandError, match=r"Other users may write to .*credentials"):
        Folder(tmp_path)
    assert made.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in made.iterdir()] == ["credentials"]


@pytest.mark.parametrize("name", ["", ".gitignore", "credentials", "dev.lock", "dev.json", "dev.json.new"])
@pytest.mark.parametrize("dangling", [False, True], ids=["link", "dangling"])
def test_no_link_is_followed(name: str, dangling: bool, tmp_path: Path) -> None:
    """A project that was cloned may bring such links along."""
    victim = tmp_path / "victim"
    if not dangling and name:
        victim.write_text("precious")
    elif not dangling:
        victim.mkdir()
    link = tmp_path / ".redisq" / name
    if name:
        link.parent.mkdir()
    link.symlink_to(victim)
    with pytest.raises(CommandError, match=r"is a link, and none is followed here"):
        Folder(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if not path.is_symlink() and path.name != ".redisq"] == (
        [] if dangling else ["victim"]
    )
    assert not victim.is_file() or victim.read_text() == "precious"
