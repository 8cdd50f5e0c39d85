"""Which callables can be handlers, or functions of schedules: looked at when they are registered.

What is wrong with one is said then, once, and not by each message that fails for it.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from redisq.errors import InvalidHandler, RedisQError
from redisq.worker.handlers.delivery import Delivery

F = TypeVar("F", bound=Callable[..., Any])

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_UNKNOWN = object()  # an annotation whose names cannot be found
#: What these names mean where they cannot be found.
_KNOWN: dict[str, Any] = {"Any": Any, "Delivery": Delivery, "datetime": datetime}


@contextmanager
def looking_at(function: Callable[..., Any]) -> Iterator[None]:
    """Refuse what raises when it is looked at, instead of ending who imports it: a `__getattr__`, `exit(3)` as a text.

    Raises:
        InvalidHandler: it does.
    """
    try:
        yield
    except RedisQError:
        raise
    except BaseException as error:
        raise refusal(function, f"it raised {type(error).__name__} when it was looked at.") from None


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling this gives something to await: an `async def`, or an object whose `__call__` is one."""
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def check_callable(function: object, what: str) -> None:
    """Check that something is a function, or an object like one, whose call gives a value or something to await.

    Raises:
        InvalidHandler: it is not.
    """
    if isinstance(function, type):
        raise InvalidHandler(
            f"{what} is a function, and {_name_of(function)} is a class: pass an instance that can be called."
        )
    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise InvalidHandler(f"{what} is a function, not {type(function).__name__}: pass something that can be called.")
    inner = _innermost(function)
    called = inner if inspect.isroutine(inner) else type(inner).__call__
    for kind, tells in (
        ("a generator", inspect.isgeneratorfunction),
        ("an async generator", inspect.isasyncgenfunction),
    ):
        if tells(inner) or tells(called):
            raise InvalidHandler(
                f"{_name_of(function)} is {kind} function, and nobody would run what it gives: {what} returns a value."
            )


def parameters_of(function: Callable[..., Any], what: str) -> list[inspect.Parameter] | None:
    """Return what a function takes; None when it does not say, as some that are written in C.

    Raises:
        InvalidHandler: it wants a keyword that nobody would give it.
    """
    try:
        parameters = list(_signature_of(function).parameters.values())
    except (TypeError, ValueError):
        return None
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and one.default is one.empty:
            raise InvalidHandler(
                f"{_name_of(function)} wants the keyword {one.name}=, which nobody gives it: {what} is called with "
                "positional arguments alone. Give it a default, or bind it with functools.partial."
            )
    return parameters


