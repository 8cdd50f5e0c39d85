"""Queues as a whole: what they hold, how they are defined, their dead letters; pause, resume, purge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.responses import Response

from redisq import async_client
from redisq.async_client import AsyncRedisQ
from redisq.errors import Forbidden
from redisq.gateway.operation import Admitted, Answer, Operation
from redisq.gateway.requests.bodies import JSON, Body, parse_json, parsed, whole
from redisq.gateway.requests.errors import BadRequest, reply, spelled
from redisq.gateway.requests.queries import number, seconds, word
from redisq.model.bounds import check_definition
from redisq.model.queue import Definition
from redisq.operations import dead_letters, queues
from redisq.operations.dead_letters import REASONS, Selection
from redisq.settings import Settings

_DOCUMENT = 1024 * 1024  # bytes of a definition
_LETTERS, _MOST_LETTERS = 100, 1000
_ROOM = 16 * 1024 * 1024  # bytes of bodies in one list
_BY_HAND = "Who runs the gateway sets it: `redisq queues define`."
#: What a token with `admin` does not change, or not beyond the gateway's settings, and why.
_FOR_THE_OPERATOR = {
    "security": f"security is not set over HTTP, or whoever holds a token for a while could open a queue. {_BY_HAND}",
    "max_bytes": f"max_bytes is at most the gateway's REDISQ_MAX_BYTES over HTTP. {_BY_HAND}",
    "max_length": f"max_length is at most the gateway's REDISQ_MAX_LENGTH over HTTP. {_BY_HAND}",
}


async def stats(request: Admitted) -> Response:
    """Count what a queue holds."""
    queue, may = request.queue, request.may_know
    found = await async_client.run(request.mq, lambda known: queues.stats_of_existing(known, queue, None, may))
    return reply(found.to_dict())


async def names(request: Admitted) -> Response:
    """List the names of all queues."""
    return reply({"queues": await request.mq.queues()})


async def config(request: Admitted) -> Response:
    """Return a queue's own settings."""
    mq = await _existing(request)
    return reply(asdict(await mq.define(request.queue)))


async def replace(request: Admitted) -> Response:
    """Return a queue these settings and no others."""
    return await _define(request, dict.fromkeys(Definition.__dataclass_fields__.keys() - {"security"}))


async def change(request: Admitted) -> Response:
    """Change some settings of a queue."""
    return await _define(request, {})


async def _define(request: Admitted, rest: Mapping[str, Any]) -> Response:
    """Set what the body says, and the rest as given."""
    request.type_of_body()
    changes = await parsed(await Body(request, _DOCUMENT).whole(), parse_json)
    if not isinstance(changes, dict):
        raise BadRequest("A definition is an object of settings and their values.")
    read = {name: value if name in Definition.SECONDS else whole(value) for name, value in changes.items()}
    await _check_reach(request, read)
    return await _defined(request, request.mq, {**rest, **read})


async def _check_reach(request: Admitted, changes: dict[str, Any]) -> None:
    """Refuse what reaches further than to administer a queue, and take `security` out, which stays as it is.

    What is there may be said again: so a definition that was read can be sent back.

    Raises:
        Forbidden: that is for who runs the gateway.
    """
    check_definition(changes)
    settings = request.gateway.context.settings
    reaching = {name: value for name, value in changes.items() if _reaches_far(settings, name, value)}
    own = await request.mq.define(request.queue) if reaching else None
    for name, value in reaching.items():
        if value != getattr(own, name):
            raise Forbidden(_FOR_THE_OPERATOR[name])
    changes.pop("security", None)


def _reaches_far(settings: Settings, name: str, value: Any) -> bool:
    """Return whether a setting would open the queue to others, or take more from what all queues share than the
    gateway's own settings let it."""
    if name not in _FOR_THE_OPERATOR or name == "security":
        return name == "security"
    most: int = getattr(settings, name)
    return value is not None and most > 0 and not 0 < value <= most


async def _defined(request: Admitted, mq: AsyncRedisQ, changes: Mapping[str, Any]) -> Response:
    try:
        return reply(asdict(await mq.define(request.queue, **changes)))
    finally:
        request.gateway.guard.definitions.forget(request.queue)


