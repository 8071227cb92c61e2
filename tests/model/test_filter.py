"""Queries: parsing, problems and matching."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import WorkerState
from asyncwatch.model.view.filter import completion, parse_query
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
        ("luk>0.9", "no field luk: state, name"),
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


@pytest.mark.parametrize(
    "text",
    [
        "backing",
        "not failed",
        "nobody or backing",
        "failed or (retries>0 luck>0.9)",
        "not (failed or queued)",
        "not not timeout",
        "timeout and not refused",
        "elapsed>2s",
        "elapsed<1m last>=500ms",
        "name~^https://[a-z]",
        "~READ.*out$",
        "error~^timeout group~check$",
        "NOT state:failed",
        'not "nor"',
        "(retries>0",
        "timeout or",
        "timeout not",
        "not",
        "or",
        "()",
        "NAME:a.example",
    ],
)
def test_expression_that_matches_finds_the_row(text: str) -> None:
    row = a_row(ROW.name, 0, "Site check", state=ROW.state, attempt=2, bad_luck=0.91, error=ROW.error)
    row.block.started, row.own_extra().last_duration = array("d", [1.0]), 0.7
    query = parse_query(text, lambda: 4.0)
    assert query.problem == ""
    assert query.matches(row)


@pytest.mark.parametrize(
    "text",
    ["not timeout", "failed or queued", "not (backing or failed)", "elapsed>5s", "last<1ms", "~^read", "name~timeout"],
)
def test_expression_that_does_not_match_excludes_the_row(text: str) -> None:
    row = a_row(ROW.name, 0, "Site check", state=ROW.state, attempt=2, bad_luck=0.91, error=ROW.error)
    row.block.started, row.own_extra().last_duration = array("d", [1.0]), 0.7
    query = parse_query(text, lambda: 4.0)
    assert query.problem == ""
    assert not query.matches(row)


def test_word_of_two_letters_matches_no_state() -> None:
    assert not parse_query("ba").matches(a_row("w", state=WorkerState.BACKING_OFF))


def test_parentheses_within_a_word_belong_to_it() -> None:
    assert parse_query("f(x)").matches(a_row("call f(x)"))
    assert not parse_query("f(x)").matches(a_row("call f x"))
    assert parse_query("(f(x) or g)").matches(a_row("f(x)"))


@pytest.mark.parametrize("query", ["cafe\u0301", "caf\u00e9", "CAF\u00c9", "name:caf\u00e9", "name~caf\u00e9$"])
@pytest.mark.parametrize("name", ["cafe\u0301", "caf\u00e9"])
def test_composed_and_decomposed_letters_are_equal(query: str, name: str) -> None:
    assert parse_query(query).matches(a_row(name))
    assert not parse_query("cafe").matches(a_row(name))


@pytest.mark.parametrize(
    ("text", "words"),
    [("elapsed>x", "takes a time"), ("name~", "what follows name~"), ("error~(", "no regular expression")],
)
def test_times_and_patterns_that_are_wrong_are_reported(text: str, words: str) -> None:
    assert words in parse_query(text).problem


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("sta", "state:"),
        ("x ela", "x elapsed>"),
        ("state:fa", "state:failed"),
        ("not state:ba", 'not state:"backing off"'),
        ('state:"backing o', 'state:"backing off"'),
        ("group:s", "group:shop"),
        ("(state:su", "(state:succeeded"),
        ("s", ""),
        ("", ""),
        ("state:failed", ""),
        ("hello ", ""),
    ],
)
def test_completion_of_the_last_term(text: str, completed: str) -> None:
    assert completion(text, lambda: ["shop"]) == completed


def test_timed_query_says_so() -> None:
    assert parse_query("a or elapsed>2s").is_timed
    assert not parse_query("luck>0.5").is_timed
