"""How many messages to claim, when to renew and to sweep, how long to pause. Pure: time and chance are passed in."""

from __future__ import annotations

from redisq.store.call import BATCH

#: An idle worker looks again after this long even when nothing rang: it bounds what a lost ring can cost. Seconds.
LONGEST_BLOCK = 5.0
#: A worker that Redis gave no answer claims again after this long at most. Seconds.
LONGEST_PAUSE = 5.0
#: A lease that is short at first is renewed after this long, if its handler still runs. Seconds.
FIRST_BEAT = 0.2
_SHORTEST_BLOCK = 0.001  # so that a queue that is due and cannot be claimed is not asked without end
_WORTH_A_CALL = 32  # messages of one claim whose own cost counts little
_LONGEST_SWEEP = 20.0  # seconds


def claimable(concurrency: int, busy: int, unconfirmed: int) -> int:
    """Return how many messages to claim: one per free slot; of many slots half, so that the server looks for
    the messages of one half while the handlers of the other run (measured: half as fast again).

    A slot is free when its handler has returned, so that claims and completions overlap; but no more outcomes than
    there are slots may wait for Redis' confirmation, so that a slow Redis slows the worker and fills no memory.
    """
    free = concurrency - busy - max(0, unconfirmed - concurrency)
    return max(0, min(BATCH, max(_WORTH_A_CALL, -(-concurrency // 2)), free))


def block_for(wait: float | None, longest: float = LONGEST_BLOCK) -> float:
    """Return how long to wait for a ring, given when the next message is due (None: none is), in seconds."""
    return max(_SHORTEST_BLOCK, min(longest, longest if wait is None else wait))


def beat_after(lease: float) -> float:
    """Return after how many seconds a lease is renewed: at a third of it, so that two beats may fail."""
    return lease / 3


def patience_with(lease: float) -> float:
    """Return how long a lease must be seen lapsed before it is taken over, so that a live holder can renew it.

    What it waits for is under way already, see `redisq.claims.server_time`, so a second is plenty.
    """
    return min(1.0, beat_after(lease))


def hold_after_outage(lease: float) -> float:
    """Return how long lapsed leases are left alone once Redis is back: for a heartbeat, so that they are renewed.

    A heartbeat that failed is repeated every half second, so 2 s are enough of them where leases are short.
    """
    return max(2.0, beat_after(lease))


def hold_after_start(lease: float) -> float:
    """Return how long a new worker leaves lapsed leases alone: it may have been started by the end of an outage."""
    return min(5.0, hold_after_outage(lease))


def sweep_after(wait: float) -> float:
    """Return when to sweep next, given in how many seconds the first leftover can be due.

    Not more often than once a second; at least twice a minute, as a queue's retention may have been shortened.
    """
    return max(1.0, min(_LONGEST_SWEEP, wait))


def pause_after(failures: int, chance: float) -> float:
    """Return how long to wait after the n-th failure in a row to reach Redis: full jitter, at most 5 s."""
    return float(min(LONGEST_PAUSE, 0.05 * 2 ** min(failures, 10)) * chance)
