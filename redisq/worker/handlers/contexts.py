"""The context that handlers run in: for each message a fresh copy of the one in which the worker was started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any

_DECIMAL = "decimal_context"  # the variable's name in both of CPython's implementations


class Contexts:
    """Makes copies of a context, none of which sees what was set in another.

    What a variable holds is shared as ever. But `decimal` keeps its settings in an object that `getcontext()` hands out
    to be changed in place, so where the worker's context has one each copy gets one of its own.
    """

    def __init__(self, base: Context) -> None:
        self._base = base
        self._decimal = _decimal_of(base)
        #: Give a copy for one message or one tick.
        self.fresh: Callable[[], Context] = base.copy if self._decimal is None else self._with_decimal

    def _with_decimal(self) -> Context:
        context = self._base.copy()
        if self._decimal is not None:
            variable, value = self._decimal
            context.run(variable.set, value.copy())
        return context


def _decimal_of(base: Context) -> tuple[ContextVar[Any], Any] | None:
    decimal = sys.modules.get("decimal")
    if decimal is None:
        return None
    for variable, value in base.items():
        if variable.name == _DECIMAL and isinstance(value, decimal.Context):
            return variable, value
    return None
