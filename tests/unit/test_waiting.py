"""How a waiting look-up looks: often at first, and later only when something has ended."""

from __future__ import annotations

from typing import Any

import pytest

from redisq import Settings, waiting
from redisq.calls import Call
from redisq.errors import MessageNotFound
from redisq.model import Message, Status
from redisq.operations import Flow, Operations, Pause

ID = "00000000-0000-4000-8000-000000000001"
PENDING, DONE = (Message(ID, "orders", status, None) for status in (Status.PENDING, Status.COMPLETE))


@pytest.fixture
def operations() -> Operations:
    return Operations(Settings(auth="none"))


class Driver:
    """Drives a flow without a server; `pauses` are those it made since the last call."""

    def __init__(self, flow: Flow[Message]) -> None:
        self._flow = flow
        self.pauses: list[float] = []

    def next_call(self, answer: Any = None) -> str:
        """Answer the last call; give the next one's script."""
        self.pauses = []
        step = self._flow.send(answer)
        while isinstance(step, Pause):
            self.pauses.append(step.seconds)
            step = self._flow.send(None)
        assert isinstance(step, Call)
        return step.script.name

    def until_together(self) -> None:
        """Let it look by itself until it asks with others, and has its first answer."""
        script = self.next_call()
        while script == "get":
            script = self.next_call([PENDING])
        assert script == "ended"
        assert self.next_call(b"0 0 0") == "get"  # something may have ended before

    def finish(self, answer: Any) -> Message:
        with pytest.raises(StopIteration) as done:
            self._flow.send(answer)
        message: Message = done.value.value
        return message


def test_a_look_up_that_does_not_wait_is_one_call(operations: Operations) -> None:
    driver = Driver(waiting.get_message(operations, "orders", ID, None, None))
    assert driver.next_call() == "get"
    assert driver.finish([PENDING]) is PENDING


def test_it_looks_again_only_when_something_has_ended(operations: Operations) -> None:
    driver = Driver(waiting.get_message(operations, "orders", ID, None, 3600))
    driver.until_together()
    assert driver.next_call([PENDING]) == "ended"
    for _ in range(5):
        assert driver.next_call(b"0 0 0") == "ended"
        assert driver.pauses == [0.25]
    assert driver.next_call(b"1 0 0") == "get"
    assert driver.pauses == []
    assert driver.finish([DONE]) is DONE


def test_it_looks_by_itself_where_nothing_can_be_told(operations: Operations) -> None:
    driver = Driver(waiting.get_message(operations, "orders", ID, None, 3600))
    driver.until_together()
    for _ in range(3):
        assert driver.next_call([PENDING]) == "ended"
        assert driver.next_call(None) == "get"
    with pytest.raises(MessageNotFound):
        driver.next_call([MessageNotFound()])


def test_of_many_queues_each_is_asked_about_more_rarely(operations: Operations) -> None:
    drivers = [Driver(waiting.get_message(operations, f"q{n}", ID, None, 3600)) for n in range(12)]
    for driver in drivers:
        assert driver.next_call() == "get"
    first = Driver(waiting.get_message(operations, "orders", ID, None, 3600))
    first.until_together()
    assert first.next_call([PENDING]) == "ended"
    assert first.next_call(b"0 0 0") == "ended"
    assert first.pauses == [pytest.approx(0.25 * 13 / 6)]
    for driver in drivers:
        driver.finish([DONE])
    first.next_call(b"0 0 0")
    first.next_call(b"0 0 0")
    assert first.pauses == [0.25]
