"""Results, errors and stacks become plain data whatever user code does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.engine.describe import MAX_ERROR_LENGTH, describe_error, describe_stack, jsonable
from asyncwatch.engine.stacks import await_stack, stuck_at
from asyncwatch.events import WorkerSucceeded, decode, encode
from asyncwatch.text import mask_secrets


class Rude:
    """Ends the program when it is looked at."""

    def __repr__(self) -> str:
        raise SystemExit(1)


class RudeError(Exception):
    """Ends the program when it is looked at."""

    def __str__(self) -> str:
        raise SystemExit(1)


circular: list[Any] = []
circular.append(circular)


@pytest.mark.parametrize(
    "result",
    [None, True, 3, -(2**63), 2**70, 2.5, "text", "ü\n\x1b[31m", [1, {"a": [None]}], {"k": "v"}],
)
def test_plain_results_stay_themselves(result: object) -> None:
    """What JSON can hold is unchanged."""
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
    ],
)
def test_other_results_become_copies_or_their_repr(result: object, expected: object) -> None:
    """What JSON cannot hold is copied plainly or shown by its repr; credentials are masked."""
    assert jsonable(result) == expected


def test_a_copy_shares_nothing() -> None:
    """Changing the result afterwards does not change what was told."""
    result = [[1]]
    told = jsonable(result)
    result[0].append(2)
    assert told == [[1]]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_an_event_survives_its_way_through_json(result: object) -> None:
    """Whatever the result, the event can be written, and read back equal."""
    event = WorkerSucceeded(1, 0.5, "a", 1, 1, 0.25, jsonable(result))
    assert decode(encode(event)) == event


def test_errors_are_described_whatever_they_do() -> None:
    """Class and message; a message that raises, is huge or holds credentials is dealt with."""
    assert describe_error(KeyError("k")) == ("KeyError", "'k'")
    assert describe_error(RudeError()) == ("RudeError", "<str raised SystemExit>")
    kind, message = describe_error(ValueError("x" * 100_000))
    assert kind == "ValueError"
    assert len(message) == MAX_ERROR_LENGTH
    assert "secret" not in describe_error(OSError("cannot reach https://me:secret@host/"))[1]


def raise_at_depth(error: Exception) -> None:
    """Raise `error` from an error, two calls down."""

    def inner() -> None:
        try:
            raise LookupError("first")  # noqa: TRY301  a cause is wanted
        except LookupError as cause:
            raise error from cause

    inner()


def caught(error: Exception) -> Exception:
    """Return `error` after it was raised."""
    with pytest.raises(type(error)) as raised:
        raise_at_depth(error)
    return raised.value


def test_stacks_read_as_python_prints_them() -> None:
    """What led to the error comes first with its message; the error's own message is left to the last line."""
    stack = describe_stack(caught(ValueError("message 17")), skip=caught.__code__)
    first, link, last = stack.partition("The above exception was the direct cause of the following exception:")
    assert first.rstrip().endswith("LookupError: first")
    assert link
    assert "in raise_at_depth" in last
    assert "raise error from cause" in last
    assert "message 17" not in stack
    assert "in caught" not in stack


def test_errors_of_one_place_share_one_stack() -> None:
    """A million failures at one line cost one string."""
    first, second = (describe_stack(caught(ValueError(str(n)))) for n in range(2))
    assert first is second


def test_groups_show_their_members() -> None:
    """The stacks of an exception group's members are in its stack."""
    stack = describe_stack(ExceptionGroup("g", [caught(ValueError("one")), caught(KeyError("two"))]))
    assert "Exception 1 of 2 in the group:" in stack
    assert "ValueError: one" in stack
    assert "KeyError: 'two'" in stack


def test_errors_that_go_in_circles_end() -> None:
    """An error that is its own cause's cause does not loop for ever."""
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert describe_stack(first).count("ValueError: 2") == 1


async def test_stuck_at_tells_the_innermost_line_of_ones_own() -> None:
    """The place is that of the innermost awaiting frame outside asyncio."""

    async def inner() -> None:
        await asyncio.sleep(1000)

    async def outer() -> None:
        await inner()

    task = asyncio.get_running_loop().create_task(outer())
    await asyncio.sleep(0)
    place = stuck_at(task.get_coro())
    assert place.startswith(__file__)
    assert place.endswith("inner")
    task.cancel()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://user:pass@host/p", "https://***@host/p"),
        ("see https://user@host and ftp://a:b@c", "see https://***@host and ftp://***@c"),
        ("https://u:p@ss@host/", "https://***@host/"),
        ("https://cdn/npm/react@18", "https://cdn/npm/react@18"),
        ("https://host/?mail=a@b.example", "https://host/?mail=a@b.example"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_only_credentials_are_masked(text: str, masked: str) -> None:
    """User and password of a URL are masked; an @ anywhere else is not."""
    assert mask_secrets(text) == masked


async def _innermost() -> None:
    await asyncio.Event().wait()


async def _middle() -> None:
    await _innermost()


async def _generator() -> AsyncIterator[int]:
    yield 1
    await _innermost()


async def _awaits_generator() -> None:
    async for _ in _generator():
        pass


async def _awaits_next() -> None:
    steps = _generator()
    await anext(steps)
    await anext(steps)


async def _awaits_task() -> None:
    await asyncio.create_task(_middle())


async def _awaits_time_out() -> None:
    async with asyncio.timeout(1e6):
        await _middle()


class _Awaitable:
    """Passes on to a coroutine."""

    def __await__(self) -> Generator[Any, None, None]:
        return (yield from _innermost().__await__())


async def _awaits_awaitable() -> None:
    await _Awaitable()


@pytest.mark.parametrize(
    ("target", "between"),
    [
        (_middle, []),
        (_awaits_generator, ["_generator"]),
        (_awaits_next, ["_generator"]),
        (_awaits_task, ["_middle"]),
        (_awaits_time_out, ["_middle"]),
        (_awaits_awaitable, ["_Awaitable.__await__"]),
    ],
)
async def test_an_await_stack_goes_to_the_innermost_frame(
    target: Callable[[], Coroutine[Any, Any, None]], between: list[str]
) -> None:
    """Whatever it passes through."""
    task = asyncio.create_task(target())
    for _ in range(4):
        await asyncio.sleep(0)
    functions = [frame.code.co_qualname for frame in await_stack(task.get_coro())]
    assert functions == [target.__name__, *between, "_innermost", "Event.wait"]
    for other in asyncio.all_tasks() - {asyncio.current_task()}:
        other.cancel()


def test_what_waits_for_itself_has_a_stack() -> None:
    """It ends where it would begin anew, as that of two tasks that wait for each other."""

    class Waits:
        """As a coroutine looks that waits for another one."""

        cr_frame = sys._getframe()
        cr_await: Waits

    first, second = Waits(), Waits()
    first.cr_await, second.cr_await = second, first
    assert len(await_stack(first)) == 2
