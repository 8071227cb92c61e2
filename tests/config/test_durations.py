"""Durations: parsed and formatted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.text import MAX_DURATION, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("100ms", 0.1),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("7", 7),
        ("0", 0),
        (" 5 s ", 5),
        (".5s", 0.5),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_duration_of_every_form_is_parsed_exactly(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "reads like"),
        ("s", "reads like"),
        ("5x", "reads like"),
        ("1e3s", "reads like"),
        ("nan", "reads like"),
        ("inf", "reads like"),
        ("1s2s", "reads like"),
        ("٣s", "reads like"),
        ("-1s", "0 or more"),
        (-1, "0 or more"),
        (float("nan"), "0 or more"),
        (float("inf"), "at most"),
        ("9" * 400 + "h", "at most"),
        (10**400, "at most"),
        (True, "a duration is"),
    ],
)
def test_duration_of_any_other_form_is_refused_in_one_line(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_duration(wrong)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (1.5, "1.5s"), (120, "2m"), (3600, "1h"), (90, "90s"), (0, "0s"), (None, "none")],
)
def test_duration_is_formatted_in_the_largest_whole_unit(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, MAX_DURATION))
def test_duration_that_was_formatted_is_parsed_to_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12, abs=1e-9)
