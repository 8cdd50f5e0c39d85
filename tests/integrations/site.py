"""A Django project for the tests, without files: importing this sets it up in this process."""

from __future__ import annotations

import django
from django.conf import settings

HOME = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
BACKEND = "redisq.integrations.django.RedisQBackend"

if not settings.configured:
    settings.configure(
        INSTALLED_APPS=[*([HOME] if HOME == "django_tasks" else []), "redisq.integrations.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        LOGGING_CONFIG=None,
        SECRET_KEY="tests",
        USE_TZ=True,
    )
    django.setup()
