"""Messages: queue, look up, cancel and delete one; queue a stream of them."""

from __future__ import annotations

import re
from functools import partial
from typing import cast

from starlette.responses import Response

from redisq import async_client
from redisq.gateway.access.definitions import taking
from redisq.gateway.access.guard import address_of, sees_tracebacks
from redisq.gateway.document.schemas import ID, MESSAGE
from redisq.gateway.operation import Admitted, Answer, Operation, header_field, links
from redisq.gateway.requests.bodies import JSON, MSGPACK, NDJSON, header, parse, parsed
from redisq.gateway.requests.errors import BadRequest, reply
from redisq.gateway.requests.fields import under, values
from redisq.gateway.requests.queries import moment, number, preferred_wait, query, seconds, word
from redisq.gateway.routes.stream import Lines
from redisq.gateway.work.waits import LONGEST
from redisq.operations import queueing
from redisq.operations.options import HIGHEST, Options, headers_of, of_line

_HEADER = b"redisq-header-"
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


async def post(request: Admitted) -> Response:
    """Queue a message, or a stream of them."""
    kind, key = request.type_of_body(), header(request.scope, b"idempotency-key")
    if kind == NDJSON:
        as_item = query(request, _LINES).get("lines") == "items"
        if key is not None:
            raise BadRequest("A stream takes no Idempotency-Key: which message would it belong to?")
        made = partial(of_line, headers=headers_of(_headers(request)) or {}, as_item=as_item)
        return Lines(request, await request.limit_of(kind), made)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise BadRequest("Idempotency-Key takes printable ASCII.")
    id, _ = await _queue(request, kind, {"idempotency_key": key})
    return _queued(request, id, 201)


async def put(request: Admitted) -> Response:
    """Queue a message under an id of the client's."""
    id, new = await _queue(request, request.type_of_body(), {"id": request.id})
    return _queued(request, id, 201 if new else 200)


async def _queue(request: Admitted, kind: str, named: Options) -> tuple[str, bool]:
    """Queue a message, and give its id and whether it is new."""
    given = {**named, **request.read_query(), "headers": _headers(request)}
    if "lines" in given:
        raise BadRequest(f"lines goes with {NDJSON}.")
    options = cast(Options, given)
    message = await parsed(await request.read_message(kind), partial(parse, kind))
    with taking(request.queue):
        return await async_client.run(
            request.mq, lambda caller: queueing.queue_message(caller, request.queue, message, None, options)
        )


def _headers(request: Admitted) -> dict[str, str]:
    """Return the headers of a message that a request queues: the trace that the request belongs to, and what it names.

    A malformed `traceparent` counts as none, as its standard wants: whoever passed the request on may have added it.
    """
    found: dict[str, str] = {}
    trace = values(request.scope, b"traceparent")
    if len(trace) == 1 and _TRACE.fullmatch(trace[0]):
        found["traceparent"] = trace[0].decode("ascii")
    for name, texts in under(request.scope, _HEADER).items():
        if len(texts) > 1:
            raise BadRequest(f"There are two headers {(_HEADER + name).decode('latin-1')}.")
        if not texts[0].isascii():
            raise BadRequest("Redisq-Header fields take printable ASCII.")
        found[name.decode("latin-1")] = texts[0].decode("ascii")
    return found


def _queued(request: Admitted, id: str, status: int) -> Response:
    location = f"{request.gateway.context.options.root_path}/{request.queue}/{id}"
    return reply({"id": id}, status, {"Location": location})


async def get(request: Admitted) -> Response:
    """Look a message up, at once or when it has finished."""
    gateway, queue, id, mq = request.gateway, request.queue, request.id, request.mq
    wait, headers = _wait(request)
    message = None
    if wait:
        with gateway.guard.limits.waiting(request.grant.app, address_of(request.scope)):
            message = await gateway.context.waits.run(request.receive, mq.get_message(queue, id, wait=wait))
        await gateway.guard.again(request, "get", queue)
    if message is None:
        message = await mq.get_message(queue, id)
    told = message.to_dict()
    if message.error and not sees_tracebacks(request.grant, queue):
        told["error"].pop("traceback", None)
    return reply(told, headers=headers)


def _wait(request: Admitted) -> tuple[float, dict[str, str]]:
    """Return the seconds to wait, by the query or else by a Prefer header, and the answer's headers that say so."""
    wait: float | None = request.query.get("wait")
    if wait is not None:
        if wait > LONGEST:
            raise BadRequest(f"wait takes at most {LONGEST:.0f} seconds. Ask again for more.")
        return wait, {}
    wait = preferred_wait(request, LONGEST)
    if wait is not None:
        return wait, {"Preference-Applied": f"wait={wait:.0f}"}
    return 0.0, {}


