"""The filter language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import WorkerState
from asyncwatch.model.view.filter import parse_query
from tests.rows import a_row

ROW = a_row(
    "https://A.example/x",
    0,
    "Site check",
    3,
    state=WorkerState.BACKING_OFF,
    attempt=2,
    bad_luck=0.91,
    error="TimeoutError: read timeout",
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example",
        "READ",
        "https://a.example/x",
        '"https:"',
        "https:",
        "state:backing",
        'state:"backing off"',
        "State:back retries>0",
        "retries>=1",
        "retries=1",
        "retries:1",
        "retries<2",
        "luck>0.9",
        "luck<=0.91",
        "error:timeout",
        'error:"read timeout"',
        '"read timeout"',
        "group:site",
    ],
)
def test_terms_that_match(text: str) -> None:
    """Each term finds the row, in upper and lower case alike."""
    query = parse_query(text)
    assert query.problem == ""
    assert query.matches(ROW)


@pytest.mark.parametrize(
    "text",
    ["nobody", "state:failed", "retries>1", "luck>0.95", "error:refused", "group:other", "a.example state:failed"],
)
def test_terms_that_do_not_match(text: str) -> None:
    """Each query leaves the row out; one term that does not match is enough."""
    query = parse_query(text)
    assert query.problem == ""
    assert not query.matches(ROW)


@pytest.mark.parametrize("text", ["localhost:8080", "localhost:8080/x", '"jobs:run"'])
def test_what_only_looks_like_a_field_is_text(text: str) -> None:
    """A host with its port, and what is quoted, is looked for as it stands."""
    query = parse_query(text)
    assert query.problem == ""
    assert query.matches(a_row("http://localhost:8080/x jobs:run"))
    assert not query.matches(ROW)


def test_a_worker_without_a_draw_has_no_luck_to_compare() -> None:
    """A queued worker matches neither side of a comparison with its luck."""
    row = a_row("a")
    assert not parse_query("luck>=0").matches(row)
    assert not parse_query("luck<1").matches(row)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state:nope", "no state begins with 'nope'"),
        ("state:", "what follows state:"),
        ("retries>", "takes a number"),
        ("retries>many", "'many'"),
        ("state>failed", "state:failed"),
        ("bogus:x", "no field bogus"),
        ("luk>0.9", "no field luk: state, error"),
    ],
)
def test_what_is_not_understood_is_said_and_left_out(text: str, words: str) -> None:
    """A term that cannot be understood hides no row; the query says what is wrong with it."""
    query = parse_query(f"example {text}")
    assert words in query.problem
    assert query.matches(ROW)
    assert not query.matches(a_row("other"))


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    """Any text is a query, and one can match a row with it."""
    parse_query(text).matches(ROW)
