"""Audit queues and the server: what is wrong, what it means, what to do; mend what is safe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from redisq.cli import clients, options, output, tables
from redisq.cli.completion import queue_names

if TYPE_CHECKING:
    from redisq.client import RedisQ
    from redisq.model.audit import Finding

SomeQueues = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUEUE",
        help="Their names; all queues, and the server, if left out.",
        show_default=False,
        autocompletion=queue_names,
    ),
]


def doctor(
    queues: SomeQueues = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend; no message is lost.")] = False,
    scan: Annotated[
        bool, typer.Option("--scan", help="Look at every key of the database, too, for queues that are not listed.")
    ] = False,
    token: options.Token = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Audit queues while they are in use. Nothing is changed without --fix. The exit code is 1 when errors remain."""
    if queues and scan:
        raise typer.BadParameter("--scan goes without QUEUE.")
    with clients.opened(url) as mq:
        for queue in queues or ():
            clients.check_exists(mq, queue, token)
        began = time.monotonic()
        found = [] if queues else mq.doctor_server(token, scan=scan, fix=fix)
        names = list(dict.fromkeys(queues)) if queues else mq.queues(token)
        held = 0
        for queue in names:
            found += [finding for finding in mq.doctor(queue, token, fix=fix) if not _is_wanted(finding)]
            held += _held(mq, queue, token)
        seconds = time.monotonic() - began
    healthy = not any(finding.severity == "error" and finding.remains for finding in found)
    document: dict[str, object] = {"healthy": healthy, "queues": names, "messages": held, "seconds": round(seconds, 3)}
    document["findings"] = [finding.to_dict() for finding in found]
    summary = _summary(found, held, len(names), seconds, healthy)
    output.show(as_json, document, tables.wrapped("\n".join([*_lines(found), summary])), done=summary)
    if not healthy:
        raise typer.Exit(1)


def _is_wanted(finding: Finding) -> bool:
    """Return whether a queue is open that the gateway's setting names, which stands in this environment, too."""
    from redisq.gateway.settings import GatewaySettings
    from redisq.tokens.scopes import is_among

    return finding.code == "security-none" and is_among(finding.queue or "", GatewaySettings().open_queues)


def _held(mq: RedisQ, queue: str, token: str | None) -> int:
    from redisq.errors import Unavailable

    try:
        stats = mq.stats(queue, token)
    except Unavailable:  # a key of it holds another program's value, as the audit will tell
        return 0
    return stats.ready + stats.scheduled + stats.in_progress + stats.finished


def _lines(found: Sequence[Finding]) -> Iterator[str]:
    for queue, group in groupby(found, lambda finding: finding.queue):
        yield queue or "server"
        yield from (_line(finding) for finding in group)


def _line(finding: Finding) -> str:
    state, advice = (finding.severity, f" {finding.remedy}") if finding.remains else ("mended", "")
    count = f" {finding.count:,}" if finding.examples else ""
    more = ", ..." if finding.count > len(finding.examples) else ""
    examples = f" ({', '.join(finding.examples)}{more})" if finding.examples else ""
    return f"  {state:<7}  {finding.code}{count}: {finding.meaning}{advice}{examples}"


def _summary(found: Sequence[Finding], held: int, queues: int, seconds: float, healthy: bool) -> str:
    counts = Counter(finding.severity if finding.remains else "mended" for finding in found)
    told = ", ".join(_counted(counts[name], name) for name in ("error", "warning", "note") if counts[name])
    if counts["mended"]:
        told = f"{told}, {counts['mended']} mended" if told else f"{counts['mended']} mended"
    if healthy:
        told = f"healthy ({told})" if told else "healthy"
    return f"{_counted(held, 'message')} in {_counted(queues, 'queue')} audited in {seconds:.1f} s: {told}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
