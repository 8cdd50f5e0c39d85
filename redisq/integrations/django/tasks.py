"""Django's tasks, wherever they live: in Django since 6.0, before that in the package django-tasks."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

_HOME = "django.tasks" if find_spec("django.tasks") else "django_tasks"

base: Any = import_module(f"{_HOME}.base")
backends: Any = import_module(f"{_HOME}.backends.base")
exceptions: Any = import_module(f"{_HOME}.exceptions")
signals: Any = import_module(f"{_HOME}.signals" if find_spec(f"{_HOME}.signals") else f"{_HOME}.signal_handlers")
registry: Any = import_module(_HOME)


def normalize_json(value: Any) -> Any:
    """Return a value as JSON has it, as Django's own backends do.

    Raises:
        TypeError, ValueError: JSON has nothing like it.
    """
    home = "django.utils.json" if _HOME == "django.tasks" else "django_tasks.utils"
    return import_module(home).normalize_json(value)
