"""How values read on the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.ui.render import format as fmt


def test_every_state_has_its_own_narrow_glyph() -> None:
    """No two states share a glyph, and each takes one cell."""
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
def test_durations(seconds: float, text: str) -> None:
    """A duration has about three figures, and rounding never writes 60 seconds or 1000 milliseconds."""
    assert units.duration(seconds) == text


@given(st.floats(0, 8_000_000))
def test_durations_fit_their_column(seconds: float) -> None:
    """Up to three months no duration is wider than its column of seven cells."""
    assert len(units.duration(seconds)) <= 7
    assert len(units.elapsed(seconds)) <= 7


def test_elapsed_counts_seconds_from_the_start() -> None:
    """Elapsed time is in seconds however short it is, and never negative."""
    assert units.elapsed(0.21) == "0.21 s"
    assert units.elapsed(12.34) == "12.3 s"
    assert units.elapsed(-1) == "0.00 s"


def test_clock() -> None:
    """The clock shows tenths, and hours once there are any."""
    assert units.clock(3.29) == "00:03.2"
    assert units.clock(3723.4) == "1:02:03.4"


def test_percent_is_full_only_at_the_end() -> None:
    """100 % means that nothing is missing."""
    assert units.percent(3999, 4000) == "99 %"
    assert units.percent(4000, 4000) == "100 %"
    assert units.percent(0, 0) == "0 %"


def test_counts_have_their_noun() -> None:
    """One is singular, thousands are separated."""
    assert units.count(1, "worker") == "1 worker"
    assert units.count(4000, "worker") == "4,000 workers"
    assert units.count(2, "event waits", "events wait") == "2 events wait"


@given(st.floats(0, 1), st.integers(1, 40))
def test_bars_have_their_width(fraction: float, width: int) -> None:
    """A bar is as wide as asked, in half cells true to the fraction."""
    filled, empty = fmt.bar(fraction, width)
    assert len(filled) + len(empty) == width
    halves = filled.count("━") * 2 + filled.count("╸")
    assert abs(halves - fraction * width * 2) <= 0.5


def test_sparkline_shows_the_least_value_above_nothing() -> None:
    """The largest value is full height, nothing is lowest, and something is never drawn as nothing."""
    assert fmt.sparkline([0, 1, 100]) == "▁▂█"
    assert fmt.sparkline([0, 0]) == "▁▁"
    assert fmt.sparkline([]) == ""


@given(st.text())
def test_cleaned_text_can_neither_steer_nor_hide(text: str) -> None:
    """Whatever comes in, what goes out is one printable line."""
    assert fmt.clean(text).isprintable()


def test_escapes_are_shown() -> None:
    """Control and direction characters stand there escaped; markup is text."""
    assert fmt.clean("\x1b[31mred") == "\\x1b[31mred"
    assert fmt.clean("a\nb\u202ec") == "a\\nb\\u202ec"
    assert fmt.clean("[bold]x[/]") == "[bold]x[/]"
    assert fmt.clean("日本 é") == "日本 é"
