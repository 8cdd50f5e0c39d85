"""What `redisq` offers by name, and that naming it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import redisq

CLIENTS_AND_VALUES = {
    *("RedisQ", "AsyncRedisQ", "Worker"),
    *("Message", "Status", "Delivery", "Definition", "Finding", "QueueStats", "Settings", "Credentials"),
    *("Batch", "Defer", "Handlers", "Item", "MessageFields", "Reject", "Retry", "Transition"),
}
ERRORS = {
    "RedisQError",
    *("InvalidQueueName", "InvalidMessage", "MessageTooLarge", "SchemaViolation"),
    *("InvalidArgument", "InvalidDefinition", "InvalidHandler", "InvalidSettings"),
    *("QueueNotFound", "MessageNotFound", "MessageConflict", "QueueFull", "BatchError", "LeaseLost"),
    *("MissingCredentials", "InvalidCredentials", "InvalidToken", "TokenExpired", "Forbidden"),
    *("InvalidApplication", "ApplicationNotFound", "ApplicationConflict"),
    *("Unavailable", "Indeterminate", "UpgradeNeeded", "WorkerError", "TestingError", "NeverIdle"),
}
HEAVY = ["asyncio", "redis", "msgpack", "pydantic", "pydantic_settings", "typer"]


def test_these_are_the_public_names() -> None:
    assert set(redisq.__all__) == CLIENTS_AND_VALUES | ERRORS
    assert sorted(redisq.__all__) == redisq.__all__


@pytest.mark.parametrize("name", sorted(CLIENTS_AND_VALUES | ERRORS))
def test_each_can_be_imported(name: str) -> None:
    assert getattr(redisq, name).__name__ == name


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_each_error_is_a_redisq_error_with_a_code_of_its_own(name: str) -> None:
    error = getattr(redisq, name)
    assert issubclass(error, redisq.RedisQError)
    others = [getattr(redisq, other) for other in ERRORS - {name}]
    assert error.code not in {other.code for other in others}


def test_all_errors_are_public() -> None:
    def below(error: type) -> set[str]:
        return {error.__name__}.union(*(below(child) for child in error.__subclasses__()))

    assert {name for name in below(redisq.RedisQError) if not name.startswith("_")} == ERRORS


def test_dir_lists_them() -> None:
    assert set(redisq.__all__) <= set(dir(redisq))
    assert "__version__" in dir(redisq)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'redisq' has no attribute 'Broker'"):
        redisq.Broker  # noqa: B018
    with pytest.raises(ImportError):
        from redisq import Broker  # noqa: F401


def test_importing_redisq_loads_nothing_heavy() -> None:
    code = f"import sys, redisq; print(sorted(set({HEAVY}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_errors_load_nothing_heavy() -> None:
    code = f"import sys; from redisq import QueueFull; print(sorted(set({HEAVY}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
