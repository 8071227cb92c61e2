"""Results, errors and tracebacks become plain data, whatever user code does."""

from __future__ import annotations

import enum
import gc
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.engine.describe import (
    MAX_ERROR_LENGTH,
    Trace,
    describe_error,
    describe_trace,
    jsonable,
    jsonable_or_repr,
)
from asyncwatch.engine.stacks import boundary
from asyncwatch.events import WorkerSucceeded, decode, encode


class Rude:
    """Raises `SystemExit` when it is shown."""

    def __repr__(self) -> str:
        raise SystemExit(1)


class RudeError(Exception):
    """Raises `SystemExit` when it is shown."""

    def __str__(self) -> str:
        raise SystemExit(1)


class Text(str):
    """A text, as parsers return."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Text(...)"


class Real(float):
    """A number with a repr of its own."""

    def __repr__(self) -> str:
        return "Real(...)"


class Whole(int):
    """A number with a repr of its own."""

    def __repr__(self) -> str:
        return "Whole(...)"


class Scalar:
    """A value of an array, as numpy has it."""

    ndim = 0

    def __init__(self, held: object) -> None:
        self._held = held

    def item(self) -> object:
        """Return the value of Python."""
        if isinstance(self._held, BaseException):
            raise self._held
        return self if self._held is None else self._held

    def __repr__(self) -> str:
        return "Scalar(...)"


class Shade(enum.StrEnum):
    """An enum of texts."""

    DARK = "dark"


circular: list[Any] = []
circular.append(circular)


@pytest.mark.parametrize(
    "result",
    [None, True, 3, -(2**63), 2**70, 2.5, "text", "ü\n\x1b[31m", [1, {"a": [None]}], {"k": "v"}],
)
def test_jsonable_keeps_what_json_can_hold(result: object) -> None:
    assert jsonable(result) == result


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ((1, 2), [1, 2]),
        (object, "<class 'object'>"),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (circular, "[[...]]"),
        ("bad \udc80", "bad \\udc80"),
        (Rude(), "<Rude whose repr raised SystemExit>"),
        ([Rude()], ["<Rude whose repr raised SystemExit>"]),
        ("https://me:secret@host/x", "https://***@host/x"),
        ({"url": "https://me:secret@host/x"}, {"url": "https://***@host/x"}),
        ({"https://me:secret@host/x": 1}, {"https://***@host/x": 1}),
        (
            ["https://a.example\nme@b.example", "https://a.example"],
            ["https://a.example\nme@b.example", "https://a.example"],
        ),
        (Text("a"), "a"),
        (Real(1.5), 1.5),
        (Real("nan"), "nan"),
        (Whole(7), 7),
        (Shade.DARK, "dark"),
        ({Text("k"): [Text("a"), Real(1.5), Whole(7), Shade.DARK]}, {"k": ["a", 1.5, 7, "dark"]}),
        (Text("https://me:secret@host/x"), "https://***@host/x"),
        (Scalar(2.5), 2.5),
        ([Scalar(True), Scalar("a")], [True, "a"]),
        (Scalar(None), "Scalar(...)"),
        ([Scalar(ValueError())], ["Scalar(...)"]),
        (Scalar(ValueError()), "Scalar(...)"),
        (Scalar(SystemExit()), "Scalar(...)"),
    ],
)
def test_jsonable_copies_other_results_or_returns_their_repr_without_credentials(
    result: object, expected: object
) -> None:
    assert jsonable(result) == expected


@pytest.mark.parametrize(
    ("result", "is_repr"),
    [
        (None, False),
        (1 << 80, False),
        (math.inf, False),
        ({"a": [1, "b"]}, False),
        (object(), True),
        ([1, object()], True),
        (1 + 2j, True),
        ({object(): 1}, True),
    ],
)
def test_repr_in_place_of_a_value_is_known(result: object, is_repr: bool) -> None:
    assert jsonable_or_repr(result)[1] is is_repr


def test_jsonable_copy_does_not_change_with_the_result() -> None:
    result = [[1]]
    copied = jsonable(result)
    result[0].append(2)
    assert copied == [[1]]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_event_with_any_result_is_decoded_equal(result: object) -> None:
    event = WorkerSucceeded(1, 0.5, "a", 1, 1, 0.25, jsonable(result))
    assert decode(encode(event)) == event


def test_describe_error_limits_masks_and_replaces_messages() -> None:
    assert describe_error(KeyError("k")) == ("KeyError", "'k'")
    assert describe_error(RudeError()) == ("RudeError", "<str raised SystemExit>")
    kind, message = describe_error(ValueError("x" * 100_000))
    assert kind == "ValueError"
    assert len(message) == MAX_ERROR_LENGTH
    assert "secret" not in describe_error(OSError("cannot reach https://me:secret@host/"))[1]


def test_describe_error_of_a_group_is_that_of_its_leaves() -> None:
    lost, wrong = ConnectionResetError("peer left"), ExceptionGroup("inner", [KeyError("k"), RudeError()])
    assert describe_error(ExceptionGroup("outer", [lost, wrong, lost])) == (
        "ExceptionGroup",
        "2 × ConnectionResetError: peer left; KeyError: 'k'; RudeError: <str raised SystemExit>",
    )
    many = ExceptionGroup("many", [ValueError(number) for number in range(1_000)])
    _, message = describe_error(many)
    assert message.startswith("ValueError: 0; ValueError: 1; ")
    assert message.endswith("; and 900 more")
    _, message = describe_error(ExceptionGroup("g", [ValueError("http://u:hush@host/" * 1_000)]))
    assert len(message) <= MAX_ERROR_LENGTH
    assert "hush" not in message


def raise_at_depth(error: Exception) -> None:
    """Raise `error` from an error, two calls down."""

    def inner() -> None:
        try:
            raise LookupError("first")  # noqa: TRY301  the error needs a cause
        except LookupError as cause:
            raise error from cause

    inner()


@boundary
def caught(error: Exception) -> Exception:
    """Return `error` after it was raised."""
    with pytest.raises(type(error)) as raised:
        raise_at_depth(error)
    return raised.value


def test_describe_stack_prints_as_python_without_the_last_message() -> None:
    stack = describe_trace(caught(ValueError("message 17"))).stack
    first, link, last = stack.partition("The above exception was the direct cause of the following exception:")
    assert first.rstrip().endswith("LookupError: first")
    assert link
    assert "in raise_at_depth" in last
    assert "raise error from cause" in last
    assert "message 17" not in stack
    assert "in caught" not in stack


def test_describe_stack_returns_one_string_for_errors_of_one_line() -> None:
    """A million failures at one line then cost one string."""
    first, second = (describe_trace(caught(ValueError(str(n)))).stack for n in range(2))
    assert first is second


def describe_new_code(file: str) -> Trace:
    """Return the traceback and the place of an error of code that is compiled anew."""
    space: dict[str, Any] = {}
    exec(compile("def fail():\n    raise KeyError\n", file, "exec"), space)
    try:
        space["fail"]()
    except KeyError as error:
        return describe_trace(error)
    raise AssertionError


def test_describe_stack_of_code_that_is_gone_is_not_that_of_new_code() -> None:
    """Python gives the identity of an object that is gone to the next one."""
    for number in range(20):
        stack, place = describe_new_code(f"/srv/{number}.py")
        assert f'"/srv/{number}.py"' in stack
        assert place == f" at {number}.py:2 fail"
        gc.collect()


def test_describe_stack_of_a_group_includes_its_members() -> None:
    stack = describe_trace(ExceptionGroup("g", [caught(ValueError("one")), caught(KeyError("two"))])).stack
    assert "Exception 1 of 2 in the group:" in stack
    assert "ValueError: one" in stack
    assert "KeyError: 'two'" in stack


def test_describe_stack_of_errors_that_cause_each_other_ends() -> None:
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert describe_trace(first).stack.count("ValueError: 2") == 1
