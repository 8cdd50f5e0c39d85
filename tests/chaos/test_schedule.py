"""A seed tells everything: the faults, the messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from redisq.body import codec
from tests.chaos.messages import _ODD_VALUES, AFTERMATHS, LEASE, ODD, QUEUES, TIMEOUT, digest, planned
from tests.chaos.nemesis import Nemesis
from tests.chaos.processes import RedisProcess
from tests.chaos.schedule import KINDS, Plan, draw


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert draw(7, 100, 300.0) == draw(7, 100, 300.0)
    assert draw(7, 100, 300.0) != draw(8, 100, 300.0)


def test_each_kind_comes_before_any_comes_twice() -> None:
    kinds = [fault.kind for fault in draw(7, 3 * len(KINDS), 300.0)]
    for first in range(0, len(kinds), len(KINDS)):
        assert set(kinds[first : first + len(KINDS)]) == set(KINDS)


@pytest.mark.parametrize("seed", range(20))
def test_faults_lie_within_their_bounds(seed: int) -> None:
    faults = draw(seed, 60, 90.0)
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    for fault in faults:
        kind = KINDS[fault.kind]
        assert 0 <= fault.at <= 90
        assert fault.target in kind.targets
        assert kind.seconds[0] <= fault.seconds <= kind.seconds[1]
        assert kind.amount[0] <= fault.amount <= kind.amount[1]
        assert fault.choice in kind.choices


def test_a_schedule_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan(7, 1_000, 20.0, draw(7, 30, 20.0), "redis-server", "everysec")
    plan.write(tmp_path / "schedule.json")
    assert Plan.read(tmp_path / "schedule.json") == plan


def test_every_kind_of_fault_can_be_carried_out(tmp_path: Path) -> None:
    nemesis = Nemesis(tmp_path, cast(RedisProcess, None), {}, {})
    assert set(nemesis._kinds) == set(KINDS)


def test_the_same_seed_gives_the_same_messages() -> None:
    first = [planned(7, "client-0", number) for number in range(100)]
    assert first == [planned(7, "client-0", number) for number in range(100)]
    ids = {message.id for slot in ("client-0", "client-1") for message in [*first, planned(7, slot, 100)]}
    assert len(ids) == 102


def test_messages_are_of_many_kinds_and_may_all_be_queued() -> None:
    messages = [planned(7, "client-0", number) for number in range(10_000)]
    assert {message.body["do"] for message in messages} == {"work", "fail", "defer", "spoil", "hang", *ODD}
    assert {message.queue for message in messages} == set(QUEUES)
    assert any(message.delay for message in messages)
    assert any(message.headers for message in messages)
    assert {one.body["then"] for one in messages if one.body["do"] == "cancel"} == set(AFTERMATHS)
    assert len({digest(message.body) for message in messages}) == len(messages)
    for value in [message.body for message in messages] + [{"odd": odd} for odd in _ODD_VALUES]:
        assert _through_the_codec(value) == value


def test_a_short_run_has_handlers_of_every_kind() -> None:
    messages = [planned(7, "client-0", number) for number in range(500)]
    seconds = {do: [one.body["seconds"] for one in messages if one.body["do"] == do] for do in ("hold", "long")}
    assert {message.body["do"] for message in messages} >= set(ODD)
    assert all(LEASE < taken < TIMEOUT for own in seconds.values() for taken in own)
    assert min(seconds["long"]) >= 2 * LEASE
    assert {message.queue for message in messages if message.body["do"] == "hold"} == {"tasks"}


def _through_the_codec(value: Any) -> Any:
    return codec.decode_request(codec.encode_request(value, 1024 * 1024))[0]


def test_digests_tell_what_the_codec_tells() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert digest({"a": 1}) != digest({"a": True})
