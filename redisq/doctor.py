"""The audit of a live Redis, as flows like those of `operations`: of one queue, and of the server. Pure.

A queue is walked over structure by structure, page by page. Each page is judged by one script, so that a busy queue is
as good to audit as an idle one: what is wrong there is wrong at that moment. With `fix` the same script mends it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from redisq import calls, findings, keys
from redisq.errors import Unavailable
from redisq.keys import PartitionKeys
from redisq.model import AuditPage, Finding, QueueStats, Survey
from redisq.operations import Flow, Operations

#: In this order nothing is taken away before its message is where it belongs; see `audit.lua`.
WALKS = ("states", "finished", "dead", "leases", "messages", "scheduled", "stream")
_PAGE = 250  # entries; the server does nothing else meanwhile, for about 1 ms
_PAGE_BYTES = 1024 * 1024  # of bodies and records that one page reads
_TOMBSTONES = 100_000  # kept in mind at once, to see whether they are listed
_EXAMPLES = 3
_ORDER = (findings.ERROR, findings.WARNING, findings.NOTE)


@dataclass(slots=True)
class _Problem:
    """A word of the audit, so far: how many messages, how many of them mended, a few of their ids."""

    count: int = 0
    fixed: int = 0
    examples: list[str] = field(default_factory=list)


class _Audit:
    """The audit of one queue's messages."""

    def __init__(self, operations: Operations, where: PartitionKeys, size: int, *, fix: bool) -> None:
        self._operations, self._where, self._fix = operations, where, fix
        self._count = max(1, min(_PAGE, _PAGE_BYTES // max(1, size)))
        self._problems: dict[str, _Problem] = {}
        self._without_record: set[bytes] = set()  # known to have finished, so no orphans
        self._tombstones: dict[bytes, bytes] = {}  # that may not be listed, with their times

    def run(self) -> Flow[None]:
        """Walk over everything."""
        for walk in WALKS:
            yield from self._walk(walk)
        yield from self._find_unlisted()

    def findings(self) -> Iterator[Finding]:
        """Give what was found."""
        for code, problem in self._problems.items():
            yield findings.found(
                code,
                self._where.queue,
                count=problem.count,
                examples=tuple(problem.examples),
                fixed=problem.fixed,
            )

    def _walk(self, walk: str) -> Flow[None]:
        cursor = b"0"
        while True:
            page = yield from self._page(walk, cursor)
            if walk == "tombstones":
                for id, _ in page.tombstones:
                    self._tombstones.pop(id, None)
            else:
                self._tombstones.update(page.tombstones)
                if len(self._tombstones) >= _TOMBSTONES:
                    yield from self._find_unlisted()
            cursor = page.cursor
            if cursor == b"0":
                return

    def _find_unlisted(self) -> Flow[None]:
        """Look for the tombstones that were met in all that are listed; judge those that are not."""
        if self._tombstones:
            yield from self._walk("tombstones")
        left, self._tombstones = list(self._tombstones.items()), {}
        for first in range(0, len(left), _PAGE):
            yield from self._page("unlisted", b"0", left[first : first + _PAGE])

    def _page(self, walk: str, cursor: bytes, unlisted: list[tuple[bytes, bytes]] | None = None) -> Flow[AuditPage]:
        who = self._operations.application or "-"
        page: AuditPage = yield calls.audit(
            self._where,
            self._operations.limits,
            walk,
            cursor,
            self._count,
            fix=self._fix,
            who=who,
            unlisted=unlisted or (),
        )
        for id, word, mended in page.problems:
            if word == "record-missing":
                self._without_record.add(id)
            if word != "orphan" or id not in self._without_record:
                self._note(id, word, mended)
        return page

    def _note(self, id: bytes, word: str, mended: bool) -> None:
        problem = self._problems.setdefault(word, _Problem())
        problem.count += 1
        problem.fixed += mended
        if len(problem.examples) < _EXAMPLES:
            problem.examples.append(keys.id_text(id) if len(id) == 16 else repr(id[:40]))


def examine(operations: Operations, queue: str, token: str | None, *, fix: bool) -> Flow[list[Finding]]:
    """Audit one queue, and mend what is safe with `fix`; the answer begins with the errors."""
    where = operations.keys_of(queue)
    operations.authorise("admin", queue, token)
    survey: Survey = yield calls.survey(where, operations.limits)
    found = list(findings.of_survey(queue, survey))
    if survey.sound:
        audit = _Audit(operations, where, survey.size, fix=fix)
        yield from audit.run()
        problems = list(audit.findings())
        stats: QueueStats = yield calls.stats(where)
        sound = not any(finding.remains for finding in problems)
        found += [*problems, *findings.of_stats(queue, survey, stats, sound=sound)]
    return _sorted(found)


def examine_server(operations: Operations, token: str | None, *, scan: bool, fix: bool) -> Flow[list[Finding]]:
    """Judge the server and its clock; with `scan` search all its keys for queues that are not registered."""
    operations.authorise_all("admin", token)
    registry = keys.queues_key(operations.settings.namespace)
    yield calls.registry(registry)  # when this is answered and INFO is not, it is INFO that is refused
    found: list[Finding] = []
    sent = time.time()
    try:
        server_time, told = yield calls.info(registry)
    except Unavailable:
        found.append(findings.found("server-silent"))
    else:
        found += findings.of_clock(sent, server_time, time.time())
        found += findings.of_server(told)
    if scan:
        found += yield from _search(operations, registry, fix)
    return _sorted(found)


def _search(operations: Operations, registry: str, fix: bool) -> Flow[list[Finding]]:
    """Search all keys of the namespace for those that belong to no queue of the registry."""
    namespace = operations.settings.namespace
    queues, strange = set[str](), set[str]()
    cursor: bytes | None = None
    while cursor != b"0":
        names: list[str]
        cursor, names = yield calls.scan(registry, keys.keys_pattern(namespace), cursor or b"0")
        for name in names:
            if read := keys.read_key(namespace, name):
                queues.add(read[0])
            elif name != registry:
                strange.add(name)
    found = list[Finding]()
    known: Mapping[str, int] = yield calls.registry(registry)  # now: a queue is entered before it has a key
    for queue in sorted(queues - known.keys()):
        survey: Survey = yield calls.survey(operations.keys_of(queue), operations.limits)
        if set(survey.types.values()) == {"none"}:
            continue  # it was dropped meanwhile
        if fix:
            yield calls.register(registry, queue, 1)
        found.append(findings.found("queue-unregistered", queue, fixed=int(fix)))
    if strange:
        shown = tuple(sorted(strange)[:_EXAMPLES])
        found.append(findings.found("key-unknown", count=len(strange), examples=shown))
    return found


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: (_ORDER.index(finding.severity), finding.code))
