"""A key that holds another program's value, of any other type: every script refuses its call, and has changed nothing.

On real servers so it does when memory is full, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redisq import embedded
from redisq.errors import Unavailable
from redisq.store import scripts
from tests.conftest import SERVERS, start
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES
from tests.support.queues.snapshot import FOREIGN, TYPES
from tests.support.queues.workbench import workbench


@pytest.fixture(scope="module", params=SERVERS, ids=lambda name: name.rpartition("/")[2])
def server(request: pytest.FixtureRequest) -> Iterator[embedded.EmbeddedServer]:
    """A server of this module's own: no other test shall find it full."""
    with start(request.param) as mine:
        yield mine


def test_there_is_a_case_for_each_script() -> None:
    assert set(CASES) == scripts_there_are() - {"permitted"}  # which reads and writes no key


def scripts_there_are() -> set[str]:
    from importlib.resources import files

    return {path.name.removesuffix(".lua") for path in files(scripts).iterdir() if path.name.endswith(".lua")}


@pytest.mark.full(keep=6)
@pytest.mark.parametrize("script", sorted(CASES.keys() - {"survey"}))  # which says what there is instead
def test_a_call_leaves_no_half_written_state(orders: Orders, script: str) -> None:
    if script == "info" and orders.raw.server.kind == "fakeredis":
        pytest.skip("fakeredis knows no INFO")
    with workbench(orders, script) as bench:
        for name, key in zip(bench.call.script.keys, bench.call.keys, strict=True):
            kinds = [kind for kind in FOREIGN if kind != TYPES[name]]
            for kind in kinds if bench.real else kinds[len(name) % len(kinds) :][:1]:  # fakeredis is slow
                command, values = FOREIGN[kind]
                for full in (False, True) if bench.real else (False,):
                    trial = bench.try_it(bench.call, ("DEL", key), (command, key, *values), full=full)
                    assert isinstance(trial.error, Unavailable), f"{name} may be a {kind}: {trial}"
                    assert "holds a value that is not redisq's; nothing was changed" in str(trial.error)
        assert bench.try_it(bench.call).error is None  # it was the keys, not the call
