"""`converse`: what is sent, when it is sent again, what is raised. Driven by hand and a clock that only pauses move."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions

from redisq import calls, connection
from redisq.connection import Command, Failed, Pause, converse
from redisq.errors import Indeterminate, QueueFull, Unavailable
from redisq.keys import partition_keys

CALL = calls.leave(partition_keys("ns", "orders"), "w-1")
LOST = Failed(exceptions.ConnectionError("Connection closed by server."), sent=True)
REFUSED = Failed(exceptions.ConnectionError("Error 111 connecting to host:6379. Connection refused."), sent=False)
LATE = Failed(exceptions.TimeoutError("Timeout reading from socket"), sent=True)
LOADING = Failed(exceptions.BusyLoadingError("Redis is loading the dataset in memory"), sent=True)
NO_SCRIPT = Failed(exceptions.NoScriptError("No matching script. Please use EVAL."), sent=True)
FULL = Failed(exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), sent=True)
WRONG_TYPE = Failed(exceptions.ResponseError("WRONGTYPE Operation against a key"), sent=True)


class Talk:
    """A conversation with a server that answers as it is told, again and again with the last answer."""

    def __init__(self, *replies: Any, deadline: float = 10.0) -> None:
        self.replies = list(replies)
        self.now = 0.0
        self.sent: list[tuple[Any, ...]] = []
        self.pauses: list[float] = []
        self.conversation = converse(CALL, "host:6379", deadline, lambda: self.now)

    def run(self) -> Any:
        """Answer until the conversation ends; give its value or raise its error."""
        step = next(self.conversation)
        try:
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = next(self.conversation)
                else:
                    assert isinstance(step, Command)
                    self.sent.append(step.parts)
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    step = self.conversation.send(reply)
        except StopIteration as end:
            return end.value


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each pause be as long as it may."""
    monkeypatch.setattr(connection.random, "uniform", lambda low, high: high)


HEADS = {"EVALSHA": (b"EVALSHA", CALL.script.sha), "EVAL": (b"EVAL", CALL.script.text)}
REST = (3, *CALL.keys, "w-1")


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
    call = calls.register("ns:1:queues", "orders", 1)
    conversation = converse(call, "host:6379", 1.0, lambda: 0.0)
    next(conversation)
    with pytest.raises(StopIteration) as end:
        conversation.send(8)
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


@pytest.mark.parametrize("failed", [LOST, REFUSED, LATE, LOADING])
def test_what_passes_is_tried_again(failed: Failed) -> None:
    talk = Talk(failed, failed, b"OK")
    talk.run()
    assert heads(talk) == ["EVALSHA"] * 3
    assert len(talk.pauses) == 2


def test_pauses_double_up_to_a_second(longest: None) -> None:
    talk = Talk(REFUSED, deadline=10)
    with pytest.raises(Unavailable):
        talk.run()
    assert talk.pauses[:7] == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0])
    assert set(talk.pauses[6:-1]) == {1.0}
    assert sum(talk.pauses) == pytest.approx(10)  # the last one is cut at the deadline


def test_pauses_have_full_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(connection.random, "uniform", lambda low, high: asked.append((low, high)) or 0.0)
    talk = Talk(REFUSED, REFUSED, REFUSED, b"OK")
    talk.run()
    assert talk.pauses == [0, 0, 0]
    assert asked == [(0, 0.02), (0, 0.04), (0, 0.08)]


@pytest.mark.parametrize("deadline", [0.0, 0.05, 1.0, 10.0])
def test_the_deadline_bounds_the_retries(longest: None, deadline: float) -> None:
    talk = Talk(REFUSED, deadline=deadline)
    with pytest.raises(Unavailable):
        talk.run()
    assert talk.now <= deadline + 0.5
    assert len(talk.sent) == len(talk.pauses) + 1
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


def test_a_full_server_tells_that_nothing_happened_even_after_a_lost_reply() -> None:
    """Had the lost call queued the message, its repeat would have succeeded."""
    with pytest.raises(QueueFull):
        Talk(LOST, FULL).run()
