"""The optional extras: what each of them brings. The one home of every `pip install` that redisq prints.

Such a text names packages of others and none of ours, which is on no index: there its name may be anybody's. So what an
extra brings is read from the metadata that was installed along with redisq.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Iterator
from functools import total_ordering
from importlib import metadata

DISTRIBUTION = "redisq-mq"


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
        # Its syntax is that of an expression of Python's, and it comes with the code that was installed.
        if marker and eval(marker, {"extra": extra, **_here()}):
            yield requirement


@total_ordering
class _Version:
    """A version of Python, compared with texts as numbers are: 3.9 is before 3.11."""

    def __init__(self, *parts: int) -> None:
        self._parts = parts

    def __eq__(self, text: object) -> bool:
        return self._parts == _numbers(text)

    def __lt__(self, text: object) -> bool:
        return self._parts < _numbers(text)


def _numbers(text: object) -> tuple[int, ...]:
    return tuple(map(int, str(text).split(".")))


def _here() -> dict[str, object]:
    """Return what environment markers may ask about."""
    return {
        "sys_platform": sys.platform,
        "platform_system": platform.system(),
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "implementation_name": sys.implementation.name,
        "python_version": _Version(*sys.version_info[:2]),
        "python_full_version": _Version(*sys.version_info[:3]),
    }