async def dead(request: Admitted) -> Response:
    """List dead letters, oldest first."""
    chosen, queue = dict(request.query), request.queue
    limit = chosen.pop("limit", _LETTERS)
    selection = Selection(**_checked(chosen))
    mq = await _existing(request)
    letters = await async_client.run(mq, lambda known: dead_letters.find(known, queue, None, selection, limit, _ROOM))
    return reply({"messages": [letter.to_dict() for letter in letters]})


async def redrive(request: Admitted) -> Response:
    """Queue dead letters anew."""
    chosen = _checked(request.query)
    mq = await _existing(request)
    return reply({"redriven": await mq.redrive(request.queue, **chosen)})


def _checked(chosen: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return which dead letters are meant, if they can be."""
    try:
        Selection(**chosen)
    except ValueError as error:
        raise BadRequest(spelled(str(error))) from None
    return chosen


async def purge(request: Admitted) -> Response:
    """Remove all waiting messages."""
    mq = await _existing(request)
    return reply({"purged": await mq.purge(request.queue)})


async def pause(request: Admitted) -> Response:
    """Let workers claim nothing."""
    return await _defined(request, await _existing(request), {"paused": True})


async def resume(request: Admitted) -> Response:
    """Let workers claim again."""
    return await _defined(request, await _existing(request), {"paused": False})


async def _existing(request: Admitted) -> AsyncRedisQ:
    """Return a client in the name of who was admitted.

    Raises:
        QueueNotFound: there is no such queue.
    """
    mq, op, may = request.mq, request.operation.op or "", request.may_know
    await async_client.run(mq, lambda known: queues.check_exists(known, request.queue, op, None, may))
    return mq


_CHOICE = (
    word("reason", "Only those that died of this.", REASONS),
    seconds("min_age", "Only those that died at least so many seconds ago."),
    seconds("max_age", "Only those that died at most so many seconds ago."),
)
_DEFINITION = [Answer(200, "Its own settings.", "Definition")]
_SETTINGS = {JSON: ("Settings", {"lease": 60, "max_attempts": 3})}
_DEFINING = ("invalid_definition", "queue_full")
_UNKNOWN = "queue_not_found"

OPERATIONS = (
    Operation(
        "get", "/{queue}", "stats", stats, "getStats", "Count what a queue holds", "",
        [Answer(200, "What it holds, and its totals.", "Stats")], [_UNKNOWN],
    ),
    Operation(
        "get", "/_queues", "stats", names, "listQueues", "List all queues", "The token must allow it on all of them.",
        [Answer(200, "Their names.", "Queues", example={"queues": ["mail", "orders"]})],
    ),
    Operation(
        "get", "/{queue}/_config", "stats", config, "getDefinition", "Show a queue's settings", "",
        _DEFINITION, [_UNKNOWN],
    ),
    Operation(
        "put", "/{queue}/_config", "admin", replace, "replaceDefinition", "Replace a queue's settings",
        "What is not named goes back to the default.", _DEFINITION, _DEFINING, body=_SETTINGS,
    ),
    Operation(
        "patch", "/{queue}/_config", "admin", change, "changeDefinition", "Change some of a queue's settings",
        "What is not named stays.", _DEFINITION, _DEFINING, body=_SETTINGS,
    ),
    Operation(
        "get", "/{queue}/_dead", "admin", dead, "listDeadLetters", "List dead letters", "Oldest first.",
        [Answer(200, "The messages.", "Messages")], [_UNKNOWN],
        [number("limit", "So many at most.", 1, _MOST_LETTERS, _LETTERS), *_CHOICE],
    ),
    Operation(
        "post", "/{queue}/_redrive", "admin", redrive, "redrive", "Queue dead letters anew", "",
        [Answer(200, "How many.", "Redriven", example={"redriven": 3})], [_UNKNOWN, "queue_full"], _CHOICE,
    ),
    Operation(
        "post", "/{queue}/_purge", "admin", purge, "purge", "Remove all waiting messages", "",
        [Answer(200, "How many.", "Purged", example={"purged": 3})], [_UNKNOWN],
    ),
    Operation(
        "post", "/{queue}/_pause", "admin", pause, "pause", "Pause a queue",
        "Workers claim nothing; queueing goes on.", _DEFINITION, [_UNKNOWN, "queue_full"],
    ),
    Operation(
        "post", "/{queue}/_resume", "admin", resume, "resume", "Resume a queue", "",
        _DEFINITION, [_UNKNOWN, "queue_full"],
    ),
)  # fmt: skip
