"""What `doctor` can find: every code with what it means and what to do, and the judgements that need no walk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from redisq.model.audit import Finding, Survey
from redisq.model.bounds import check_definition
from redisq.model.queue import Definition, QueueStats, stored_number

ERROR, WARNING, NOTE = "error", "warning", "note"

_LONG = 600.0  # seconds that messages wait, or leases are overdue, before somebody should look
_LEFT_OVER = 3600.0  # seconds; workers sweep every second
_CLOCK = 30.0  # seconds that clocks may differ: so much leeway tokens have
_SET_BACK = 1.0  # seconds; entries are dated by the server itself
_NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a code: how bad it is, what it means, what to do, and whether `fix` does it."""

    severity: str
    meaning: str
    remedy: str
    fixable: bool


@cache
def read_text() -> str:
    """Read the table of what is known of each code."""
    return (files("redisq.operations") / "findings.toml").read_text("utf-8")


@cache
def kinds() -> Mapping[str, Kind]:
    """Read what is known of each code, the words of `audit.lua` first; texts take the details that a finding gives."""
    import tomllib  # for the rare case, as it takes its time to load

    told = tomllib.loads(read_text())
    return {
        code: Kind(
            kind.get("severity", ERROR),
            kind["meaning"],
            f"`--fix` {kind['fix']}." if "fix" in kind else kind["remedy"],
            fixable="fix" in kind,
        )
        for code, kind in told.items()
    }


def found(
    code: str,
    queue: str | None = None,
    *,
    count: int = 1,
    examples: tuple[str, ...] = (),
    fixed: int = 0,
    details: str = "",
) -> Finding:
    """Make the finding of a code."""
    kind = kinds()[code]
    meaning = f"{kind.meaning.format(details=details).removesuffix('?')}{'?' if kind.meaning.endswith('?') else '.'}"
    return Finding(kind.severity, code, queue, count, examples, meaning, kind.remedy, kind.fixable, fixed)


# --- A queue as a whole ---

_TYPES = {
    **dict.fromkeys(("stream", "finished", "tombstones"), "stream"),
    **dict.fromkeys(("messages", "states", "workers", "counters", "config"), "hash"),
    **dict.fromkeys(("scheduled", "leases", "dead", "urgent"), "zset"),
    "bell": "list",
}


def of_survey(queue: str, survey: Survey) -> Iterator[Finding]:
    """Judge a queue as a whole. When its keys are not sound it is nothing more to be looked at."""
    if not survey.sound:
        wrong = [name for name, kind in survey.types.items() if kind not in ("none", _TYPES[name])]
        told = ", ".join(f"{name} is a {survey.types[name]}" for name in wrong)
        yield found("key-type", queue, count=len(wrong), examples=tuple(wrong), details=told)
        return
    if set(survey.types.values()) == {"none"}:
        yield found("no-keys", queue)
    yield from _of_definition(queue, survey.config)
    if survey.config.get("security") == "1":
        yield found("security-none", queue)
    if survey.config.get("paused") == "1":
        yield found("paused", queue)
    elif survey.lapsed > _LONG:
        yield found("nobody-reclaims", queue, details=_span(survey.lapsed))
    if survey.leftover > _LEFT_OVER or survey.forgotten:
        yield found("nobody-sweeps", queue)
    if survey.ahead > _SET_BACK:
        yield found("clock-set-back", queue, details=_span(survey.ahead))
    if survey.rings > 1:
        yield found("bell-rings-twice", queue)


def of_stats(queue: str, survey: Survey, stats: QueueStats, *, sound: bool) -> Iterator[Finding]:
    """Judge how long messages have been waiting and, when the queue's structures are sound, its running totals."""
    live = stats.ready + stats.scheduled + stats.in_progress
    most = stats.queued - stats.completed - stats.died + stats.redriven
    if survey.types["counters"] == "none":
        if survey.held:
            yield found("totals-lost", queue)
    elif sound and not most - stats.deleted <= live <= most:  # some of the deleted ones had finished
        yield found("totals-differ", queue, details=f"{live:,}")
    waiting = max(stats.oldest_age or 0.0, survey.due)
    if waiting > _LONG and not stats.in_progress and survey.config.get("paused") != "1":
        yield found("nobody-claims", queue, details=_span(waiting))


