"""Rates that gateways share: `take.lua`. Pure."""

from __future__ import annotations

from redisq.store import scripts
from redisq.store.call import Call


def take(rate: str, interval: float, burst: int, tokens: int) -> Call[tuple[int, float]]:
    """Take up to `tokens` out of a bucket that holds `burst` and gets one each `interval` seconds.

    Gives how many were taken and, when none, in how many seconds there will be one. When the reply is lost and the call
    sent again, those of the first are lost.
    """
    args = (max(1, round(interval * 1_000_000)), burst, tokens)
    return Call(scripts.load("take"), (rate,), args, lambda reply: (reply[0], reply[1] / 1000))
