"""What an exception says as the error of its message: all that hangs on it, bounded."""

from __future__ import annotations

from redisq.worker.handlers.error_text import error_of


def said(error: BaseException) -> str:
    return error_of(error)["message"]


def raised(error: BaseException, *, cause: BaseException | None = None, context: BaseException | None = None) -> str:
    error.__cause__, error.__suppress_context__, error.__context__ = cause, cause is not None, context
    return said(error)


def test_an_exception_alone_says_its_text_and_no_more() -> None:
    assert error_of(KeyError("a")) == {"type": "KeyError", "message": "'a'"}


def test_the_leaves_of_a_group_are_named() -> None:
    inner = ExceptionGroup("inner", [OSError("b"), ExceptionGroup("deep", [ValueError("c")])])
    group = BaseExceptionGroup("outer", [KeyError("a"), inner, SystemExit(3), TimeoutError()])
    error = error_of(group)
    assert error["type"] == "BaseExceptionGroup"
    told = "'a' | OSError: b | ValueError: c | SystemExit: 3 | TimeoutError"
    assert error["message"] == f"outer (4 sub-exceptions) | KeyError: {told}"


def test_what_it_was_raised_from_is_named_and_so_is_what_was_handled() -> None:
    cause = OSError("refused")
    cause.__cause__ = KeyError("host")
    assert raised(ValueError("no"), cause=cause) == "no | caused by OSError: refused | caused by KeyError: 'host'"
    assert raised(ValueError("no"), context=OSError("refused")) == "no | while handling OSError: refused"
    assert raised(ValueError("no"), cause=OSError("a"), context=OSError("b")) == "no | caused by OSError: a"
    silent = ValueError("no")
    silent.__context__, silent.__suppress_context__ = OSError("refused"), True
    assert said(silent) == "no"


def test_a_cause_that_is_a_group_is_named_with_its_leaves() -> None:
    group = ExceptionGroup("many", [KeyError("a")])
    assert (
        raised(ValueError("no"), cause=group) == "no | caused by ExceptionGroup: many (1 sub-exception) | KeyError: 'a'"
    )


def test_notes_are_named() -> None:
    leaf = ValueError("no")
    leaf.add_note("order 17")
    group = ExceptionGroup("many", [leaf])
    group.add_note("shop 3")
    assert said(group) == "many (1 sub-exception) | ValueError: no | note: order 17 | note: shop 3"


def test_cycles_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert said(one) == "one | caused by ValueError: two"
    group = ExceptionGroup("many", [one])
    two.__cause__ = group
    assert said(group) == "many (1 sub-exception) | ValueError: one | caused by ValueError: two"


def test_it_is_bounded_in_number_depth_and_bytes() -> None:
    wide = said(ExceptionGroup("many", [ValueError(number) for number in range(100_000)]))
    assert wide.endswith("ValueError: 19 | ...")
    chain: Exception = ValueError("bottom")
    for number in range(100_000):
        above = ValueError(number)
        above.__cause__ = chain
        chain = above
    assert said(chain).count("caused by") == 8
    nested: Exception = ValueError("bottom")
    for _ in range(100):
        nested = ExceptionGroup("many", [nested])
    assert len(said(nested)) < 1_000
    bulky = ExceptionGroup("\U0001f4e6" * 10_000, [ValueError("\U0001f4e6" * 10_000) for _ in range(100)])
    assert len(said(bulky).encode()) <= 8_000
    noted = ValueError("no")
    noted.__notes__ = ["x" * 10_000] * 1_000
    assert len(said(noted)) < 8_000
    while chain.__cause__ is not None:  # else it is freed by recursion
        chain.__cause__, chain = None, chain.__cause__  # type: ignore[assignment]


def test_notes_that_are_none_are_left_out() -> None:
    for notes in (None, 5, "text", [5, "fine", None], {"a": 1}):
        error = ValueError("no")
        error.__notes__ = notes  # type: ignore[assignment]
        assert said(error) == ("no | note: fine" if isinstance(notes, list) else "no")
