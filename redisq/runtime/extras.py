"""The optional extras: what each of them brings. The one home of every `pip install` that redisq prints.

Such a text names packages of others and none of ours, which is on no index: there its name may be anybody's. So what an
extra brings is read from the metadata that was installed along with redisq.
"""

from __future__ import annotations

import ast
import operator
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

DISTRIBUTION = "redisq-mq"

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
}


def install(extra: str) -> str:
    """Return the command that installs what an extra brings to this interpreter; it ends a sentence.

    Where redisq runs without metadata of its own, from a folder on the path, the sentence names their list.
    """
    found = list(_requirements(extra))
    if not found:
        return f"install what redisq's pyproject.toml lists as {extra}"
    return f"pip install {' '.join(map(shlex.quote, found))}"


def _requirements(extra: str) -> Iterator[str]:
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement, _, marker = map(str.strip, line.partition(";"))
        if marker and _holds(ast.parse(marker, mode="eval").body, extra):
            yield requirement


def _holds(marker: ast.expr, extra: str) -> bool:
    """Return whether an environment marker, whose syntax is an expression of Python's, is true here."""
    match marker:
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_holds(part, extra) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_holds(part, extra) for part in parts)
        case ast.Compare(left=left, ops=[compare], comparators=[right]):
            values: list[Any] = [_value(side, extra) for side in (left, right)]
            if any(isinstance(side, ast.Name) and side.id.startswith("python_") for side in (left, right)):
                values = [[int(part) for part in value.split(".")] for value in values]
            return _COMPARE[type(compare)](*values)
    raise ValueError(f"not an environment marker: {ast.unparse(marker)}")


def _value(side: ast.expr, extra: str) -> str:
    if isinstance(side, ast.Constant):
        return str(side.value)
    here = {
        "extra": extra,
        "sys_platform": sys.platform,
        "platform_system": platform.system(),
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "implementation_name": sys.implementation.name,
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "python_full_version": "{}.{}.{}".format(*sys.version_info),
    }
    return here[ast.unparse(side)]
