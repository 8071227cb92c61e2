"""How values read on the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.ui.render import format as fmt


def test_glyphs_are_distinct_and_one_cell_wide() -> None:
    assert set(fmt.GLYPHS) == set(WorkerState)
    assert len(set(fmt.GLYPHS.values())) == len(WorkerState)
    assert {cell_len(glyph) for glyph in (*fmt.GLYPHS.values(), fmt.STRUCK)} == {1}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.0004, "0.4 ms"),
        (0.0031, "3 ms"),
        (0.2124, "212 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (1.04, "1.04 s"),
        (59.96, "1m 00s"),
        (3599.6, "1h 00m"),
        (90_000, "1d 01h"),
    ],
)
def test_duration_has_about_three_figures(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@given(st.floats(0, 8_000_000))
def test_duration_fits_seven_cells(seconds: float) -> None:
    assert len(units.duration(seconds)) <= 7
    assert len(units.elapsed(seconds)) <= 7


def test_elapsed_is_in_seconds_and_never_negative() -> None:
    assert units.elapsed(0.21) == "0.21 s"
    assert units.elapsed(12.34) == "12.3 s"
    assert units.elapsed(-1) == "0.00 s"


def test_clock_shows_tenths_and_hours() -> None:
    assert units.clock(3.29) == "00:03.2"
    assert units.clock(3723.4) == "1:02:03.4"


def test_percent_is_full_only_if_nothing_is_missing() -> None:
    assert units.percent(3999, 4000) == "99 %"
    assert units.percent(4000, 4000) == "100 %"
    assert units.percent(0, 0) == "0 %"


def test_count_has_its_noun() -> None:
    assert units.count(1, "worker") == "1 worker"
    assert units.count(4000, "worker") == "4,000 workers"
    assert units.count(2, "event waits", "events wait") == "2 events wait"


@given(st.floats(0, 1), st.integers(1, 40))
def test_bar_has_its_width(fraction: float, width: int) -> None:
    filled, empty = fmt.bar(fraction, width)
    assert len(filled) + len(empty) == width
    halves = filled.count("━") * 2 + filled.count("╸")
    assert abs(halves - fraction * width * 2) <= 0.5


def test_sparkline_small_value_is_above_zero() -> None:
    assert fmt.sparkline([0, 1, 100]) == "▁▂█"
    assert fmt.sparkline([0, 0]) == "▁▁"
    assert fmt.sparkline([]) == ""


@given(st.text())
def test_safe_text_is_printable(text: str) -> None:
    assert fmt.safe(text).isprintable()


def test_safe_control_characters_are_escaped() -> None:
    assert fmt.safe("\x1b[31mred") == "\\x1b[31mred"
    assert fmt.safe("a\nb\u202ec") == "a\\nb\\u202ec"
    assert fmt.safe("[bold]x[/]") == "[bold]x[/]"
    assert fmt.safe("日本 é") == "日本 é"
