"""Handlers whose requests are pydantic models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from redisq.body import codec
from redisq.worker.handlers import shapes
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.error_text import type_name
from redisq.worker.handlers.runners import HandlerFunction
from redisq.worker.handlers.verdicts import Reject

_SHOWN = 20  # errors of one request
#: What pydantic says of these quotes the request.
_TEXTS = {"union_tag_invalid": "Its tag is none of those expected"}
_WANTED = "a handler takes the delivery, a pydantic model, or both"


class ValidationError(Reject):
    """The request does not fit the handler's model."""


def adapted(function: Callable[..., Any]) -> HandlerFunction:
    """Return a handler that takes a delivery, for one that takes a model: alone, or after the delivery.

    Raises:
        InvalidHandler: it can be no handler.
    """
    with shapes.looking_at(function):
        shapes.check_callable(function, "a handler")
        model, alone = _model_of(function)
        is_async = shapes.is_async(function)
    if model is None:
        return function

    def arguments(delivery: Delivery) -> tuple[Any, ...]:
        request = _validated(model, delivery.request)
        return (request,) if alone else (delivery, request)

    async def handle_async(delivery: Delivery) -> Any:
        return await function(*arguments(delivery))

    def handle(delivery: Delivery) -> Any:
        return function(*arguments(delivery))

    return handle_async if is_async else handle


def _model_of(function: Callable[..., Any]) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a handler takes, and whether it takes that alone; None: it takes the delivery alone."""
    parameters = shapes.parameters_of(function, "a handler")
    if parameters is None:
        return None, True
    first, required = shapes.first_of(parameters), shapes.required_of(parameters)
    if first is None:
        raise shapes.refusal(function, f"it takes no argument, and {_WANTED}.")
    if len(required) > 2:
        raise shapes.refusal(function, f"it takes {len(required)} arguments, and {_WANTED}.")
    if len(required) < 2:
        return _model_alone(first, function), True
    delivery, request = required
    _check_delivery(delivery, function, known=False)  # by its place it can be nothing else
    model = shapes.annotation_of(request, function, known=False)
    if not _is_model(model):
        problem = f"{_WANTED}: annotate the second argument, {request.name}, with a model that can be found."
        raise shapes.refusal(function, problem)
    return model, False


def _model_alone(parameter: Any, function: Callable[..., Any]) -> type[BaseModel] | None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return None
    annotation = shapes.annotation_of(parameter, function)
    if _is_model(annotation):
        model: type[BaseModel] = annotation
        return model
    _check_delivery(parameter, function)
    return None


def _check_delivery(parameter: Any, function: Callable[..., Any], *, known: bool = True) -> None:
    annotation = shapes.annotation_of(parameter, function, known=known)
    if not shapes.takes(annotation, Delivery):
        named = shapes.annotated(annotation)
        problem = (
            f"its argument {parameter.name} is annotated with {named}, and {_WANTED}: annotate it with one of these."
        )
        raise shapes.refusal(function, problem)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _validated(model: type[BaseModel], request: Any) -> BaseModel:
    try:
        return model.model_validate(request)
    except PydanticError as error:
        told = _told(error)
    raise ValidationError(f"The request does not fit {model.__name__}: {told}")


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