def _of_definition(queue: str, config: Mapping[str, str]) -> Iterator[Finding]:
    unknown = sorted(config.keys() - Definition.__dataclass_fields__.keys())
    invalid = sorted(name for name in config.keys() - {*unknown, "schema"} if not _is_valid(name, config[name]))
    for code, names in (("definition-invalid", invalid), ("definition-unknown", unknown)):
        if names:
            yield found(code, queue, count=len(names), examples=tuple(names), details=", ".join(names))


def _is_valid(name: str, text: str) -> bool:
    try:
        if name in ("paused", "security", "check_formats"):
            return text in ("0", "1")
        if (number := stored_number(text)) is None:
            return False
        check_definition({name: number / 1000 if name in Definition.SECONDS else number})
    except ValueError:  # which InvalidDefinition is, too
        return False
    return True


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- The server ---

#: kind, line -> the first version of this line in which scripts cannot take the server over. Later lines never could;
#: lines between were given up before it was known. October 2025: CVE-2025-49844, with 46817, 46818 and 46819.
#:   Redis   https://redis.io/blog/security-advisory-cve-2025-49844/, and the notes of each release under
#:           https://github.com/redis/redis/releases; 7.0 and before 6.2 got none
#:   Valkey  https://github.com/valkey-io/valkey/releases/tag/8.1.4, 8.0.6 and 7.2.11; 9.0.0 came later
#: Not here: what scripts do to nobody but who sends them, as CVE-2025-67733 (Valkey 7.2.12, 8.0.7, 8.1.6, 9.0.2: they
#: garble replies on their own connection; redisq sends no scripts but its own).
_FLOORS = {
    ("redis", (6, 2)): 20,
    ("redis", (7, 2)): 11,
    ("redis", (7, 4)): 6,
    ("redis", (8, 0)): 4,
    ("redis", (8, 2)): 2,
    ("valkey", (7, 2)): 11,
    ("valkey", (8, 0)): 6,
    ("valkey", (8, 1)): 4,
}
_VERSION = re.compile(r"^(redis|valkey)_version:((\d+)\.(\d+)\.(\d+)\S*)", re.MULTILINE)


def of_server(info: str) -> Iterator[Finding]:
    """Judge a server by what its INFO tells; what that does not tell is sound."""
    told = dict(line.partition(":")[::2] for line in info.splitlines())
    versions = {kind: (text, (int(a), int(b)), int(c)) for kind, text, a, b, c in _VERSION.findall(info)}
    kind = "valkey" if "valkey" in versions else "redis"  # which tells a redis_version as well
    if kind in versions and _is_vulnerable(kind, *versions[kind][1:]):
        yield found("server-vulnerable", details=f"{kind.capitalize()} {versions[kind][0]}")
    yield from _of_memory(told)
    if told.get("aof_enabled") == "0":
        yield found("not-written-down")
    elif told.get("aof_last_write_status", "ok") != "ok":
        yield found("write-failed")
    if _number(told, "connected_slaves") and "min_slaves_good_slaves" not in told:
        yield found("replicas-not-awaited")


def _is_vulnerable(kind: str, line: tuple[int, int], patch: int) -> bool:
    floor = _FLOORS.get((kind, line))
    if floor is None:
        return line < max(known for name, known in _FLOORS if name == kind)
    return patch < floor


def _of_memory(told: Mapping[str, str]) -> Iterator[Finding]:
    limit, used = _number(told, "maxmemory"), _number(told, "used_memory") or 0
    if limit == 0:
        yield found("memory-unlimited")
    elif limit:
        if told.get("maxmemory_policy", "").startswith("allkeys-"):  # volatile ones spare keys without expiry: ours
            yield found("memory-evicts", details=told["maxmemory_policy"])
        if used > limit * _NEARLY_FULL:
            yield found("memory-nearly-full", details=f"{used / limit:.0%}")


def _number(told: Mapping[str, str], name: str) -> int | None:
    text = told.get(name, "")
    return int(text) if text.isdecimal() else None


def of_clock(sent: float, server: float, received: float) -> Iterator[Finding]:
    """Judge this machine's clock: what it showed before and after the server told its own time, all in seconds."""
    if server > received + _CLOCK:
        yield found("clock-differs", details=f"{_span(server - received)} behind")
    elif server < sent - _CLOCK:
        yield found("clock-differs", details=f"{_span(sent - server)} ahead of")