def required_of(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return those without a default that are passed by position."""
    return [one for one in parameters if one.kind in _POSITIONAL and one.default is one.empty]


def taken_of(parameters: Iterable[inspect.Parameter]) -> float:
    """Return how many arguments can be passed by position."""
    kinds = [one.kind for one in parameters]
    return math.inf if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in _POSITIONAL for kind in kinds)


def first_of(parameters: Iterable[inspect.Parameter]) -> inspect.Parameter | None:
    """Return the one that takes the first argument; None: there is none."""
    taking = (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)
    return next((one for one in parameters if one.kind in taking), None)


def annotation_of(parameter: inspect.Parameter, function: Callable[..., Any], *, known: bool = True) -> Any:
    """Return what a parameter is annotated with, text evaluated where its function was defined; `Any` for nothing.

    Raises:
        InvalidHandler: it has a name that cannot be found, and has to be `known`. The names of a delivery's and of a
            tick's class are: a module that imports these for type checkers alone is in order.
    """
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    if isinstance(annotation, str):
        found = _evaluated(annotation, function)
        if found is _UNKNOWN:
            found = _KNOWN.get(annotation.strip("'\" ").rpartition(".")[2], _UNKNOWN)
        if found is _UNKNOWN and not known:
            found = Any
        if found is _UNKNOWN:
            raise InvalidHandler(
                f"the argument {parameter.name} of {_name_of(function)} is annotated with {annotation[:100]!r}, which "
                "cannot be found where the function was defined: import it there, outside `if TYPE_CHECKING`."
            )
        annotation = found
    return _resolved(annotation, function) if typing.get_args(annotation) else annotation


def takes(annotation: Any, given: type) -> bool:
    """Return whether an argument that is so annotated takes an object of the class `given`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return takes(typing.get_args(annotation)[0], given)
    if annotation is Any or isinstance(annotation, (typing.TypeVar, typing.ForwardRef, str)):
        return True
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(takes(one, given) for one in typing.get_args(annotation))
    if isinstance(annotation, type) and getattr(annotation, "_is_protocol", False):
        return True
    origin = typing.get_origin(annotation) or annotation
    if origin is not annotation or not isinstance(annotation, type):
        return False
    try:
        return issubclass(given, annotation)
    except TypeError:  # a TypedDict does not say
        return False


def takes_list(annotation: Any, given: type, of: type) -> bool:
    """Return whether an argument that is so annotated takes a list of the class `given`, of objects `of` a class."""
    items, listed = typing.get_args(annotation), typing.get_origin(annotation)
    if listed in (typing.Union, types.UnionType):
        return any(takes_list(one, given, of) for one in items)
    return takes(listed, given) and takes(items[0], of) if items else takes(annotation, given)


def refusal(function: Callable[..., Any], problem: str) -> InvalidHandler:
    """Return what is wrong with a function."""
    return InvalidHandler(f"{_name_of(function)}: {problem}")


def qualified_name(function: object) -> str:
    """Name a function by its module and its place in there; "" for an object that has no such name."""
    try:
        return f"{function.__module__}.{function.__qualname__}"  # type: ignore[attr-defined]
    except BaseException:  # of the user's
        return ""


def is_again(function: object, other: object) -> bool:
    """Return whether a function is another one that was defined anew, as by a cell of a notebook that is run again."""
    return function is other or is_same_name(qualified_name(function), qualified_name(other))


def is_same_name(name: str, other: str) -> bool:
    """Return whether two qualified names are one; that of lambdas, which all are called alike, is none."""
    return name == other and name != "" and not name.endswith("<lambda>")


def with_one_more(functions: list[F], function: F) -> list[F]:
    """Return functions and one more, which takes the place of itself, or of what a notebook's cell had defined.

    Functions that were defined in another one may share its name for them, and are different.
    """
    local = "<" in qualified_name(function)
    for place, other in enumerate(functions):
        if function is other or (not local and is_again(function, other)):
            return [*functions[:place], function, *functions[place + 1 :]]
    return [*functions, function]


def annotated(annotation: Any) -> str:
    """Write an annotation as its author did, or nearly so."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    text: str = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text[:100]


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except NameError:  # from Python 3.14 on annotations are evaluated here; as texts they are not
        import annotationlib  # type: ignore[import-not-found,unused-ignore]

        text = annotationlib.Format.STRING
        return inspect.signature(function, annotation_format=text)  # type: ignore[call-arg,unused-ignore]


def _evaluated(annotation: str, function: Callable[..., Any]) -> Any:
    try:
        known, local = _names_of(function)
        found = eval(annotation, known, local)
        return eval(found, known, local) if isinstance(found, str) else found
    except Exception:  # a name that only type checkers see
        return _UNKNOWN


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """Return an annotation with the texts inside of it evaluated, as of `list["Order"]`, if they can be."""

    def holder() -> None: ...

    holder.__annotations__ = {"given": annotation}
    try:
        return typing.get_type_hints(holder, *_names_of(function), include_extras=True)["given"]
    except Exception:
        return annotation


def _names_of(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names that are known where a function was defined: its module's, and those of functions around it."""
    inner = _innermost(inspect.unwrap(function))
    inner = getattr(inner, "__func__", inner) if inspect.isroutine(inner) else type(inner).__call__
    return getattr(inner, "__globals__", {}), dict(inspect.getclosurevars(inner).nonlocals)


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _name_of(function: object) -> str:
    inner = _innermost(function)
    try:
        return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)[:200]
    except BaseException:  # of the user's: it may not end who imports it
        return type(inner).__qualname__[:200]
