"""`converse`: what is sent, when it is sent again, what is raised. Driven by hand and a clock that only pauses move.

Each test runs twice: with the conversation alone, and as links do, who send its `opening` before they hold it.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import pytest
from redis import exceptions

from redisq import store
from redisq.errors import Indeterminate, MessageConflict, QueueFull, Unavailable
from redisq.link import conversation
from redisq.link.circuit import LONGEST_PAUSE
from redisq.link.conversation import WITHHELD, Command, Conversation, Failed, Pause, Tried, converse, opening
from redisq.link.server import Server
from redisq.store import scripts
from redisq.store.call import Call
from redisq.store.reply import nothing, outcomes

CALL = store.queues.unregister("ns:1:queues", "orders")
LOST = Failed(exceptions.ConnectionError("Connection closed by server."), sent=True)
REFUSED = Failed(exceptions.ConnectionError("Error 111 connecting to host:6379. Connection refused."), sent=False)
LATE = Failed(exceptions.TimeoutError("Timeout reading from socket"), sent=True)
BUSY = Failed(exceptions.ResponseError("BUSY Redis is busy running a script."), sent=True)
LOADING = Failed(exceptions.BusyLoadingError("Redis is loading the dataset in memory"), sent=True)
NO_SCRIPT = Failed(exceptions.NoScriptError("No matching script. Please use EVAL."), sent=True)
FULL = Failed(exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), sent=True)
WRONG_TYPE = Failed(exceptions.ResponseError("WRONGTYPE Operation against a key"), sent=True)


def unasked() -> Server:
    """A server that permits the script, and was not asked for its INFO."""
    server = Server("host:6379")
    server.permitted.add(CALL.script.sha)
    return server


def sound() -> Server:
    """A server that permits the script, was asked for its INFO, and is fit."""
    server = unasked()
    server.judge("", strict=False)
    return server


def stranger() -> Server:
    """A server that is fit, and was not asked whether it permits the script."""
    server = Server("host:6379")
    server.judge("", strict=False)
    return server


class Talk:
    """A conversation with a server that answers as it is told, again and again with the last answer."""

    opens = False  # whether the opening is sent before it begins

    def __init__(
        self,
        *replies: Any,
        deadline: float = 10.0,
        now: float = 0.0,
        server: Server | None = None,
        strict: bool = False,
        call: Call[Any] = CALL,
    ) -> None:
        self.replies = list(replies)
        self.now = now
        self.sent: list[tuple[Any, ...]] = []
        self.pauses: list[float] = []
        self.server = server or sound()
        self.call = call
        self.deadline, self.strict = deadline, strict

    def run(self) -> Any:
        """Answer until the conversation ends; give its value or raise its error."""
        tried: Tried | None = None
        command = opening(self.call, self.server, self.now, strict=self.strict) if self.opens else None
        if command is not None:
            reply = self._reply(command)
            if not isinstance(reply, Failed):
                return self.call.decode(reply)
            tried = Tried(command, reply, self.now)
        clock = lambda: self.now  # noqa: E731
        return self._hold(converse(self.call, self.server, self.deadline, clock, strict=self.strict, tried=tried))

    def _hold(self, conversation: Conversation[Any]) -> Any:
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = next(conversation)
                else:
                    step = conversation.send(self._reply(step))
        except StopIteration as end:
            return end.value

    def _reply(self, command: Command) -> Any:
        assert command.permit.stands
        self.sent.append(command.parts)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture(autouse=True, params=["whole", "opened"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold conversations in both ways."""
    monkeypatch.setattr(Talk, "opens", request.param == "opened")


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each pause be as long as it may."""
    monkeypatch.setattr(conversation.random, "uniform", lambda low, high: high)


HEADS = {"EVALSHA": (b"EVALSHA", CALL.script.sha), "EVAL": (b"EVAL", CALL.script.text)}
REST = (len(CALL.keys), *CALL.keys, *CALL.args)


def heads(talk: Talk) -> list[str]:
    """Which of the two commands was sent each time; all else must be the whole call."""
    assert all(parts[2:] == REST for parts in talk.sent)
    return [name for parts in talk.sent for name, head in HEADS.items() if parts[:2] == head]


def test_a_script_is_called_by_its_hash() -> None:
    talk = Talk(b"OK")
    assert talk.run() is None
    assert talk.sent == [(*HEADS["EVALSHA"], *REST)]
    assert talk.pauses == []


def test_the_reply_is_decoded() -> None:
    call = store.queues.register("ns:1:queues", "orders", 1)
    server = sound()
    server.permitted.add(call.script.sha)
    talk = converse(call, server, 1.0, lambda: 0.0)
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send(8)
    assert end.value.value == 8


def test_a_server_that_does_not_know_the_script_gets_it_at_once() -> None:
    talk = Talk(NO_SCRIPT, b"OK", deadline=0)
    talk.run()
    assert heads(talk) == ["EVALSHA", "EVAL"]
    assert talk.pauses == []


def test_the_script_is_sent_whole_from_then_on() -> None:
    talk = Talk(NO_SCRIPT, LOST, NO_SCRIPT, b"OK")
    with pytest.raises(Unavailable):
        talk.run()
    talk = Talk(NO_SCRIPT, LOST, LOADING, b"OK")
    talk.run()
    assert heads(talk) == ["EVALSHA", "EVAL", "EVAL", "EVAL"]


@pytest.mark.parametrize("failed", [LOST, REFUSED, LATE, LOADING, BUSY])
def test_what_passes_is_tried_again(failed: Failed) -> None:
    talk = Talk(failed, failed, b"OK")
    talk.run()
    assert heads(talk) == ["EVALSHA"] * 3
    assert talk.pauses


@pytest.mark.parametrize("failed", [REFUSED, BUSY])
def test_pauses_double_up_to_a_second(longest: None, failed: Failed) -> None:
    talk = Talk(failed, deadline=10)
    with pytest.raises(Unavailable):
        talk.run()
    assert talk.pauses[:7] == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0])
    assert talk.pauses[7:-1] == pytest.approx([1.0] * (len(talk.pauses) - 8))
    assert talk.now == pytest.approx(10)  # the last one is cut at the deadline


@pytest.mark.parametrize("failed", [REFUSED, BUSY])
def test_pauses_have_full_jitter(monkeypatch: pytest.MonkeyPatch, failed: Failed) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(conversation.random, "uniform", lambda low, high: asked.append((low, high)) or 0.0)
    Talk(failed, failed, failed, b"OK").run()
    assert asked == [(0, 0.02), (0, 0.04), (0, 0.08)]


@pytest.mark.parametrize("failed", [LOST, LATE])
def test_a_lost_connection_is_replaced_at_once(longest: None, failed: Failed) -> None:
    talk = Talk(failed, b"OK", deadline=1)
    talk.run()
    assert talk.pauses == []
    talk = Talk(failed, failed, failed, b"OK", deadline=1)
    talk.run()
    assert talk.pauses == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize("failed", [REFUSED, LOST, BUSY])
@pytest.mark.parametrize("deadline", [0.0, 0.05, 1.0, 10.0])
def test_the_deadline_bounds_the_retries(longest: None, deadline: float, failed: Failed) -> None:
    talk = Talk(failed, deadline=deadline)
    with pytest.raises(Unavailable):
        talk.run()
    assert talk.now <= deadline + 0.001
    assert (len(talk.sent) > 1) is (deadline > 0)


@pytest.mark.parametrize(("failed", "kind"), [(WRONG_TYPE, Unavailable), (FULL, QueueFull)])
def test_what_lasts_is_raised_at_once(failed: Failed, kind: type[Exception]) -> None:
    talk = Talk(failed, b"OK")
    with pytest.raises(kind) as raised:
        talk.run()
    assert type(raised.value) is kind
    assert raised.value.__cause__ is failed.error
    assert len(talk.sent) == 1
    assert talk.pauses == []


@pytest.mark.parametrize("failed", [REFUSED, LOADING])
def test_a_call_that_never_ran_is_unavailable(failed: Failed) -> None:
    with pytest.raises(Unavailable) as raised:
        Talk(failed, deadline=1).run()
    assert type(raised.value) is Unavailable
    assert "host:6379" in str(raised.value)


@pytest.mark.parametrize("replies", [(LOST,), (LATE,), (LOST, REFUSED), (REFUSED, LATE, LOADING), (LOST, WRONG_TYPE)])
def test_a_call_that_may_have_run_is_indeterminate(replies: tuple[Failed, ...]) -> None:
    with pytest.raises(Indeterminate, match="may or may not have happened; calling again is safe"):
        Talk(*replies, deadline=1).run()


def test_after_a_lost_reply_a_full_server_leaves_it_in_doubt() -> None:
    """The repeat was refused, but the first sending may be under way yet."""
    with pytest.raises(Indeterminate, match="out of memory"):
        Talk(LOST, FULL).run()


@pytest.mark.parametrize("replies", [(LOST,), ()], ids=["after a lost reply", "at once"])
def test_so_does_a_queue_at_its_max_length(replies: tuple[Failed, ...]) -> None:
    batch = CALL._replace(decode=partial(outcomes, nothing))
    answer = [b"OK", [b"MESSAGE_CONFLICT"], [b"QUEUE_FULL", b"5"]]
    accepted, conflict, full = Talk(*replies, answer, call=batch).run()
    assert accepted is None
    assert type(conflict) is MessageConflict
    assert type(full) is (Indeterminate if replies else QueueFull)


# --- The circuit breaker ---


def test_while_the_gate_is_shut_nothing_is_sent_until_a_probe_is_answered(longest: None) -> None:
    server, now = sound(), 0.0
    first, second = (converse(CALL, server, 10, lambda: now) for _ in range(2))
    next(first)
    assert isinstance(first.send(REFUSED), Pause)
    assert isinstance(next(second), Pause)
    now = 0.02
    probe = next(first)
    assert isinstance(probe, Command)
    assert [type(next(second)) for _ in range(5)] == [Pause] * 5
    with pytest.raises(StopIteration):
        first.send(b"OK")
    assert isinstance(next(second), Command)


def test_a_call_without_a_deadline_fails_at_once_and_says_so(longest: None) -> None:
    server = sound()
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    talk = Talk(b"OK", deadline=0, server=server)
    with pytest.raises(
        Unavailable, match=r"Connection refused\..* was not sent: the next try is due in a moment"
    ) as raised:
        talk.run()
    assert type(raised.value) is Unavailable
    assert (talk.sent, talk.pauses) == ([], [])
    Talk(b"OK", deadline=0, now=LONGEST_PAUSE, server=server).run()  # one honest try at the opening


def test_a_call_that_waits_in_vain_says_why_redis_was_not_reached() -> None:
    server = sound()
    circuit = server.circuit
    permit = circuit.enter(0)
    assert permit
    circuit.lost(permit, 0, "Redis at host:6379 cannot be reached: Connection refused.", connected=False)
    circuit.enter(0.5)  # somebody else's probe, which hangs
    talk = Talk(b"OK", deadline=0.5, now=0.5, server=server)
    with pytest.raises(Unavailable) as raised:
        talk.run()
    assert str(raised.value) == "Redis at host:6379 cannot be reached: Connection refused."
    assert talk.sent == []


@pytest.mark.parametrize("answer", [b"OK", BUSY, WRONG_TYPE, FULL, NO_SCRIPT])
def test_any_answer_opens_the_gate(answer: Any) -> None:
    server = sound()
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    probe = converse(CALL, server, 0, lambda: 5.0)
    next(probe)
    assert server.circuit.enter(5, probe=False) is None
    with contextlib.suppress(StopIteration, Unavailable, QueueFull):
        probe.send(answer)
    assert server.circuit.enter(5, probe=False)


@pytest.mark.parametrize("end", ["closed", "no connection free"])
def test_a_probe_that_was_not_sent_says_nothing_of_the_server(end: str) -> None:
    server = sound()
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    probe = converse(CALL, server, 0, lambda: 5.0)
    step = next(probe)
    if end == "closed":
        probe.close()
    else:
        with pytest.raises(Unavailable, match="busy"):
            probe.send(Failed(Unavailable("All connections are busy."), sent=False))
    assert isinstance(step, Command)
    assert not step.permit.stands
    assert server.circuit.enter(5) is None
    assert server.circuit.enter(5 + LONGEST_PAUSE)


def test_a_command_that_was_withheld_is_sent_later(longest: None) -> None:
    server = sound()
    waiting = converse(CALL, server, 10, lambda: 0.0)
    step = next(waiting)
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    assert isinstance(step, Command)
    assert not step.permit.stands
    assert isinstance(waiting.send(WITHHELD), Pause)


# --- The opening ---


@pytest.mark.parametrize("known", ["all is known", "not what it is", "not what it permits", "at risk"])
@pytest.mark.parametrize("strict", [False, True])
def test_an_opening_is_what_a_conversation_begins_with_unless_something_else_is(known: str, strict: bool) -> None:
    server = {"not what it is": unasked, "not what it permits": stranger}.get(known, sound)()
    if known == "at risk":
        server = unasked()
        server.judge(RISKY.decode(), strict=False)
    opened = opening(CALL, server, 0.0, strict=strict)
    begun = next(converse(CALL, server, 1.0, lambda: 0.0, strict=strict))
    assert opened == (begun if known == "all is known" or (known == "at risk" and not strict) else None)
    assert isinstance(begun, Command)
    assert (opened is not None) is (begun.parts == CALLED)


def test_there_is_no_opening_while_the_gate_is_shut(longest: None) -> None:
    server = sound()
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    assert opening(CALL, server, LONGEST_PAUSE) is None  # not even a probe: an answer to that is news
    assert isinstance(next(converse(CALL, server, 0, lambda: LONGEST_PAUSE)), Command)


@pytest.mark.parametrize("failed", [LOST, REFUSED, LATE, LOADING])
def test_an_opening_that_fails_shuts_the_gate(failed: Failed) -> None:
    server = sound()
    command = opening(CALL, server, 0.0)
    assert command is not None
    next(converse(CALL, server, 10, lambda: 0.0, tried=Tried(command, failed, 0.0)))
    assert not command.permit.stands
    assert opening(CALL, server, 0.0) is None


def test_an_opening_for_which_no_connection_was_free_says_nothing_of_the_server() -> None:
    server = sound()
    command = opening(CALL, server, 0.0)
    assert command is not None
    busy = Failed(Unavailable("All connections are busy."), sent=False)
    with pytest.raises(Unavailable, match="busy"):
        next(converse(CALL, server, 10, lambda: 0.0, tried=Tried(command, busy, 0.0)))
    assert command.permit.stands


def test_an_opening_that_was_withheld_was_not_sent() -> None:
    server = sound()
    command = opening(CALL, server, 0.0)
    assert command is not None
    with pytest.raises(Unavailable):
        Talk(REFUSED, deadline=0, server=server).run()
    now = LONGEST_PAUSE
    conversation = converse(CALL, server, 10, lambda: now, tried=Tried(command, WITHHELD, 0.0))
    probe = next(conversation)
    assert isinstance(probe, Command)
    now = 10
    with pytest.raises(Unavailable) as raised:
        conversation.send(REFUSED)
    assert type(raised.value) is Unavailable  # no doubt


def test_the_deadline_counts_from_the_opening() -> None:
    server = sound()
    command = opening(CALL, server, 0.0)
    assert command is not None
    with pytest.raises(Indeterminate):
        next(converse(CALL, server, 10, lambda: 10.0, tried=Tried(command, LATE, 0.0)))


# --- The server's INFO ---

RISKY = b"redis_version:7.2.4\r\naof_enabled:0\r\n"
OLD = b"redis_version:5.0.6\r\n"
NO_PERMISSION = Failed(
    exceptions.NoPermissionError("this user has no permissions to run the 'info' command"), sent=True
)
UNKNOWN = Failed(exceptions.ResponseError("unknown command 'INFO', with args beginning with: "), sent=True)
WRONG_PASSWORD = Failed(exceptions.AuthenticationError("invalid username-password pair"), sent=False)


def names(talk: Talk) -> list[bytes]:
    """The commands that were sent."""
    return [parts[0] for parts in talk.sent]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("told", [b"redis_version:7.2.4", "redis_version:7.2.4", [], None, NO_PERMISSION, UNKNOWN])
def test_the_first_call_asks_the_server_what_it_is(told: Any, strict: bool) -> None:
    server = unasked()
    talk = Talk(told, b"OK", server=server, strict=strict)
    talk.run()
    assert names(talk) == [b"INFO", b"EVALSHA"]
    again = Talk(b"OK", server=server, strict=strict)
    again.run()
    assert names(again) == [b"EVALSHA"]


@pytest.mark.parametrize("failed", [REFUSED, LOST, LATE, LOADING, BUSY])
def test_a_server_that_cannot_be_asked_is_asked_before_a_later_call(failed: Failed) -> None:
    server = unasked()
    talk = Talk(failed, b"OK", server=server)
    talk.run()
    assert names(talk) == [b"INFO", b"EVALSHA"]
    again = Talk(b"", b"OK", now=60.0, server=server)
    again.run()
    assert names(again) == [b"INFO", b"EVALSHA"]


@pytest.mark.parametrize("failed", [REFUSED, LOST, LATE, LOADING, BUSY])
def test_a_strict_call_waits_until_the_server_was_asked(failed: Failed) -> None:
    talk = Talk(failed, failed, b"", b"OK", server=unasked(), strict=True)
    talk.run()
    assert names(talk) == [b"INFO", b"INFO", b"INFO", b"EVALSHA"]
    talk = Talk(failed, server=unasked(), strict=True, deadline=1)
    with pytest.raises(Unavailable) as raised:
        talk.run()
    assert type(raised.value) is Unavailable  # the call itself was not sent: no doubt
    assert set(names(talk)) == {b"INFO"}


def test_a_strict_call_is_not_sent_to_a_server_at_risk() -> None:
    talk = Talk(RISKY, server=unasked(), strict=True)
    with pytest.raises(Unavailable, match="REDISQ_STRICT"):
        talk.run()
    assert names(talk) == [b"INFO"]
    talk = Talk(RISKY, b"OK", server=unasked())
    talk.run()
    assert names(talk) == [b"INFO", b"EVALSHA"]


@pytest.mark.parametrize("strict", [False, True])
def test_no_call_is_sent_to_a_server_that_is_too_old(strict: bool) -> None:
    talk = Talk(OLD, server=unasked(), strict=strict)
    with pytest.raises(Unavailable, match=r"5\.0\.6"):
        talk.run()
    assert names(talk) == [b"INFO"]


def test_a_login_that_is_refused_leaves_the_server_unasked() -> None:
    server = unasked()
    with pytest.raises(Unavailable, match="password"):
        Talk(WRONG_PASSWORD, server=server).run()
    assert server.to_be_asked(False, lambda: 60.0)


# --- The user's permissions ---

ASKED = (b"EVAL", scripts.load("permitted").text, len(CALL.keys), *CALL.keys, *CALL.script.commands)
CALLED = (*HEADS["EVALSHA"], *REST)
DENIED = Failed(exceptions.NoPermissionError("this user has no permissions to run the 'eval' command"), sent=True)


def test_before_its_first_call_a_script_is_asked_about_once() -> None:
    server = stranger()
    talk = Talk([], b"OK", server=server)
    talk.run()
    assert talk.sent == [ASKED, CALLED]
    again = Talk(b"OK", server=server)
    again.run()
    assert again.sent == [CALLED]


def test_each_script_is_asked_about() -> None:
    server = stranger()
    Talk([], b"OK", server=server).run()
    other = store.queues.registry("ns:1:queues")
    step = next(converse(other, server, 1.0, lambda: 0.0))
    assert isinstance(step, Command)
    assert step.parts[0] == b"EVAL"
    assert step.parts[-len(other.script.commands) :] == other.script.commands


def test_the_server_is_asked_what_it_is_before_what_it_permits() -> None:
    talk = Talk(b"", [], b"OK", server=Server("host:6379"))
    talk.run()
    assert talk.sent == [(b"INFO",), ASKED, CALLED]


@pytest.mark.parametrize(
    ("refused", "told"),
    [([b"HDEL"], "HDEL"), ([b"HDEL", b"TIME"], "HDEL and TIME"), ([b"HDEL", b"TIME", b"XADD"], "HDEL, TIME and XADD")],
)
def test_a_call_whose_commands_are_not_all_permitted_is_not_sent(refused: list[bytes], told: str) -> None:
    server = stranger()
    talk = Talk(refused, b"OK", server=server)
    with pytest.raises(Unavailable) as raised:
        talk.run()
    assert type(raised.value) is Unavailable
    assert raised.value.__cause__ is None
    assert str(raised.value) == (
        f"Redis at host:6379 refused: this user may not run {told}. "
        "Give it the commands redisq needs: `redisq guide production` shows them."
    )
    assert (talk.sent, talk.pauses) == ([ASKED], [])
    mended = Talk([], b"OK", server=server)
    mended.run()
    assert mended.sent == [ASKED, CALLED]


@pytest.mark.parametrize("failed", [LOST, REFUSED, LATE, LOADING, BUSY])
def test_the_question_is_repeated_until_it_is_answered(failed: Failed) -> None:
    talk = Talk(failed, failed, [], b"OK", server=stranger())
    talk.run()
    assert talk.sent == [ASKED, ASKED, ASKED, CALLED]


@pytest.mark.parametrize("failed", [LOST, REFUSED, LATE, LOADING, BUSY])
def test_a_call_that_was_only_asked_about_never_ran(failed: Failed) -> None:
    with pytest.raises(Unavailable) as raised:
        Talk(failed, server=stranger(), deadline=1).run()
    assert type(raised.value) is Unavailable


@pytest.mark.parametrize("failed", [DENIED, UNKNOWN, WRONG_TYPE])
def test_a_question_that_is_refused_leaves_it_to_the_call_and_is_asked_again(failed: Failed) -> None:
    server = stranger()
    talk = Talk(failed, b"OK", server=server)
    talk.run()
    assert talk.sent == [ASKED, CALLED]
    again = Talk([], b"OK", server=server)
    again.run()
    assert again.sent == [ASKED, CALLED]


def test_a_refusal_after_a_lost_reply_leaves_the_call_in_doubt() -> None:
    """The first question was refused and the call sent; the second one tells that this user may not go on."""
    with pytest.raises(Indeterminate, match="may not run HDEL"):
        Talk(DENIED, LOST, [b"HDEL"], server=stranger()).run()
