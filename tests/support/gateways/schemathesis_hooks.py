"""What Schemathesis has to know of the gateway beyond its document; `test_schemathesis` has it loaded.

No check is switched off. Where the document cannot say a rule, `EXCEPTIONS` names it, with its reason, and lets pass
just the answers that follow from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, DeserializationContext, HookContext, Response, SerializationContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData

from redisq.operations.options import LONGEST

NDJSON = "application/x-ndjson"
#: Caller that change what a queue takes. Theirs are other queues, or all others would be refused for that.
_DEFINING = ("/_config", "/_pause", "/_resume")
_OWN = "defined-"
_SETTLING = ("/_complete", "/_fail", "/_renew", "/_release")
_held: list[tuple[str, str, str]] = []  # queue, id and receipt of deliveries
_filled: list[Any] = []  # queues that got a message
_removed: set[tuple[Any, Any]] = set()
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RECEIPT = re.compile(r"[1-9][0-9]{0,14}\.[A-Za-z0-9_-]{12}")
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@schemathesis.serializer(NDJSON)
def write_lines(_context: SerializationContext, value: Any) -> bytes:
    """Write a stream: a document a line. What is no list is none, and is sent as it is."""
    if isinstance(value, str):  # an example, which is written already
        return value.encode()
    return "".join(f"{json.dumps(line)}\n" for line in value).encode() if isinstance(value, list) else _dumped(value)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


@schemathesis.deserializer(NDJSON)
def read_lines(_context: DeserializationContext, response: Response) -> list[Any]:
    """Read the answer to a stream."""
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.deserializer("text/html")
def read_page(_context: DeserializationContext, response: Response) -> str:
    """Read a page."""
    return response.content.decode()


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """Change what could never succeed, for reasons that the document cannot say, into what may."""
    queue = case.path_parameters.get("queue")
    if isinstance(queue, str) and _QUEUE.fullmatch(queue):
        _place(case, queue.removeprefix(_OWN))
    if case.path.endswith(_SETTLING):
        _prove(case)
    if case.media_type == NDJSON:  # a stream takes no options
        case.query, case.headers = {}, {key: value for key, value in case.headers.items() if key != "Idempotency-Key"}
    elif _is_moment(case.query.get("at")) and _is_delay(case.query.get("delay")):  # one excludes the other
        case.query = {name: value for name, value in case.query.items() if name != "delay"}
    if case.media_type != NDJSON and case.query.get("lines") in ("messages", "items"):  # of a stream
        case.query = {name: value for name, value in case.query.items() if name != "lines"}


def _place(case: Case, queue: str) -> None:
    """Let operations that define queues have their own, the others never those, and claims one that has messages."""
    if case.path.endswith(_DEFINING):
        queue = (_OWN + queue)[:128]
    elif case.path.endswith("/_claim") and _filled and not _held:
        queue = _filled.pop()
    if queue != case.path_parameters["queue"]:
        case.path_parameters = {**case.path_parameters, "queue": queue}


def _prove(case: Case) -> None:
    """Give a receipt that holds in place of one that has the form: nobody can make one up."""
    body = case.body
    made_up = isinstance(body, dict) and isinstance(body.get("receipt"), str) and _RECEIPT.fullmatch(body["receipt"])
    if made_up and _held and _ID.fullmatch(str(case.path_parameters.get("id"))):
        queue, id, receipt = _held[-1]
        case.path_parameters = {"queue": queue, "id": id}
        case.body = {**body, "receipt": receipt}


@schemathesis.hook
def after_call(_context: HookContext, case: Case, response: Response) -> None:
    """Remember which messages were removed, where there are some, and which receipts hold."""
    queue, id, status = case.path_parameters.get("queue"), case.path_parameters.get("id"), response.status_code
    if case.path.endswith("/_claim") and status == 200:
        _held.extend((one["queue"], one["id"], one["receipt"]) for one in response.json()["deliveries"])
    elif case.path.endswith(_SETTLING) and status in (204, 404, 409, 413, 422):
        _held[:] = [one for one in _held if one[:2] != (queue, id)]
    elif case.path.endswith("/_purge") and status == 200:
        _removed.add((queue, None))
    elif status == 201:
        _filled.append(queue)
    elif response.request.method == "DELETE" and status == 204:
        _removed.add((queue, id))


@schemathesis.check
def each_line_is_answered(_context: CheckContext, response: Response, case: Case) -> None:
    """A stream's answer has a line for each of its lines: an id where that is a message, an error elsewhere."""
    if case.media_type != NDJSON or response.status_code != 200 or not isinstance(case.body, list):
        return
    answers = [json.loads(line) for line in response.content.splitlines()]
    assert len(answers) == len(case.body)
    for line, answer in zip(case.body, answers, strict=True):
        assert ("id" in answer) == _is_message(line), (line, answer)


