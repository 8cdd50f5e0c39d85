"""The app that brings the command `redisq_worker`."""

from django.apps import AppConfig


class RedisQConfig(AppConfig):
    """What INSTALLED_APPS names as `redisq.integrations.django`."""

    name = "redisq.integrations.django"
    label = "redisq"
    verbose_name = "redisq"
