"""A queue that needs what this redisq does not know: every script of a queue refuses it, and has changed nothing."""

from __future__ import annotations

import pytest

from redisq.errors import UpgradeNeeded
from redisq.store.keys import PartitionKeys
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES
from tests.support.queues.workbench import workbench

#: those that touch no queue's own keys
ELSEWHERE = {"register", "registry", "unregister", "application", "applications", "take", "info", "scan"}
OF_A_QUEUE = sorted(CASES.keys() - ELSEWHERE)


def test_every_script_with_a_queues_key_is_among_them() -> None:
    from redisq.store import scripts

    sources = scripts.read_all()[0]
    named = {name for name in sources if set(scripts.load(name).keys) & set(PartitionKeys.__slots__)}
    assert named == set(OF_A_QUEUE)


@pytest.mark.parametrize(
    ("needs", "feature", "version"),
    [
        ("groups@1.4.0", "groups", "1.4.0"),
        ("a_feature@2 groups@1.4.0", "a_feature", "2"),
        ("another program's", "", None),
    ],
)
@pytest.mark.parametrize("script", OF_A_QUEUE)
def test_it_refuses(orders_real: Orders, script: str, needs: str, feature: str, version: str | None) -> None:
    with workbench(orders_real, script) as bench:
        trial = bench.try_it(bench.call, ("HSET", orders_real.keys.config, "needs", needs))
        assert isinstance(trial.error, UpgradeNeeded)
        assert (trial.error.feature, trial.error.version) == (feature, version)
        assert "nothing was changed" in str(trial.error)
        assert bench.try_it(bench.call, ("HSET", orders_real.keys.config, "needs", " ")).error is None