def _is_message(value: Any) -> bool:
    """Tell whether a message can be this."""
    return not _holds_what_json_schema_cannot_refuse(value)


@schemathesis.check
class EachOperationSucceeds:
    """Each operation is done at least once: refusing everything would pass all other checks."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._done: set[str] = set()

    def after_response(self, context: CheckContext, response: Response, case: Case) -> None:
        """Note it."""
        self._asked.add(case.operation.label)
        if 200 <= response.status_code < 300 and response.request.method == case.operation.method.upper():
            self._done.add(case.operation.label)

    def after_run(self, _context: CheckContext) -> None:
        """Look whether one never was."""
        assert self._asked == self._done, sorted(self._asked - self._done)


# --- Exceptions ---


def _is_refused(failure: Failure, response: Response, code: str) -> bool:
    """Tell whether what fits the document was refused with this code."""
    refused = isinstance(failure, RejectedPositiveData) and response.status_code in (400, 422)
    return refused and response.json()["error"]["code"] == code


def a_time_beyond_a_year(failure: Failure, case: Case, response: Response) -> bool:
    """A time has bounds that move: no schema has."""
    at = case.query.get("at")
    far = _is_moment(at) and datetime.fromisoformat(at) > datetime.now(UTC) + timedelta(days=365)
    return far and _is_refused(failure, response, "invalid_message")


def an_id_that_was_removed(failure: Failure, case: Case, response: Response) -> bool:
    """What is removed is remembered for its deduplication window, in which the same key is that message yet."""
    queue, id = (case.path_parameters.get(name) for name in ("queue", "id"))
    return isinstance(failure, EnsureResourceAvailability) and not _removed.isdisjoint({(queue, id), (queue, None)})


def a_number_of_more_than_64_bits(failure: Failure, case: Case, response: Response) -> bool:
    """JSON Schema does not tell 10**30, which no message can hold, from 1e30, which each can."""
    return _holds_what_json_schema_cannot_refuse(case.body) and _is_refused(failure, response, "invalid_message")


def a_line_that_is_no_message(failure: Failure, case: Case, response: Response) -> bool:
    """The answer to a stream begins before the stream has ended: what is wrong with a line, its own answer says."""
    return isinstance(failure, AcceptedNegativeData) and case.media_type == NDJSON and response.status_code == 200


def a_schema_out_of_its_bounds(failure: Failure, case: Case, response: Response) -> bool:
    """What a good JSON Schema is, and that no check with it stalls, is more than the document can say."""
    given = isinstance(case.body, dict) and case.body.get("schema")
    return bool(given) and _is_refused(failure, response, "invalid_definition")


EXCEPTIONS: dict[Callable[[Failure, Case, Response], bool], tuple[str, ...]] = {
    a_time_beyond_a_year: ("queueMessage", "putMessage"),
    an_id_that_was_removed: ("getMessage", "deleteMessage"),
    a_number_of_more_than_64_bits: ("queueMessage", "putMessage", "complete", "renew"),
    a_line_that_is_no_message: ("queueMessage",),
    a_schema_out_of_its_bounds: ("replaceDefinition", "changeDefinition"),
}


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Drop what follows from a rule that the document cannot say."""
    name = case.operation.definition.raw["operationId"]
    return not any(name in operations and holds(failure, case, response) for holds, operations in EXCEPTIONS.items())


def _is_moment(at: Any) -> bool:
    try:
        return datetime.fromisoformat(at).tzinfo is not None
    except (ValueError, TypeError):
        return False


def _is_delay(delay: Any) -> bool:
    try:
        return not isinstance(delay, bool) and 0 <= float(delay) <= LONGEST
    except (ValueError, TypeError):
        return False


def _holds_what_json_schema_cannot_refuse(value: Any) -> bool:
    match value:
        case bool():
            return False
        case int():
            return not -(2**63) <= value < 2**63
        case list():
            return any(map(_holds_what_json_schema_cannot_refuse, value))
        case dict():
            return any(map(_holds_what_json_schema_cannot_refuse, value.values()))
    return False
