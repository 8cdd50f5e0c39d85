"""The planted bugs still fit the code: the runs that have to find them are long, and not of every day."""

from __future__ import annotations

import pytest

from tests.chaos.sabotage import OF_THE_HARNESS, OF_THE_MODEL, with_bug

BUGS = {**OF_THE_MODEL, **{name: bug for name, (_, bug) in OF_THE_HARNESS.items()}}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_can_be_planted(name: str) -> None:
    bug = BUGS[name]
    assert bug.wrong in with_bug(bug)
