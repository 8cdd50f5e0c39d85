"""What handlers return, as it is stored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from redisq.body import codec
from redisq.errors import InvalidMessage
from redisq.model.queue import MAX_BYTES_CEILING


def encode_result(result: Any) -> bytes:
    """Encode what a handler returned; a model as the JSON that it makes of itself.

    Raises: InvalidMessage, MessageTooLarge; and anything that code of the user's raises which is no Exception.
    """
    if BaseModel in type(result).__mro__:  # isinstance would ask the object itself
        try:
            result = result.model_dump(mode="json")
        except Exception as error:  # a serializer of the user's own
            raise InvalidMessage(f"The result could not be made JSON: {type(error).__name__}.") from None
    return codec.encode(result, MAX_BYTES_CEILING)
