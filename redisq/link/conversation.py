"""What links say to a server, once for threads and asyncio: generators that yield what to do and are sent what came.

`converse` decides what to send, when to send it again and what an answer means; the links only send, receive
and sleep. redis-py's own retries are off: it would send a script again after a lost reply without anybody
knowing. Ours may, because every script recognises a repeat. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from redisq.errors import Indeterminate, QueueFull, RedisQError, Unavailable
from redisq.link.circuit import FIRST_PAUSE, LONGEST_PAUSE, Permit
from redisq.link.faults import Fault, classify, is_timeout, word_of
from redisq.link.server import Server
from redisq.store import scripts
from redisq.store.call import Call

T = TypeVar("T")
Clock: TypeAlias = Callable[[], float]
Parts: TypeAlias = tuple[bytes | str | int, ...]

#: what is sent back for a command whose permit fell while it waited for a connection; it was not sent
WITHHELD: Final = object()


class Command(NamedTuple):
    """One command to send while `permit` stands, and the reply to wait for."""

    parts: Parts
    permit: Permit


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """What came instead of a reply. `sent`: there was a connection, and the command may have reached the server."""

    error: Exception
    sent: bool


class Tried(NamedTuple):
    """The first try of a call, begun at `since`, when it had no reply: instead of that came Failed or WITHHELD."""

    command: Command
    outcome: Any
    since: float


Conversation = Generator[Command | Pause, Any, T]


def opening(call: Call[Any], server: Server, now: float, *, strict: bool = False) -> Command | None:
    """Return the command that a conversation begins with, when nothing comes before it; else None.

    As a rule it is all that is said: its reply is the answer, and no news for the circuit. So links send it at once and
    spare themselves the conversation, which takes 1 us of a call's 10 in Python, unless there is more to say.
    """
    permit = server.circuit.enter(now, probe=False)
    if permit is None or not server.is_known(strict) or call.script.sha not in server.permitted:
        return None
    return Command((b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args), permit)


def converse(
    call: Call[T], server: Server, deadline: float, clock: Clock, *, strict: bool = False, tried: Tried | None = None
) -> Conversation[T]:
    """Send a call until it is answered, it is refused, or `deadline` (seconds of `clock`, from now) has passed.

    While the server does not answer, each try waits for the circuit that all share. When its `opening` was `tried`
    before, that was the first try, and the time counts from then.

    Raises:
        Indeterminate: no answer came, and at least once the call may have reached the server.
        Unavailable, QueueFull: the server's own words, classified; or it is not fit, see `Server.judge`; or this user
            may not run a command of the script, see `check_permitted`.
    """
    script, in_doubt, cut, pause = call.script, False, 0, FIRST_PAUSE
    end = (clock() if tried is None else tried.since) + deadline
    arguments = (len(call.keys), *call.keys, *call.args)
    head: tuple[bytes, bytes] = (b"EVALSHA", script.sha)
    if tried is not None and isinstance(tried.outcome, Failed):
        _hear(tried.outcome, tried.command.permit, server, clock)
    first = WITHHELD if tried is None else tried.outcome
    while True:
        reply, first = first, WITHHELD
        asked: Failed | None = None  # what is not known yet and has to be before the call
        if reply is WITHHELD:
            if server.to_be_asked(strict, clock):
                asked = yield from inspect(server, strict, end, clock)
            if asked is None and script.sha not in server.permitted:
                asked = yield from check_permitted(call, server, end, clock)
            reply = asked or (yield from _say((*head, *arguments), server, end, clock))
        if not isinstance(reply, Failed):
            answer = call.decode(reply)
            return _doubted(answer) if in_doubt else answer
        if head[0] == b"EVALSHA" and word_of(reply.error) == "NOSCRIPT":
            head = (b"EVAL", script.text)  # for all of this call: the script cache may be flushed at any moment
            continue
        fault = classify(reply.error, server.name)
        in_doubt = in_doubt or (fault.lost and reply.sent and reply is not asked)
        cut += fault.lost and reply.sent and reply is not asked and not is_timeout(reply.error)
        left = end - clock()
        in_vain = call.parts > 1 and cut > 0 and (cut > 1 or left <= 0)
        if not fault.retry or left <= 0 or in_vain:
            error = _in_doubt(fault.error) if in_doubt else fault.error
            if in_vain and isinstance(error, Indeterminate):
                error._cut = True
            raise error from (None if fault.error is reply.error else reply.error)
        if not fault.away:  # else the circuit says when
            yield Pause(min(random.uniform(0, pause), left))
            pause = min(pause * 2, LONGEST_PAUSE)


def inspect(server: Server, strict: bool, end: float, clock: Clock) -> Conversation[Failed | None]:
    """Ask a server what it is, and judge it; give what came instead when it cannot be asked now.

    Raises:
        Unavailable: it is not fit, see `Server.judge`.
    """
    reply = yield from _say((b"INFO",), server, end, clock)
    if isinstance(reply, Failed):
        if not reply.sent or classify(reply.error, server.name).retry:
            return reply
        reply = None  # this user may not ask, or the command is not there
    if isinstance(reply, bytes):
        reply = reply.decode(errors="replace")
    server.judge(reply if isinstance(reply, str) else None, strict)
    return None


def check_permitted(call: Call[T], server: Server, end: float, clock: Clock) -> Conversation[Failed | None]:
    """Ask a server whether this user may run every command of a call's script; give what stands in the way.

    The script would fail at such a command half-way, and keep what it had written before. Once all are permitted, that
    script is not asked about again in this process: an ACL that is narrowed later goes unseen. A server that cannot
    tell has no objection; one that does not answer the question says why to the call itself.
    """
    question = scripts.load("permitted")
    parts: Parts = (b"EVAL", question.text, len(call.keys), *call.keys, *call.script.commands)
    reply = yield from _say(parts, server, end, clock)
    if isinstance(reply, Failed):
        return reply if not reply.sent or classify(reply.error, server.name).retry else None
    if isinstance(reply, list) and reply:
        *others, last = (command.decode() for command in reply)
        refused = f"{', '.join(others)} and {last}" if others else last
        why = (
            f"this user may not run {refused}. Give it the commands redisq needs: `redisq guide production` shows them"
        )
        return Failed(Unavailable(f"Redis at {server.name} refused: {why}."), sent=False)
    server.permitted.add(call.script.sha)
    return None


def once(parts: Parts, server: Server, deadline: float, clock: Clock) -> Conversation[Any]:
    """Send one command, which need not be safe to send again, and give its reply.

    Raises:
        Indeterminate: it may have reached the server, and no answer came.
        Unavailable, QueueFull: the server's own words, classified, or it cannot be reached.
    """
    reply = yield from _say(parts, server, clock() + deadline, clock)
    if not isinstance(reply, Failed):
        return reply
    fault = classify(reply.error, server.name)
    raise _in_doubt(fault.error) if fault.lost and reply.sent else fault.error


def _say(parts: Parts, server: Server, end: float, clock: Clock) -> Conversation[Any]:
    """Send one command as soon as the circuit permits it; tell it what came, and return that: a reply, or Failed."""
    circuit, waited = server.circuit, False
    while True:
        permit = circuit.enter(now := clock())
        if permit is None:
            if now >= end:
                hint = "" if waited else " This call was not sent: the next try is due in a moment."
                return Failed(Unavailable(circuit.reason + hint), sent=False)
            waited = True
            yield Pause(min(circuit.pause(now), end - now))
            continue
        try:
            reply = yield Command(parts, permit)
            if reply is WITHHELD:
                continue
            _hear(reply, permit, server, clock)
            return reply
        finally:
            circuit.let_go(permit)


def _hear(reply: Any, permit: Permit, server: Server, clock: Clock) -> None:
    """Tell the circuit what came: a reply, or Failed."""
    if not isinstance(reply, Failed):
        server.circuit.answered(permit)
    elif not isinstance(reply.error, RedisQError):  # which a link raises itself
        report(reply, permit, server, clock())


def report(failed: Failed, permit: Permit, server: Server, now: float) -> Fault:
    """Tell the circuit what came instead of a reply, and give what it means."""
    fault = classify(failed.error, server.name)
    if fault.away:
        server.circuit.lost(permit, now, str(fault.error), connected=failed.sent)
    elif not fault.here:
        server.circuit.answered(permit)
    return fault


def _in_doubt(error: RedisQError) -> RedisQError:
    """Return what a refusal means when an earlier sending of the same call may have arrived, or may arrive yet."""
    if isinstance(error, Unavailable | QueueFull):
        return Indeterminate(f"{error} The call may or may not have happened; calling again is safe.")
    return error


def _doubted(answer: Any) -> Any:
    """Read the outcomes of a batch, one of whose earlier sendings was not answered."""
    if not isinstance(answer, list):
        return answer
    return [_in_doubt(outcome) if isinstance(outcome, RedisQError) else outcome for outcome in answer]


def busy(connections: int) -> Failed:
    """Say that a command was not sent, as no connection has become free."""
    error = f"All {connections} connections are busy. Make fewer calls at once, or raise REDISQ_MAX_CONNECTIONS."
    return Failed(Unavailable(error), sent=False)
