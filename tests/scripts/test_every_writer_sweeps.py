"""Each script that writes forgets leftovers whose time has passed, four or more; ordinary cases leave it to others."""

from __future__ import annotations

import pytest

from tests.scripts.conftest import DEAD, Orders
from tests.support.queues.calls import CASES, READING, everything

#: They touch no queue's keys, leave nothing behind, or shall change nothing but what is wrong.
OTHERS = {"application", "register", "unregister", "drop", "sweep", "audit", "take"}


@pytest.mark.parametrize("name", sorted(CASES.keys() - READING - OTHERS))
def test_it_sweeps(orders: Orders, name: str) -> None:
    leftovers = orders.deliver(*range(6))
    orders.complete(*leftovers)
    what = everything(orders)
    orders.pass_time(DEAD)
    before = orders.finished()
    orders.run(CASES[name](orders, what))
    assert len(set(before) - set(orders.finished())) >= 4
