"""Halt: the number of failures after which a batch stops."""

from __future__ import annotations

import pytest

from asyncwatch import Halt, parse_halt


@pytest.mark.parametrize(
    ("text", "workers", "limit"),
    [
        ("10", 5, 10),
        ("first", 1000, 1),
        ("5%", 100, 5),
        ("5 %", 101, 6),
        ("5%", 3, 1),
        ("0.1%", 1000, 1),
        ("100%", 7, 7),
        ("7%", 100, 7),
    ],
)
def test_halt_limit_is_a_number_a_share_or_the_first_failure(text: str, workers: int, limit: int) -> None:
    assert parse_halt(text).limit(workers) == limit


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "some", "5.5", "last"])
def test_halt_with_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="halt"):
        parse_halt(text)


def test_halt_with_contradicting_or_unknown_arguments_is_refused() -> None:
    for settings in ({}, {"failures": 1, "share": 0.5}, {"failures": 1, "mode": "later"}):
        with pytest.raises(ValueError, match=r"halt|mode"):
            Halt(**settings)
