"""Read JSON documents that people and programs write; each says one thing only."""

from __future__ import annotations

import json
from typing import Any

from redisq.body.jsonlines import unique, unmarked


class Unreadable(ValueError):
    """What is wrong with a document, as the rest of a sentence that begins with its name. It quotes none of it."""


def read(source: str | bytes) -> Any:
    """Read a JSON document.

    Raises:
        Unreadable: it is not one, or says something twice.
    """
    try:
        text = source.removeprefix("\ufeff") if isinstance(source, str) else unmarked(source).decode()
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " * (error.lineno > 1)
        raise Unreadable(f"is not JSON ({error.msg}, {line}column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits; a repeated key
        raise Unreadable(f"cannot be read: {error}") from None
