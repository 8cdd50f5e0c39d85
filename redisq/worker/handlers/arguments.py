"""Handlers whose argument is the request as a type of theirs: whatever pydantic's `TypeAdapter` takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError

from redisq.body import codec
from redisq.worker.handlers import shapes
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.error_text import text_of, type_name
from redisq.worker.handlers.runners import HandlerFunction
from redisq.worker.handlers.verdicts import Reject

_SHOWN = 20  # errors of one request
_WHY = 300  # characters of what pydantic says of a type
#: What pydantic says of these quotes the request.
_TEXTS = {"union_tag_invalid": "Its tag is none of those expected"}
_WANTED = "a handler takes the delivery, the request as a type that pydantic can validate, or both"
#: A model writes its fields by their names unless it is told otherwise, and others write to it by its aliases.
#: From pydantic 2.11 on both are read; before, what the model says.
_BY_BOTH = {"by_alias": True, "by_name": True}
_NAMES: dict[str, Any] = _BY_BOTH if "by_name" in inspect.signature(TypeAdapter.validate_json).parameters else {}
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False)


class ValidationError(Reject):
    """The request does not fit the type that the handler takes."""


def adapted(function: Callable[..., Any]) -> HandlerFunction:
    """Return a handler that takes a delivery, for one that takes the request as a type: alone, or after the delivery.

    Raises:
        InvalidHandler: it can be no handler.
    """
    with shapes.looking_at(function):
        shapes.check_callable(function, "a handler")
        wanted, alone = _wanted_by(function)
        is_async = shapes.is_async(function)
    if wanted is None:
        return function

    def arguments(delivery: Delivery) -> tuple[Any, ...]:
        request = wanted.of(delivery.request)
        return (request,) if alone else (delivery, request)

    async def handle_async(delivery: Delivery) -> Any:
        return await function(*arguments(delivery))

    def handle(delivery: Delivery) -> Any:
        return function(*arguments(delivery))

    return handle_async if is_async else handle


class _Wanted:
    """The type that a handler wants its requests to be of."""

    def __init__(self, parameter: inspect.Parameter, annotation: Any, function: Callable[..., Any]) -> None:
        self._name = shapes.annotated(annotation)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        except Exception as error:  # pydantic does not know the class, or code of the user's raised it
            why = text_of(error, _WHY).partition("\n")[0] or type_name(error)
            problem = f"its argument {parameter.name} is annotated with {self._name}, and {_WANTED}."
            raise shapes.refusal(function, f"{problem} pydantic says: {why}") from None
        self._as_json = _reads_json_otherwise(self._adapter.core_schema)

    def of(self, request: Any) -> Any:
        """Return a request as this type.

        Raises:
            ValidationError: it does not fit.
        """
        try:
            return self._validated(request)
        except PydanticError as error:
            told = _told(error)
        raise ValidationError(f"The request does not fit {self._name}: {told}")

    def _validated(self, request: Any) -> Any:
        text = _json_of(request) if self._as_json else None
        if text is None:
            return self._adapter.validate_python(request, **_NAMES)
        return self._adapter.validate_json(text, **_NAMES)


def _json_of(request: Any) -> str | None:
    """Write a request as JSON, which takes longer than to validate it; None when it has bytes or a datetime."""
    try:
        return _ENCODER.encode(request)
    except TypeError:
        return None


def _reads_json_otherwise(schema: object) -> bool:
    """Return whether a type reads JSON in another way than what `json` makes of it, as all that is strict does."""
    if not isinstance(schema, dict):  # its models are not complete yet
        return True
    waiting: list[Any] = [schema]
    seen: set[int] = set()  # a default of the user's may hold itself
    while waiting:
        part = waiting.pop()
        if id(part) in seen or not isinstance(part, (dict, list)):
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            if part.get("strict") is True or part.get("type") == "json-or-python" or "val_json_bytes" in part:
                return True
            part = part.values()
        waiting += part
    return False


def _wanted_by(function: Callable[..., Any]) -> tuple[_Wanted | None, bool]:
    """Return the type that a handler wants, and whether it takes that alone; None: it takes the delivery alone."""
    parameters = shapes.parameters_of(function, "a handler")
    if parameters is None:
        return None, True
    first, required = shapes.first_of(parameters), shapes.required_of(parameters)
    if first is None:
        raise shapes.refusal(function, f"it takes no argument, and {_WANTED}.")
    if len(required) > 2:
        raise shapes.refusal(function, f"it takes {len(required)} arguments, and {_WANTED}.")
    if len(required) < 2:
        return _wanted_alone(first, function), True
    delivery, request = required
    annotation = shapes.annotation_of(delivery, function, known=False)
    if not shapes.takes(annotation, Delivery):  # by its place it can be nothing else
        problem = f"its argument {delivery.name} is annotated with {shapes.annotated(annotation)}, and {_WANTED}."
        raise shapes.refusal(function, problem)
    if request.annotation is request.empty:
        problem = f"{_WANTED}: annotate the second argument, {request.name}, with a type."
        raise shapes.refusal(function, problem)
    return _Wanted(request, shapes.annotation_of(request, function), function), False


def _wanted_alone(parameter: inspect.Parameter, function: Callable[..., Any]) -> _Wanted | None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return None
    annotation = shapes.annotation_of(parameter, function)
    return None if shapes.takes(annotation, Delivery) else _Wanted(parameter, annotation, function)


def _told(error: PydanticError) -> str:
    try:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    except BaseException as broken:  # the text of what a validator of the user's raised
        return f"what a validator raised cannot be read ({type_name(broken)})"
    texts = [f"{_path(one['loc'])}: {_TEXTS.get(one['type'], one['msg'])}" for one in problems[:_SHOWN]]
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return f"{'; '.join(texts)}{more}"


def _path(steps: tuple[int | str, ...]) -> str:
    place: codec.Place = None
    for step in steps:
        place = place, step
    return codec.path_of(place)