async def delete(request: Admitted) -> Response:
    """Delete a message."""
    await request.mq.delete_message(request.queue, request.id)
    return Response(status_code=204)


async def cancel(request: Admitted) -> Response:
    """Cancel a message."""
    cancelled = await request.mq.cancel_message(request.queue, request.id)
    return reply({"cancelled": cancelled}, 202 if cancelled is None else 200)


PREFER = header_field(
    "Prefer", "`wait=S` does the same, with 30 seconds at most; the answer tells in Preference-Applied."
)
_KEY = header_field(
    "Idempotency-Key",
    "Makes the id: the same key with the same body is one message, however often it is sent.",
    pattern="^[!-~]([ -~]{0,510}[!-~])?$",
)
_TRACE_FIELD = header_field("traceparent", "The trace that it belongs to (W3C): one of the message's headers.")
_WITH_HEADERS = " A field `Redisq-Header-<name>`, of a-z, 0-9 and -, is a header of the message: text beside its body."
_OPTIONS = (
    seconds("delay", "Seconds until a worker may get it; not with `at`."),
    moment("at", "When a worker may get it, a time with its zone; not with `delay`."),
    seconds("expires_in", "Seconds after which no worker gets it any more.", above_zero=True),
    number("priority", "The larger, the earlier among those that are ready; 0 is usual.", 0, HIGHEST, 0),
)
_LINES = word("lines", "Of a stream: what a line is, a message, as is usual, or an item.", ["messages", "items"])
_FAILS = ("schema_violation", "message_conflict", "queue_full")
_QUEUED = {"id": ID}
_REFUSED = {"error": {"code": "invalid_message", "message": "The body is not JSON (Expecting value, column 1)."}}
_IS_QUEUED = Answer(
    201,
    "It is queued.",
    "Queued",
    headers=["Location"],
    example=_QUEUED,
    links={
        **links("getMessage", "deleteMessage"),
        "claim": {"operationId": "claim", "parameters": {"queue": "$request.path.queue"}},
    },
)

OPERATIONS = (
    Operation(
        "post", "/{queue}", "queue", post, "queueMessage", "Queue a message",
        "The body is the message. As `application/x-ndjson` it is a stream of messages, one a line, and the answer has "
        "a line for each of them, in order, written while the stream is still being read: read it while you send. "
        "Blank lines are skipped, and have no answer. A stream takes neither options nor an idempotency key. With "
        "`lines=items` each line is an object of a `request` and options of its own: `headers`, `id`, "
        "`idempotency_key`, `delay`, `at`, `expires_in`, `priority`. It ends early when the queue cannot be reached."
        + _WITH_HEADERS,
        [_IS_QUEUED, Answer(200, "A line for each line of the stream.", "Lines", NDJSON, example=[_QUEUED, _REFUSED])],
        _FAILS, [*_OPTIONS, _LINES], [_KEY, _TRACE_FIELD],
        {JSON: ("Value", MESSAGE), MSGPACK: ("Bytes", None), NDJSON: ("Values", [{"sku": "A-1"}, "next"])},
        query_later=True,
    ),
    Operation(
        "put", "/{queue}/{id}", "queue", put, "putMessage", "Queue a message under an id of your own",
        "The same again changes nothing, so a request whose answer was lost is sent again." + _WITH_HEADERS,
        [
            _IS_QUEUED,
            Answer(200, "It was queued before, with the same body.", "Queued", headers=["Location"], example=_QUEUED),
        ],
        _FAILS, _OPTIONS, [_TRACE_FIELD], body={JSON: ("Value", MESSAGE), MSGPACK: ("Bytes", None)}, query_later=True,
    ),
    Operation(
        "get", "/{queue}/{id}", "get", get, "getMessage", "Look a message up",
        "With `wait`, when it has finished, or else after that time as it is then.",
        [Answer(200, "The message.", "Message", headers=["Preference-Applied"])],
        ["message_not_found", "invalid_message"],
        [seconds("wait", "Seconds to wait until it has finished.", 30)], [PREFER],
    ),
    Operation(
        "delete", "/{queue}/{id}", "delete", delete, "deleteMessage", "Delete a message", "Whatever its status.",
        [Answer(204, "It is deleted.")], ["message_not_found"],
    ),
    Operation(
        "post", "/{queue}/{id}/_cancel", "delete", cancel, "cancelMessage", "Cancel a message",
        "One that waits ends as ERROR, reason `cancelled`, at once. The worker of one in progress is told, and what it "
        "does then decides: a result counts, all else ends it as cancelled.",
        [
            Answer(200, "True: it has ended as cancelled. False: it had finished before.", "Cancelled",
                   example={"cancelled": True}),
            Answer(202, "Null: its worker is told.", "Cancelled", example={"cancelled": None}),
        ],
        ["message_not_found"],
    ),
)  # fmt: skip
