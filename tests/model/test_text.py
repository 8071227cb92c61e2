"""Foreign text made safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.text import clock, duration, mask_secrets, one_line, printable, result_line, value_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb", r"a\nb"),
        ("\x9b1m", r"\x9b1m"),
        ("\u202eevil", r"\u202eevil"),
        ("\udcff", r"\udcff"),
        ("日本\u3000語", "日本 語"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    """Control, bidirectional and surrogate characters are shown, not obeyed; words stay as they are."""
    assert printable(text) == shown


@given(st.text(alphabet=st.characters()))
def test_printable_text_has_no_control_character(text: str) -> None:
    """Whatever comes in, what goes out can be encoded and holds no control or line separator."""
    shown = printable(text)
    shown.encode("utf-8")
    assert all(char.isprintable() or char in "\u200c\u200d" for char in shown)
    assert printable(shown) == shown


@given(st.text(), st.integers(2, 50))
def test_one_line_is_bounded(text: str, limit: int) -> None:
    """The line is never longer than allowed and never more than one line."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_long_text_is_cut_with_an_ellipsis() -> None:
    """What is left out leaves a trace, also when the white space before it was made short."""
    assert one_line("x" * 10, 4) == "xxx…"
    assert one_line("a \n\t b", 9) == "a b"
    assert one_line(" " * 1_000 + "x", 4) == "…"


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (None, None),
        (200, "200"),
        (True, "true"),
        ("two\nlines", "two lines"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ("https://u:p@host/", "https://***@host/"),
        ("\udcff", r"\udcff"),
        (["\udcff"], r"['\udcff']"),
    ],
)
def test_result_lines(result: object, line: str | None) -> None:
    """A string is shown as it is, anything else as JSON, what JSON cannot hold by its repr; no secret is."""
    assert result_line(result) == line


def test_huge_results_are_cut() -> None:
    """A result of megabytes is a line of 200 characters."""
    assert len(result_line("x" * 10_000_000) or "") == 200
    assert value_text(2**70) == str(2**70)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00.0"), (3.29, "00:03.2"), (75.0, "01:15.0"), (3723.4, "1:02:03.4"), (-1, "00:00.0")],
)
def test_clock(seconds: float, text: str) -> None:
    """A time of the run is minutes, seconds and tenths, cut rather than rounded; hours when there are any."""
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.212, "212 ms"),
        (0.9999, "1.00 s"),
        (1.04, "1.04 s"),
        (59.999, "1m 00s"),
        (123, "2m 03s"),
        (7500, "2h 05m"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """A length of time is rounded to what one wants to know, without a jump between the units."""
    assert duration(seconds) == text


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
def test_mask_secrets_masks_only_credentials_of_urls(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked
