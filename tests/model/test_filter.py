"""Queries: parsing, problems and matching."""

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
    status="client.py:88 fetch · Queue.get",
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
        "queue.get",
    ],
)
def test_term_that_matches_in_any_case_finds_the_row(text: str) -> None:
    query = parse_query(text)
    assert query.problem == ""
    assert query.matches(ROW)


@pytest.mark.parametrize(
    "text",
    ["nobody", "state:failed", "retries>1", "luck>0.95", "error:refused", "group:other", "a.example state:failed"],
)
def test_term_that_does_not_match_excludes_the_row(text: str) -> None:
    query = parse_query(text)
    assert query.problem == ""
    assert not query.matches(ROW)


@pytest.mark.parametrize("text", ["localhost:8080", "localhost:8080/x", '"jobs:run"'])
def test_term_of_host_with_port_or_in_quotes_is_text(text: str) -> None:
    query = parse_query(text)
    assert query.problem == ""
    assert query.matches(a_row("http://localhost:8080/x jobs:run"))
    assert not query.matches(ROW)


def test_luck_comparison_excludes_queued_worker() -> None:
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
def test_term_not_understood_is_reported_and_ignored(text: str, words: str) -> None:
    query = parse_query(f"example {text}")
    assert words in query.problem
    assert query.matches(ROW)
    assert not query.matches(a_row("other"))


@given(st.text())
def test_query_of_any_text_can_be_parsed_and_matched(text: str) -> None:
    parse_query(text).matches(ROW)
