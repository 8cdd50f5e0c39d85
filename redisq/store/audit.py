"""The audit of a queue and of the server: `survey.lua`, `look.lua`, `audit.lua`, `info.lua`, `scan.lua`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from redisq.model.audit import Judgement, Look, Survey
from redisq.store import scripts
from redisq.store.call import BATCH, CLAIM_MEMORY_MS, Argument, Call, Limits, call, periods
from redisq.store.keys import PartitionKeys
from redisq.store.reply import pairs


def survey(keys: PartitionKeys, limits: Limits) -> Call[Survey]:
    """Look at a queue as a whole, for its audit."""
    args = (*periods(limits), CLAIM_MEMORY_MS)
    return call("survey", keys, args, partial(_read_survey, scripts.load("survey").keys))


def _read_survey(names: Sequence[str], reply: Sequence[Any]) -> Survey:
    kinds = dict(zip(names, (kind.decode() for kind in reply[0]), strict=True))
    if len(reply) == 1:
        return Survey(kinds, sound=False)
    held, recorded, rings, *times, forgotten, config = reply[1:]
    ahead, lapsed, due, leftover = (time / 1000 for time in times)
    return Survey(kinds, True, held, recorded, rings, ahead, lapsed, due, leftover, forgotten, pairs(config))


def look(
    keys: PartitionKeys, structure: str, cursor: bytes, count: int, max_bytes: int, slices: int = 1, slice: int = 0
) -> Call[Look]:
    """List a page of about `count` (<= BATCH) entries of a structure: where messages are, or belong, by it.

    It reads about `max_bytes` of bodies or records, but at least one. Of all ids, in `slices`, it tells those of one.
    """
    args = (structure, cursor, count, max_bytes, slices, slice)
    return call("look", keys, args, _read_look)


def _read_look(reply: Sequence[Any]) -> Look:
    cursor, places, doubtful, met = reply
    return Look(cursor, places, doubtful, list(zip(met[::2], met[1::2], strict=True)))


def audit(
    keys: PartitionKeys,
    limits: Limits,
    structure: str,
    doubts: Sequence[tuple[bytes, bytes]],
    max_bytes: int,
    *,
    fix: bool = False,
    who: str = "-",
) -> Call[Judgement]:
    """Judge up to BATCH messages in doubt, met in `structure`, and mend with `fix`.

    With an id goes its entry where they were met in a stream, its time for `tombstones` that were not met there, else
    b"". About `max_bytes` of bodies and records are read; what is left then is not judged. When a reply is lost and the
    call sent again, what the first one mended is told by nobody.
    """
    args: list[Argument] = [limits.lease_ms, structure, max_bytes, int(fix), who]
    args += (part for doubt in doubts for part in doubt)
    return call("audit", keys, args, _read_judgement)


def _read_judgement(reply: Sequence[Any]) -> Judgement:
    judged, *problems = reply
    return Judgement(judged, [(id, word.decode(), mended == 1) for id, word, mended in problems])


def info(queues: str) -> Call[tuple[float, str]]:
    """Ask the server for its time, in seconds since 1970, and what INFO tells of it."""
    return Call(scripts.load("info"), (queues,), (), _read_info)


def _read_info(reply: Sequence[Any]) -> tuple[float, str]:
    time, _, told = reply
    return time / 1000, told.decode(errors="replace")


def scan(queues: str, pattern: str, cursor: bytes) -> Call[tuple[bytes, list[str]]]:
    """Search a page of all keys for names; gives where the next begins (b"0" after the last), and those found."""
    return Call(scripts.load("scan"), (queues,), (pattern, cursor, BATCH), _read_scan)


def _read_scan(reply: Sequence[Any]) -> tuple[bytes, list[str]]:
    cursor, _, names = reply
    return cursor, [name.decode(errors="backslashreplace") for name in names]
