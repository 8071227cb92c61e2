"""Formatting of text from outside, results, times and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.text import (
    clock,
    duration,
    mask_secrets,
    mask_url,
    mask_urls,
    one_line,
    printable,
    result_line,
    value_text,
)


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
def test_printable_escapes_terminal_controls(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.characters()))
def test_printable_of_any_text_can_be_encoded_and_has_no_control_character(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert all(char.isprintable() or char in "\u200c\u200d" for char in shown)
    assert printable(shown) == shown


@given(st.text(), st.integers(2, 50))
def test_one_line_of_any_text_is_one_line_within_the_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_one_line_long_text_ends_in_an_ellipsis() -> None:
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
def test_result_line_shows_text_json_or_repr_without_secrets(result: object, line: str | None) -> None:
    assert result_line(result) == line


def test_result_line_huge_result_is_cut() -> None:
    assert len(result_line("x" * 10_000_000) or "") == 200
    assert value_text(2**70) == str(2**70)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00.0"), (3.29, "00:03.2"), (75.0, "01:15.0"), (3723.4, "1:02:03.4"), (-1, "00:00.0")],
)
def test_clock_cuts_to_tenths_of_a_second(seconds: float, text: str) -> None:
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
def test_duration_is_rounded_by_unit(seconds: float, text: str) -> None:
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
        ('http://u:a"b<c>d@host/', "http://***@host/"),
        ('http://u:"x@y@host/', "http://***@host/"),
        ("http://u:a,b;c@host/", "http://***@host/"),
        ('http://u:12,"3@host/', "http://***@host/"),
        ("redis://:12;3@host/0", "redis://***@host/0"),
        ("http://localhost:80,b@c.example", "http://localhost:80,b@c.example"),
        ("http://10.0.0.7:80;b@c.example", "http://10.0.0.7:80;b@c.example"),
        ("http://DOM\\u:pw@host/", "http://***@host/"),
        ("http://u:p/w@host/", "http://***@host/"),
        ("at http://u:p#w?@x/y@host/ there", "at http://***@host/ there"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("file:///c:/a@b", "file:///c:/a@b"),
        ("{'a': 'http://x:y/z', 'b': 'c@d'}", "{'a': 'http://x:y/z', 'b': 'c@d'}"),
        ("http://a.example\nb@c.example", "http://a.example\nb@c.example"),
        (r'["http://a.example\nb@c.example"]', r'["http://a.example\nb@c.example"]'),
        ('["http://a.example","b@c.example"]', '["http://a.example","b@c.example"]'),
        ('<a href="http://a.example:81">b@c.example</a>', '<a href="http://a.example:81">b@c.example</a>'),
        ("http://a.example,b@c.example", "http://a.example,b@c.example"),
        ("(http://a.example:8080),b@c.example", "(http://a.example:8080),b@c.example"),
        ('<a href="http://u:p@a.example">b@c.example</a>', '<a href="http://***@a.example">b@c.example</a>'),
    ],
)
def test_credentials_of_urls_are_masked_and_nothing_else_of_them(text: str, masked: str) -> None:
    assert mask_secrets(text) == mask_urls(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("login failed: password=hunter2", "login failed: password=***"),
        ("PASSWORD = 'hunter 2', user=me", "PASSWORD = ***, user=me"),
        ('{"password": "hunter2", "user": "me"}', '{"password": ***, "user": "me"}'),
        ("{'db_password': 'hunter2'}", "{'db_password': ***}"),
        ("password: hunter2", "password: ***"),
        ("password: correct", "password: ***"),
        ("https://host/?a=1&access_token=abc&b=2", "https://host/?a=1&access_token=***&b=2"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dTpw'}", "{'Authorization': 'Basic ***'}"),
        ("sent Bearer eyJhbGciOi.J9 to", "sent Bearer *** to"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c x", "AWS_SECRET_ACCESS_KEY=*** x"),
        ("client-secret=x;api_key=y", "client-secret=***;api_key=***"),
        ("postgres://u:p@db/x?password=y", "postgres://***@db/x?password=***"),
    ],
)
def test_secrets_are_masked_once(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "invalid token: expected ','",
        "Unexpected token: }",
        "password: field required",
        "http.headers.Authorization: environment variable API_TOKEN is not set",
        "max_tokens=100 of 200, tokens=7",
        "the bearer of bad news",
        "wrong password",
        "api=3, access=rw, private=1, secretary=Ann, compass=north",
        "password of ann=wrong",
    ],
)
def test_prose_about_secrets_is_left_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://u:a/b?c#d e@host/x", "http://***@host/x"),
        ("u:pw@host", "u:***@host"),
        ("https:u:pw@host/", "https:***@host/"),
        ("https:/u:pw@host/", "https:/***@host/"),
        ("//u:pw@host/", "***@host/"),
        ("http://u:p@w@host/", "http://***@host/"),
        ("http://host/", "http://host/"),
    ],
)
def test_mask_url_masks_whatever_is_before_the_last_at_sign(text: str, masked: str) -> None:
    assert mask_url(text) == masked


def test_result_without_credentials_is_shown_whole() -> None:
    assert result_line(["http://a.example\tx", "b@c.example"]) == r'["http://a.example\tx","b@c.example"]'


def test_line_of_a_result_has_no_secret() -> None:
    assert result_line({"password": "hunter2", "n": 1}) == '{"password":***,"n":1}'
