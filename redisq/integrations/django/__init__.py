"""Django: a backend of its tasks, and `manage.py redisq_worker`. The app is `redisq.integrations.django`.

It works with `django.tasks`, which Django has since 6.0, and before that with its backport, the package django-tasks.
"""

from redisq.integrations.django.backend import RedisQBackend
from redisq.integrations.django.worker import make_worker

__all__ = ["RedisQBackend", "make_worker"]
