"""Who may claim next, where queues share slots: played through with consumers that take, finish and run dry."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq.worker.slots import Seat, Turns


@dataclass
class Player:
    """A consumer: what waits in its queue, its handlers that run, how often it was woken."""

    backlog: int
    busy: set[int] = field(default_factory=set)
    woken: int = 0
    started: int = 0

    def wake(self) -> None:
        self.woken += 1

    def claim(self, seat: Seat, wanted: int) -> int:
        """Take slots and start as many handlers as there are messages."""
        granted = seat.take(wanted)
        if granted:
            begun = min(granted, self.backlog)
            self.busy |= set(range(self.started, self.started + begun))
            self.started, self.backlog = self.started + begun, self.backlog - begun
            seat.claimed(begun, self.backlog > 0)
        return granted

    def finish(self, seat: Seat) -> None:
        """Have one handler return."""
        self.busy.pop()
        seat.returned()


def at_table(
    slots: int, *places: tuple[int, int], weighted: bool = False, own: int = 100
) -> tuple[Turns, list[tuple[Player, Seat]]]:
    """Seat players of (priority, backlog)."""
    turns = Turns(slots, weighted=weighted)
    players = [(Player(backlog), priority) for priority, backlog in places]
    return turns, [(player, turns.seat(priority, own, player.busy, player.wake)) for player, priority in players]


def test_a_lower_queue_gets_nothing_while_a_higher_one_has_messages() -> None:
    _, [(high, high_seat), (low, low_seat)] = at_table(4, (2, 6), (1, 5))
    assert high.claim(high_seat, 2) == 2
    assert low.claim(low_seat, 4) == 0  # two slots are free, and not for it
    assert high.claim(high_seat, 2) == 2
    for _ in range(2):
        high.finish(high_seat)
    assert low.claim(low_seat, 4) == 0
    assert low.woken == 0
    assert high.claim(high_seat, 2) == 2  # its last ones
    assert low.claim(low_seat, 4) == 0  # there is no slot
    high.finish(high_seat)
    assert low.woken == 1
    assert low.claim(low_seat, 4) == 1


def test_a_lower_queue_waits_while_a_higher_one_asks() -> None:
    _, [(high, high_seat), (low, low_seat)] = at_table(4, (2, 0), (1, 5))
    assert high_seat.take(3) == 3
    assert low.claim(low_seat, 1) == 0
    assert low.woken == 0
    high_seat.claimed(0, more=False)
    assert low.woken == 1
    assert low.claim(low_seat, 4) == 4
    assert high.woken == 0


def test_slots_that_a_higher_queue_cannot_use_go_to_lower_ones() -> None:
    _, [(high, high_seat), (low, low_seat)] = at_table(10, (2, 50), (1, 50), own=4)
    assert high.claim(high_seat, 4) == 4
    assert low.claim(low_seat, 4) == 4


def test_a_queue_whose_claims_fail_keeps_nobody_waiting() -> None:
    turns, [(_, high_seat), (low, low_seat)] = at_table(4, (2, 5), (1, 5))
    assert high_seat.take(3) == 3
    assert low.claim(low_seat, 4) == 0
    high_seat.rest()
    assert low.woken == 1
    assert low.claim(low_seat, 4) == 4
    assert turns.free == 0


def test_what_a_repeated_claim_brings_may_exceed_the_slots_but_nobody_adds_to_it() -> None:
    turns, [(high, high_seat), (low, low_seat)] = at_table(4, (2, 5), (1, 5))
    assert high_seat.take(3) == 3
    high_seat.rest()
    assert low.claim(low_seat, 4) == 4
    high.busy |= {1, 2, 3}
    high_seat.claimed(3, more=True)
    assert turns.free == -3
    for _ in range(3):
        low.finish(low_seat)
    assert (high_seat.take(1), low_seat.take(1)) == (0, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_nobody_is_woken_without_a_slot(weighted: bool) -> None:
    _, [(first, first_seat), (second, second_seat)] = at_table(1, (1, 5), (1, 5), weighted=weighted)
    assert first.claim(first_seat, 1) == 1
    assert second.claim(second_seat, 1) == 0
    second_seat.returned()
    assert second.woken == 0
    first.finish(first_seat)
    assert second.woken == 1


def test_who_comes_back_has_no_claim_on_what_passed_meanwhile() -> None:
    _, [(first, first_seat), (second, second_seat)] = at_table(1, (1, 1_000), (1, 0), weighted=True)
    assert second.claim(second_seat, 1) == 1  # and finds nothing
    for _ in range(100):
        assert first.claim(first_seat, 1) == 1
        first.finish(first_seat)
    second.backlog = 1_000
    assert second.claim(second_seat, 1) == 1
    second.finish(second_seat)
    begun = first.started, second.started
    for _ in range(100):
        for player, seat in ((second, second_seat), (first, first_seat)):
            if player.claim(seat, 1):
                player.finish(seat)
                break
    assert (first.started - begun[0], second.started - begun[1]) == (50, 50)


def test_crowded_out_is_who_finds_no_slot_twice() -> None:
    _, [(first, first_seat), (_, second_seat)] = at_table(1, (1, 5), (1, 0))
    assert not second_seat.is_crowded_out()
    first.claim(first_seat, 1)
    assert not second_seat.is_crowded_out()
    assert second_seat.is_crowded_out()
    first.finish(first_seat)
    assert not second_seat.is_crowded_out()


@given(
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    slots=st.integers(1, 12),
    wanted=st.integers(1, 12),
    seed=st.integers(0, 10**9),
)
def test_weights_decide_how_much_each_gets(weights: list[int], slots: int, wanted: int, seed: int) -> None:
    """Handlers end in any order; all queues always have messages. Each gets its share, give or take a claim."""
    turns, table = at_table(slots, *((weight, 10**9) for weight in weights), weighted=True)
    random = Random(seed)
    for _ in range(3_000):
        for player, seat in random.sample(table, len(table)):
            player.claim(seat, wanted)
        assert 0 <= turns.free <= slots
        running = [(player, seat) for player, seat in table if player.busy]
        player, seat = random.choice(running)
        player.finish(seat)
    total = sum(player.started for player, _ in table)
    for (player, _), weight in zip(table, weights, strict=True):
        expected = total * weight / sum(weights)
        assert abs(player.started - expected) <= 2 * max(slots, wanted) + 2 * sum(weights)


@given(
    priorities=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    weighted=st.booleans(),
    slots=st.integers(1, 5),
    seed=st.integers(0, 10**9),
)
def test_all_is_done_in_the_end(priorities: list[int], weighted: bool, slots: int, seed: int) -> None:
    """Whoever was told to wait is woken when it may go on: nobody asks again by itself."""
    _, table = at_table(slots, *((priority, 7) for priority in priorities), weighted=weighted, own=3)
    asleep: set[int] = set()
    random = Random(seed)
    while any(player.backlog or player.busy for player, _ in table):
        awake = [
            n for n, (player, _) in enumerate(table) if player.backlog and n not in asleep and len(player.busy) < 3
        ]
        running = [n for n, (player, _) in enumerate(table) if player.busy]
        assert awake or running
        number = random.choice(awake + running)
        player, seat = table[number]
        if number in awake:
            woken = player.woken
            if not player.claim(seat, 3 - len(player.busy)) and player.woken == woken:
                asleep.add(number)
        else:
            player.finish(seat)
        asleep -= {n for n, (other, _) in enumerate(table) if other.woken}
        for other, _ in table:
            other.woken = 0
