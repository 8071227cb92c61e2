"""The filter language of the log."""

from __future__ import annotations

import pytest

from asyncwatch.events import LogRecorded
from asyncwatch.model.view.log_filter import completion, level_number, parse_log_query

LINES = [
    LogRecorded(0, 0.0, "web/1", "INFO", "app.http", "served 12 requests"),
    LogRecorded(1, 1.0, "web/2", "WARNING", "app.http", "slow answer"),
    LogRecorded(2, 2.0, "db", "ERROR", "app.db", "timed out after 7 s"),
    LogRecorded(3, 3.0, None, "CRITICAL", "asyncwatch", "no Memory"),
    LogRecorded(4, 4.0, None, "Level 35", "other", "odd"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("memory", [3]),
        ("WEB", [0, 1]),
        ("level:warn", [1]),
        ("level>=warning", [1, 2, 3, 4]),
        ("level<warning", [0]),
        ("level<=info", [0]),
        ("level>error", [3]),
        ("worker:web slow", [1]),
        ("logger:app.db", [2]),
        ("text~served.*requests", [0]),
        ("worker~^web/[2-9]", [1]),
        ("not worker:web", [2, 3, 4]),
        ("not not db", [2]),
        ("worker:web level:info or db", [0, 2]),
        ("or served or", [0]),
        ('"out after" and db', [2]),
        ("name:web (slow or served)", [0, 1]),
        ("not (web or db)", [3, 4]),
        ("~^web/1|^odd", [0, 4]),
        ("level:error after=7", []),
    ],
)
def test_lines_match(text: str, expected: list[int]) -> None:
    query = parse_log_query(text)
    assert query.problem == ""
    assert [log.seq for log in LINES if query.matches(log)] == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("level:loud", "no level begins with 'loud'"),
        ("level~info", "level takes a comparison"),
        ("worker>3", "worker takes a colon or ~"),
        ("worker:", "what follows worker:?"),
        ("text~(", "no regular expression"),
        ("text~", "what follows text~?"),
        ("state:failed", "no field state in the log: level, name"),
        ("elapsed>2s", "no field elapsed in the log"),
    ],
)
def test_term_that_is_not_understood_is_reported_and_ignored(text: str, problem: str) -> None:
    query = parse_log_query(f"{text} served")
    assert problem in query.problem
    assert [log.seq for log in LINES if query.matches(log)] == [0]


def test_composed_and_decomposed_letters_are_equal() -> None:
    log = LogRecorded(0, 0.0, "cafe\u0301", "INFO", "app", "re\u0301sume\u0301 in app")
    for text in ("caf\u00e9", "name:caf\u00e9", "text~r\u00e9sum\u00e9", '"error:" or r\u00e9sum\u00e9'):
        assert parse_log_query(text).matches(log)


@pytest.mark.parametrize(
    ("text", "completed"),
    [("lev", "level:"), ("level>=w", "level>=warning"), ("(not log", "(not logger:"), ("state:fa", ""), ("w", "")],
)
def test_completion_of_the_last_term(text: str, completed: str) -> None:
    assert completion(text) == completed


def test_level_without_a_name_has_its_number() -> None:
    assert [level_number(log) for log in LINES] == [20, 30, 40, 50, 35]
    assert level_number(LogRecorded(0, 0.0, None, "LOUD", "x", "y")) == 20
