"""`Retry-After`: the wait that an error requests."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.policies.classify import parse_retry_after, retry_after_of
from tests.engine.errors import RetryAfterError

NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("9" * 5000, math.inf),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
        ("Sun, 06 Nov 1994 08:51:37 -0000", 120.0),
        ("Sunday, 06-Nov-94 08:51:37 GMT", 120.0),
        ("Sun Nov  6 08:51:37 1994", 120.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", 1.5),
        (".5", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:51:37 GMT", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_an_http_date(value: str, seconds: float | None) -> None:
    """A date in the past requests no wait."""
    assert parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_retry_after_of_any_text_is_a_wait_or_none(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RetryAfterError(retry_after=2.5), 2.5),
        (RetryAfterError(retry_after=0), 0.0),
        (RetryAfterError(retry_after=-1), None),
        (RetryAfterError(retry_after=math.nan), None),
        (RetryAfterError(retry_after=True), None),
        (RetryAfterError(headers={"Retry-After": "3"}), 3.0),
        (RetryAfterError(headers={"Retry-After": 3}), None),
        (RetryAfterError(headers={}), None),
        (RetryAfterError(headers=[("Retry-After", "3")]), None),
        (ValueError(), None),
    ],
)
def test_retry_after_of_an_error_is_its_attribute_or_its_header(error: Exception, seconds: float | None) -> None:
    assert retry_after_of(error, NOW) == seconds
