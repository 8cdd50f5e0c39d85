"""What finds a user's module: the same in one process, in several, under `redisq dev` and in the demo.

The current folder comes after the standard library and before what is installed: a project's `types.py` or `random.py`
stands in for no module that Python itself, or a library, wants to import.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import redisq
from redisq.cli.output import CommandError

if TYPE_CHECKING:
    from redisq.worker import Worker

#: For an interpreter that would not find this package by itself, as it was found in the current folder. What the
#: package itself imports is imported before, as that folder may have files of the same names.
_BEGIN = (
    "import importlib, sys, typing; sys.path.insert(0, sys.argv.pop(1)); import redisq; del sys.path[0]; "
    "from redisq.cli import main; sys.exit(main())"
)
_SPELLING = " Is it spelled so there?"


def command(*arguments: str) -> list[str]:
    """Return the command that runs redisq in a process that finds the modules which this one finds.

    Without -P Python would put the current folder first, ahead of the standard library.
    """
    begin = ["-m", "redisq"] if _is_found_again() else ["-c", _BEGIN, str(_package().parent)]
    return [sys.executable, "-P", *begin, *arguments]


def _package() -> Path:
    return Path(redisq.__file__).absolute().parent


def _is_found_again() -> bool:
    path = [entry for entry in sys.path if entry not in ("", current_folder())]
    spec = PathFinder.find_spec("redisq", path)
    return spec is not None and spec.origin == redisq.__file__


def current_folder() -> str:
    """Return the current folder.

    Raises:
        CommandError: it was removed.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise CommandError("The current folder does not exist any more: change to another one.") from None


def load(target: str) -> Worker:
    """Import the worker that `module:attribute` names, also from the current folder.

    Raises:
        CommandError: there is no such thing, or it is no Worker; or importing the module failed.
    """
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise CommandError(f"{target!r} does not name a worker: write MODULE:WORKER, for example shop.work:worker")
    here = current_folder()
    if here not in sys.path:
        sys.path.insert(_behind_the_standard_library(), here)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise _not_imported(name, error) from error
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f"The module {_described(module)} has no {attribute!r}.{_shadowed(name) or _SPELLING}")
        found = getattr(found, part)
    return _checked(found, target, module)


def _behind_the_standard_library() -> int:
    library = os.path.realpath(os.path.dirname(os.__file__))
    ends = [place for place, entry in enumerate(sys.path) if os.path.realpath(entry).startswith(library)]
    installed = [place for place in ends if sys.path[place].endswith("-packages")]
    return max({*ends} - {*installed}, default=-1) + 1


def _checked(found: object, target: str, module: ModuleType) -> Worker:
    from redisq.worker import Worker

    if not isinstance(found, Worker):
        raise CommandError(
            f"{target} is no redisq.Worker but of type {type(found).__name__}, in {_described(module)}."
            f"{_shadowed(module.__name__)}"
        )
    return found


def _described(module: ModuleType) -> str:
    return f"{module.__name__} (found at {_place_of(module.__name__)})"


def _place_of(name: str) -> str:
    """Return where a module that was imported is."""
    module = sys.modules[name]
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return file or "Python itself"


def _shadowed(name: str) -> str:
    """Say that the current folder has a module of this name, too, when another one was found; else give ""."""
    top = name.partition(".")[0]
    ours = next((path for path in (Path(f"{top}.py"), Path(top, "__init__.py")) if path.exists()), None)
    if ours is None or top not in sys.modules or os.path.realpath(_place_of(top)) == os.path.realpath(ours):
        return ""
    return f" The current folder's {ours} is not that: rename it, as {top} is the name of another module."


def _not_imported(name: str, error: Exception) -> CommandError:
    """Tell a module that is not there from one that fails; of the latter, name the line that raised."""
    absent = isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}.")
    if absent or (isinstance(error, TypeError | ValueError) and not _frames(error)):
        top = name.partition(".")[0]
        if top in sys.modules:
            return CommandError(f"There is no module {name}: {top} was found at {_place_of(top)}.{_shadowed(top)}")
        return CommandError(f"There is no module {name} in the current folder, nor is it installed.")
    where = ", ".join(f"{Path(frame.filename).name} line {frame.lineno}" for frame in _frames(error)[-1:])
    hint = _shadowed((isinstance(error, ImportError) and error.name) or "")
    return CommandError(
        f"Importing {name} failed: {type(error).__name__}: {error}" + (f" ({where})" * bool(where)) + hint
    )


def _frames(error: Exception) -> list[traceback.FrameSummary]:
    """Return the frames of an exception that are neither ours nor the import system's."""
    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame for frame in frames if frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"
    ]
