"""The audit of a live Redis, as flows: of one queue, and of the server. Pure.

First all structures of a queue are looked over, page by page: some tell where each message belongs, the others where it
is. Where the two differ a message is in doubt. In a busy queue most of those have only moved on meanwhile, so each is
judged once more, by one script: what is wrong there is wrong at that moment. With `fix` the same script mends it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from redisq import store
from redisq.body import schemas
from redisq.errors import InvalidDefinition, InvalidSettings, Unavailable, UpgradeNeeded
from redisq.model.audit import Finding, Judgement, Look, Survey
from redisq.model.queue import QueueStats
from redisq.operations import findings, options
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow
from redisq.store import keys
from redisq.store.keys import PartitionKeys
from redisq.tokens.scopes import is_queue

#: What tells where messages belong. The others, looked over later, tell where they are.
HASHES = ("states", "messages")
LISTS = ("finished", "dead", "leases", "scheduled", "stream", "urgent", "tombstones")
#: In this order nothing is taken away before its message is where it belongs; see `audit.lua`.
JUDGED = ("states", "finished", "dead", "leases", "messages", "scheduled", "stream", "urgent", "tombstones")

#: Entries of a page, which the server works on for about 1 ms: 4 us for each record, 2.5 for a body, 1.4 for another.
_PAGES = {"states": 250, "messages": 400, **dict.fromkeys(LISTS, 500)}
_PAGE_BYTES = 256 * 1024  # of bodies and records that one script reads, about; a single one of 1 MiB takes 2 ms
_DOUBTS = 100  # that one script judges, in about 1 ms, or 3 ms when all are to be mended
_AT_ONCE = 2_000_000  # messages whose places are kept in mind, in about 110 bytes each; more take as many more scans
_SLICES = 256  # at most: they are told by the last byte of an id
_EXAMPLES = 3
_ORDER = (findings.ERROR, findings.WARNING, findings.NOTE)


@dataclass(slots=True)
class _Problem:
    """A word of the audit, so far: how many messages, how many of them mended, a few of their ids."""

    count: int = 0
    fixed: int = 0
    examples: list[str] = field(default_factory=list)


class _Doubts:
    """What is to be judged: by the structure in which they were met, ids with their entries there. Pure."""

    def __init__(self) -> None:
        self._met: dict[str, dict[tuple[bytes, bytes], None]] = defaultdict(dict)  # each once: a scan may repeat itself
        self._expected: dict[str, set[bytes]] = {name: set() for name in HASHES}  # places, by what told of them
        self._unlisted: dict[bytes, bytes] = {}  # tombstones that may not be listed, with their times

    def take(self, structure: str, look: Look) -> None:
        """Take what a page tells."""
        self._met[structure].update(((id, b""), None) for id in look.doubtful)
        if structure in HASHES:
            self._expected[structure].update(look.places)
            self._unlisted.update(look.tombstones)
        elif structure == "tombstones":
            for id in look.places:
                self._unlisted.pop(id, None)
        else:
            found = strange = set(look.places)
            for expected in self._expected.values():
                strange = strange - expected  # a new set: the operator in place would go over all that are expected
                expected -= found
            self._met[structure].update((_id_and_entry(place), None) for place in strange)

    def of(self, structure: str) -> list[tuple[bytes, bytes]]:
        """Give them, when all structures were looked over."""
        if structure == "tombstones":
            return list(self._unlisted.items())
        urgent = structure == "urgent"  # by both hashes; each other one is missed by the hash that told of it
        told = chain.from_iterable(self._expected.values()) if urgent else self._expected.get(structure, ())
        missing = sorted(place for place in told if place.startswith(b"urgent ") == urgent)
        # By their entries: those of a stream go back in that order.
        return list(self._met[structure] | dict.fromkeys((_id_and_entry(place)[0], b"") for place in missing))


def _id_and_entry(place: bytes) -> tuple[bytes, bytes]:
    _, entry, id = place.split(b" ", 2)
    return id, entry


class _Audit:
    """The audit of one queue's messages, with `fix` mended."""

    def __init__(self, caller: Caller, where: PartitionKeys, *, fix: bool) -> None:
        self._caller, self._where, self._fix = caller, where, fix
        self._problems: dict[str, _Problem] = {}
        self._without_record: set[bytes] = set()  # known to have finished, so no orphans

    def run(self, survey: Survey) -> Flow[None]:
        """Audit all messages, as many at once as can be kept in mind."""
        slices = min(_SLICES, 1 + max(survey.held, survey.recorded) // _AT_ONCE)
        for slice in range(slices):
            doubts = _Doubts()
            for structure in (*HASHES, *LISTS):
                yield from self._look(doubts, structure, slices, slice)
            for structure in JUDGED:
                yield from self._judge(structure, doubts.of(structure))

    def findings(self) -> Iterator[Finding]:
        """Return what was found."""
        for code, problem in self._problems.items():
            yield findings.found(
                code,
                self._where.queue,
                count=problem.count,
                examples=tuple(problem.examples),
                fixed=problem.fixed,
            )

    def _look(self, doubts: _Doubts, structure: str, slices: int, slice: int) -> Flow[None]:
        count, cursor = _PAGES[structure], None
        while cursor != b"0":
            look: Look = yield store.audit.look(
                self._where, structure, cursor or b"0", count, _PAGE_BYTES, slices, slice
            )
            doubts.take(structure, look)
            cursor = look.cursor

    def _judge(self, structure: str, doubts: list[tuple[bytes, bytes]]) -> Flow[None]:
        limits, who = self._caller.limits, self._caller.application or "-"
        judged = 0
        while judged < len(doubts):
            some = doubts[judged : judged + _DOUBTS]
            judgement: Judgement = yield store.audit.audit(
                self._where, limits, structure, some, _PAGE_BYTES, fix=self._fix, who=who
            )
            for problem in judgement.problems:
                self._note(*problem)
            judged += judgement.judged

    def _note(self, id: bytes, word: str, mended: bool) -> None:
        if word == "record-missing":
            self._without_record.add(id)
        elif word == "orphan" and id in self._without_record:
            return
        problem = self._problems.setdefault(word, _Problem())
        problem.count += 1
        problem.fixed += mended
        if len(problem.examples) < _EXAMPLES:
            problem.examples.append(keys.id_text(id) if len(id) == 16 else repr(id[:40]))


def examine(caller: Caller, queue: str, token: str | None, *, fix: bool) -> Flow[list[Finding]]:
    """Audit one queue, and mend what is safe with `fix`; the answer begins with the errors."""
    where = caller.keys_of(queue)
    caller.authorise("admin", queue, token)
    options.switch_of("fix=", fix)
    try:
        survey: Survey = yield store.audit.survey(where, caller.limits)
    except UpgradeNeeded as error:
        return [findings.found("upgrade-needed", queue, details=str(error).removesuffix("."))]
    found = list(findings.of_survey(queue, survey))
    found += _of_schema(queue, survey)
    if survey.sound:
        audit = _Audit(caller, where, fix=fix)
        yield from audit.run(survey)
        problems = list(audit.findings())
        stats: QueueStats = yield store.queues.stats(where)
        sound = not any(finding.remains for finding in problems)
        found += [*problems, *findings.of_stats(queue, survey, stats, sound=sound)]
    return _sorted(found)


def _of_schema(queue: str, survey: Survey) -> Iterator[Finding]:
    """Judge the queue's schema; where it cannot be compiled for want of the extra it is left alone."""
    if "schema" in survey.config:
        try:
            schemas.load(survey.config["schema"])
        except InvalidDefinition as error:
            yield findings.found("schema-invalid", queue, examples=("schema",), details=str(error).removesuffix("."))
        except InvalidSettings:
            pass


def examine_server(caller: Caller, token: str | None, *, scan: bool, fix: bool) -> Flow[list[Finding]]:
    """Judge the server and its clock; with `scan` search all its keys for queues that are not registered."""
    caller.authorise_all("admin", token)
    options.switch_of("scan=", scan)
    options.switch_of("fix=", fix)
    registry = keys.queues_key(caller.settings.namespace)
    known: Mapping[str, int] = yield store.queues.registry(
        registry
    )  # when this is answered and INFO is not, INFO is refused
    found: list[Finding] = yield from _entries(registry, known, fix)
    sent = time.time()
    try:
        server_time, told = yield store.audit.info(registry)
    except Unavailable:
        found.append(findings.found("server-silent"))
    else:
        found += findings.of_clock(sent, server_time, time.time())
        found += findings.of_server(told)
    if scan:
        found += yield from _search(caller, registry, fix)
    return _sorted(found)


def _entries(registry: str, known: Mapping[str, int], fix: bool) -> Flow[list[Finding]]:
    """Judge the registry, where whoever may use one queue in direct mode may write."""
    found = list[Finding]()
    broken = sorted(name for name, partitions in known.items() if is_queue(name) and not partitions)
    for queue in broken:
        if fix:
            yield store.queues.unregister(registry, queue)
            yield store.queues.register(registry, queue, 1)
        found.append(findings.found("entry-broken", queue, fixed=int(fix)))
    if strange := sorted(name for name in known if not is_queue(name)):
        shown = tuple(repr(name[:40]) for name in strange[:_EXAMPLES])
        found.append(findings.found("entry-strange", count=len(strange), examples=shown))
    return found


def _search(caller: Caller, registry: str, fix: bool) -> Flow[list[Finding]]:
    """Search all keys of the namespace for those that belong to no queue of the registry."""
    namespace = caller.settings.namespace
    queues, strange = set[str](), set[str]()
    rates = keys.rate_key(namespace, "")
    cursor: bytes | None = None
    while cursor != b"0":
        names: list[str]
        cursor, names = yield store.audit.scan(registry, keys.keys_pattern(namespace), cursor or b"0")
        for name in names:
            if read := keys.read_key(namespace, name):
                queues.add(read[0])
            elif name != registry and not name.startswith(rates):
                strange.add(name)
    found = list[Finding]()
    known: Mapping[str, int] = yield store.queues.registry(registry)  # now: a queue is entered before it has a key
    for queue in sorted(queues - known.keys()):
        survey: Survey = yield store.audit.survey(caller.keys_of(queue), caller.limits)
        if set(survey.types.values()) == {"none"}:
            continue  # it was dropped meanwhile
        if fix:
            yield store.queues.register(registry, queue, 1)
        found.append(findings.found("queue-unregistered", queue, fixed=int(fix)))
    if strange:
        shown = tuple(sorted(strange)[:_EXAMPLES])
        found.append(findings.found("key-unknown", count=len(strange), examples=shown))
    return found


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: (_ORDER.index(finding.severity), finding.code))
