"""Halt: after how many failures a batch stops."""

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
def test_halt_limit_of_a_batch(text: str, workers: int, limit: int) -> None:
    """A number of failures, a share of all workers, or the first one."""
    assert parse_halt(text).limit(workers) == limit


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "some", "5.5", "last"])
def test_halt_other_text_is_refused(text: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match="halt"):
        parse_halt(text)


def test_halt_contradiction_is_refused() -> None:
    """A number and a share at once, neither, and an unknown mode are ValueErrors."""
    for settings in ({}, {"failures": 1, "share": 0.5}, {"failures": 1, "mode": "later"}):
        with pytest.raises(ValueError, match=r"halt|mode"):
            Halt(**settings)
