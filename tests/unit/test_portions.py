"""What is asked for at once shrinks with each reply that is cut, and grows again."""

from __future__ import annotations

from redisq.store.portions import Portion


def test_it_asks_for_less_down_to_one_and_later_for_more_again() -> None:
    now = 0.0
    portion = Portion(500, lambda: now)
    assert portion.most == 500
    portion.cut(500)
    assert portion.most == 125
    portion.cut(10)  # fewer were asked for than might have been
    assert portion.most == 2
    portion.cut(2)
    assert portion.most == 1
    for _ in range(3):
        portion.passed()
    assert portion.most == 1  # two were too many
    now = 60.0
    for _ in range(20):
        portion.passed()
    assert portion.most == 500


def test_it_comes_near_what_was_cut_at_once() -> None:
    portion = Portion(500, lambda: 0.0)
    portion.cut(100)
    for _ in range(5):
        portion.passed()
    assert portion.most == 50


def test_what_was_never_cut_stays_whole() -> None:
    portion = Portion(100)
    portion.passed()
    assert portion.most == 100
