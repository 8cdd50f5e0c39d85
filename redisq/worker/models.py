"""Handlers whose requests and results are pydantic models."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from redisq import codec
from redisq.errors import InvalidMessage
from redisq.model import MAX_BYTES_CEILING
from redisq.worker.delivery import Delivery
from redisq.worker.runners import HandlerFunction, is_async
from redisq.worker.verdicts import Reject

_SHOWN = 20  # errors of one request
#: What pydantic says of these quotes the request.
_TEXTS = {"union_tag_invalid": "Its tag is none of those expected"}


class ValidationError(Reject):
    """The request does not fit the handler's model."""


def adapted(function: Callable[..., Any]) -> HandlerFunction:
    """Give a handler that takes a delivery, for one that takes a model: alone, or after the delivery.

    Raises:
        TypeError: it takes two arguments, and the second is not annotated with a model that can be found.
    """
    taken = _taken(function)
    if not taken:
        return function
    model, alone = _model_of(taken[-1], function), len(taken) == 1
    if model is None:
        if alone:
            return function
        raise TypeError("a handler takes the delivery, a pydantic model, or both: annotate the second with a model")

    def arguments(delivery: Delivery) -> tuple[Any, ...]:
        request = _validated(model, delivery.request)
        return (request,) if alone else (delivery, request)

    async def handle_async(delivery: Delivery) -> Any:
        return await function(*arguments(delivery))

    def handle(delivery: Delivery) -> Any:
        return function(*arguments(delivery))

    return handle_async if is_async(function) else handle


def _taken(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Give the arguments a handler wants: one, the delivery, unless it has no default for a second."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except Exception:  # a callable that does not say, or annotations that cannot be evaluated
        return []
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return [one for number, one in enumerate(positional[:2]) if number == 0 or one.default is one.empty]


def _model_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> type[BaseModel] | None:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        inner = inspect.unwrap(function)
        while isinstance(inner, functools.partial):
            inner = inner.func
        inner = getattr(inner, "__func__", inner) if inspect.isroutine(inner) else type(inner).__call__
        try:
            names = inspect.getclosurevars(inner).nonlocals
            annotation = eval(annotation, getattr(inner, "__globals__", {}), dict(names))
        except Exception:  # a name that only type checkers see
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _validated(model: type[BaseModel], request: Any) -> BaseModel:
    try:
        return model.model_validate(request)
    except PydanticError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        texts = [f"{_path(one['loc'])}: {_TEXTS.get(one['type'], one['msg'])}" for one in problems[:_SHOWN]]
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise ValidationError(f"The request does not fit {model.__name__}: {'; '.join(texts)}{more}")


def _path(steps: tuple[int | str, ...]) -> str:
    place: codec.Place = None
    for step in steps:
        place = place, step
    return codec.path_of(place)


def encode_result(result: Any) -> bytes:
    """Encode what a handler returned; a model as the JSON that it makes of itself.

    Raises: InvalidMessage, MessageTooLarge.
    """
    if isinstance(result, BaseModel):
        try:
            result = result.model_dump(mode="json")
        except Exception as error:  # a serializer of the user's own
            raise InvalidMessage(f"The result could not be made JSON: {type(error).__name__}.") from None
    return codec.encode(result, MAX_BYTES_CEILING)
