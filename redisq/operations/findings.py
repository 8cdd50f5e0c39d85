"""What `doctor` can find: every code with what it means and what to do, and the judgements that need no walk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
    fixable: bool = False


_DAMAGED = "If no newer redisq is at work, look at them; `redisq delete QUEUE ID` removes such a message."


def _fixed(meaning: str, how: str, severity: str = ERROR) -> Kind:
    return Kind(severity, meaning, f"`--fix` {how}.", fixable=True)


#: The words of `audit.lua` first. Texts take the details that a finding gives.
KINDS: Mapping[str, Kind] = {
    # --- Messages ---
    "orphan": _fixed(
        "Bodies of waiting messages that are in no structure: they would never be delivered",
        "puts them back into the queue",
    ),
    "entry-missing": _fixed(
        "Records of waiting messages that are neither ready nor scheduled: they would never be delivered",
        "puts them back into the queue",
    ),
    "lease-missing": _fixed(
        "Messages in progress without a lease: when their worker dies nobody takes them over",
        "gives each a lease from now on: a live worker goes on, a dead one's message is taken over",
    ),
    "finished-missing": _fixed(
        "Complete messages that are not listed as finished: they would never be forgotten",
        "lists them as if they had finished now",
    ),
    "dead-missing": _fixed("Dead letters that are not on the dead-letter list", "lists them"),
    "tombstone-missing": _fixed(
        "Ids of deleted messages that are not listed: they would never be forgotten",
        "lists them as if they had been deleted now",
    ),
    "record-missing": _fixed(
        "Messages in progress, finished or dead that have lost their record, and with it their result or error",
        "queues anew what was in progress, and writes the others a record without result or error",
    ),
    "body-missing": _fixed(
        "Waiting messages, or messages in progress, that have lost their body",
        "makes them dead letters of the reason unreadable, as the next claim does",
    ),
    "stream-stray": _fixed(
        "Entries of ready messages whose message is elsewhere: it would be delivered once more", "removes the entries"
    ),
    "scheduled-stray": _fixed(
        "Scheduled entries whose message is elsewhere: it would be delivered once more", "removes the entries"
    ),
    "leases-stray": _fixed(
        "Leases of messages that are not in progress: they would be delivered once more", "removes the leases"
    ),
    "urgent-missing": _fixed(
        "Ready messages with a priority that are not listed as urgent: they would wait for all before them",
        "lists them",
    ),
    "urgent-stray": _fixed(
        "Entries of the list of urgent messages that are not ready there any more, as an older redisq leaves them",
        "removes the entries; the next claims do, too",
        WARNING,
    ),
    "finished-stray": _fixed("Entries of finished messages that are not finished, or gone", "removes the entries"),
    "dead-stray": _fixed("Entries of the dead-letter list that are no dead letters", "removes the entries"),
    "request-missing": Kind(
        WARNING,
        "Finished messages that have lost their body: they cannot be looked up, nor redriven",
        "Nothing: they are forgotten when their retention has passed.",
    ),
    "record-unreadable": Kind(
        ERROR,
        "Records that redisq cannot read: damaged, or written by a newer redisq",
        _DAMAGED,
    ),
    "body-damaged": Kind(
        ERROR,
        "Bodies whose head redisq cannot read: damaged, or written by a newer redisq",
        _DAMAGED,
    ),
    "tombstone-with-body": Kind(
        ERROR,
        "Deleted messages whose body is still there",
        "`redisq delete QUEUE ID` deletes them again, and whole. Look at them first: a body may be one you miss.",
    ),
    "id-strange": Kind(
        ERROR,
        "Entries that are no ids of messages: another program writes to the queue's keys",
        "Find that program, and remove what it wrote.",
    ),
    # --- Queues ---
    "key-type": Kind(
        ERROR,
        "Keys hold another program's values ({details}): every operation that needs them is refused",
        "Find the program that uses this database and namespace, and remove its keys. Nothing more was audited here.",
    ),
    "totals-differ": Kind(
        WARNING,
        "The running totals do not add up to the {details} messages that wait or are in progress",
        "Nothing: it is the statistics that are wrong, not the messages.",
    ),
    "totals-lost": Kind(NOTE, "The running totals are gone; they count anew", "Nothing."),
    "definition-invalid": Kind(
        WARNING,
        "Settings of the queue's definition that are not valid ({details})",
        "`redisq queues define QUEUE` sets them anew.",
    ),
    "schema-invalid": Kind(
        ERROR,
        "The queue's schema cannot be used ({details}): nothing can be queued",
        "`redisq queues define QUEUE --schema FILE` sets it anew, `--schema default` takes it away.",
    ),
    "upgrade-needed": Kind(ERROR, "This redisq is too old for the queue ({details})", "Upgrade it, and old workers."),
    "definition-unknown": Kind(
        NOTE,
        "Settings of the queue's definition that this redisq does not know ({details})",
        "Nothing, if a newer redisq set them.",
    ),
    "nobody-claims": Kind(
        WARNING,
        "Messages have been waiting for {details}, and none is in progress: is there a worker?",
        "Start one: `redisq worker MODULE:WORKER`.",
    ),
    "nobody-reclaims": Kind(
        WARNING,
        "The first lease lapsed {details} ago, and nobody has taken the message over: is there a worker?",
        "Start one: `redisq worker MODULE:WORKER`.",
    ),
    "nobody-sweeps": Kind(
        NOTE,
        "Finished messages, ids or claims of dead workers could have been forgotten long ago",
        "`redisq sweep QUEUE`. Workers do it each second.",
    ),
    "clock-set-back": Kind(
        WARNING,
        "The newest entry is {details} ahead of the server's clock, which was set back: leases, delays and retention "
        "of what was there before last that much longer",
        "Wait, and let NTP set the server's clock.",
    ),
    "security-none": Kind(
        WARNING,
        "The queue's security is none: gateways whose REDISQ_HTTP_OPEN_QUEUES names it let anybody queue, get, delete "
        "and work on messages; the others ask for tokens, as none did before that setting",
        "Name it there if it shall be open; else `redisq queues define QUEUE --security default`.",
    ),
    "paused": Kind(NOTE, "The queue is paused", "`redisq queues resume QUEUE` lets workers claim again."),
    "bell-rings-twice": Kind(
        NOTE, "The bell holds more than one ring: workers wake for nothing", "Nothing: the next claims silence it."
    ),
    "no-keys": Kind(NOTE, "The queue has no keys: it is empty and was never used", "Nothing, or `redisq queues drop`."),
    # --- The namespace ---
    "queue-unregistered": _fixed(
        "Queues that have keys but are not in the registry: they are not listed",
        "enters them; queueing a message does, too",
        severity=WARNING,
    ),
    "entry-broken": _fixed(
        "The queue's entry in the registry is damaged: processes that start, or go on for 10 s, cannot queue there",
        "writes it anew",
    ),
    "entry-strange": Kind(
        WARNING,
        "Entries of the registry that are no names of queues: they are passed over",
        "Find who wrote them, and remove them by HDEL.",
    ),
    "key-unknown": Kind(
        WARNING,
        "Keys in the namespace that are not redisq's",
        "Find the program that made them, or the newer redisq.",
    ),
    # --- The server ---
    "server-silent": Kind(
        NOTE, "The server does not tell its configuration (INFO): not checked", "Allow this user the command INFO."
    ),
    "server-vulnerable": Kind(
        WARNING,
        "{details} lets whoever can run scripts take the server over (CVE-2025-49844 and its siblings)",
        "Update it to the last version of its line, or to a later line where its own is given up. A distribution "
        "may have mended it and kept the version: its changelog tells.",
    ),
    "memory-evicts": Kind(
        WARNING,
        "The server may evict messages when its memory is full: its maxmemory-policy is {details}",
        "Set maxmemory-policy to noeviction.",
    ),
    "memory-unlimited": Kind(
        NOTE,
        "The server has no memory limit: when the machine's is used up the kernel may kill it",
        "Set maxmemory; a full server refuses to queue, and everything else goes on.",
    ),
    "memory-nearly-full": Kind(
        WARNING,
        "The server's memory is {details} full: at 100 % it refuses to queue",
        "Start more workers, sweep, shorten the retention, or raise maxmemory.",
    ),
    "not-written-down": Kind(
        WARNING,
        "The server keeps no append-only file: it may lose messages when it restarts",
        "Set appendonly to yes.",
    ),
    "write-failed": Kind(
        ERROR, "The server's last write to its append-only file failed", "Look at its log; free some disk."
    ),
    "replicas-not-awaited": Kind(
        NOTE,
        "The server has replicas, and takes writes even when none of them gets them: a failover may lose those",
        "Set min-replicas-to-write to 1.",
    ),
    "clock-differs": Kind(
        WARNING,
        "This machine's clock is {details} the server's: tokens have a leeway of 30 s",
        "Set both clocks by NTP.",
    ),
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
    kind = KINDS[code]
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
    most = stats.queued - stats.completed - stats.died - stats.cancelled + stats.redriven
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
