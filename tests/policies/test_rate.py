"""Rate limits: their text, and the token bucket that keeps them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import RateLimit, parse_rate
from asyncwatch.policies.rate import TokenBucket, change_rate


@pytest.mark.parametrize(
    ("text", "per_second", "shown"),
    [
        ("50/s", 50.0, "50/s"),
        (" 0.5 / s ", 0.5, "30/min"),
        ("90/min", 1.5, "1.5/s"),
        ("90/m", 1.5, "1.5/s"),
        ("36/h", 0.01, "36/h"),
        ("3/10s", 0.3, "18/min"),
        ("1/250ms", 4.0, "4/s"),
    ],
)
def test_rate_is_parsed_and_formatted(text: str, per_second: float, shown: str) -> None:
    limit = parse_rate(text)
    assert limit.per_second == pytest.approx(per_second)
    assert str(limit) == shown
    assert parse_rate(shown).per_second == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "50", "/s", "50/", "50/day", "-1/s", "0/s", "5/0s", "1e3/s", "many/s"])
def test_rate_with_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate"):
        parse_rate(text)


def test_burst_defaults_to_one_attempt_or_10_ms_of_the_rate() -> None:
    """A burst below 1 is refused."""
    assert parse_rate("50/s").at_once == 1
    assert parse_rate("5000/s").at_once == 50
    assert parse_rate("50/s", burst=7).at_once == 7
    with pytest.raises(ValueError, match="burst"):
        RateLimit(per_second=1.0, burst=0)


rates = st.builds(RateLimit, per_second=st.floats(0.1, 1000), burst=st.none() | st.integers(1, 20))
waits = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(rates, waits)
def test_bucket_never_exceeds_the_rate_after_a_burst(limit: RateLimit, gaps: list[float]) -> None:
    bucket, now, starts = TokenBucket(limit, 0.0), 0.0, list[float]()
    for gap in gaps:
        now += gap
        while bucket.is_free(now):
            bucket.take(now)
            starts.append(now)
    for first, start in enumerate(starts):
        for last in range(first, len(starts)):
            allowed = limit.at_once + (starts[last] - start) * limit.per_second
            assert last - first + 1 <= allowed + 1e-3


@given(rates, waits)
def test_bucket_matches_exact_arithmetic(limit: RateLimit, gaps: list[float]) -> None:
    """It agrees with a model in fractions, except within rounding of a whole token."""
    bucket, now = TokenBucket(limit, 0.0), 0.0
    level, before, rate = Fraction(limit.at_once), Fraction(0), Fraction(limit.per_second)
    for gap in gaps:
        now += gap
        level = min(Fraction(limit.at_once), level + (Fraction(now) - before) * rate)
        before = Fraction(now)
        for ahead in (0, 1, 5):
            if abs(level - ahead - 1) > 1e-6:
                assert bucket.is_free(now, ahead) is (level >= ahead + 1)
        if bucket.is_free(now):
            bucket.take(now)
            level -= 1
    assert bucket.tokens(now) == pytest.approx(float(level), abs=1e-6)


@given(rates, waits)
def test_bucket_is_free_after_the_wait_and_not_before(limit: RateLimit, gaps: list[float]) -> None:
    bucket, now = TokenBucket(limit, 0.0), 0.0
    for gap in gaps:
        now += gap
        while bucket.is_free(now):
            bucket.take(now)
        wait = bucket.wait(now)
        assert wait >= 0.001
        if wait > 0.001:
            assert not bucket.is_free(now + wait * 0.999)
        assert bucket.is_free(now + wait)
        now += wait


@given(rates, rates, st.floats(0, 10))
def test_bucket_changed_limit_keeps_tokens_up_to_its_burst(old: RateLimit, new: RateLimit, now: float) -> None:
    bucket = TokenBucket(old, 0.0)
    while bucket.is_free(now):
        bucket.take(now)
    left = bucket.tokens(now)
    bucket.change(new, now)
    assert bucket.tokens(now) == min(left, new.at_once)
    assert bucket.tokens(now + 1e9) == new.at_once


@pytest.mark.parametrize(
    ("text", "old", "limit", "undo"),
    [
        ("5/s", None, "5/s", None),
        ("5/s", "9/s burst 3", "5/s burst 3", "9/s burst 3"),
        ("5/s burst 2", "9/s", "5/s burst 2", "9/s burst 1"),
        ("5/s burst 2", "9/s burst 3", "5/s burst 2", "9/s burst 3"),
    ],
)
def test_rate_change_keeps_the_burst_and_can_be_undone(
    text: str, old: str | None, limit: str, undo: str | None
) -> None:
    before = None if old is None else parse_rate(old)
    changed, redo_text, undo_text = change_rate(text, before)
    assert (str(changed), undo_text) == (limit, undo)
    if before is not None and undo_text is not None:
        assert change_rate(undo_text, changed)[0].at_once == before.at_once
        assert change_rate(redo_text, before)[0] == changed


def test_bucket_is_full_when_its_tokens_have_come_back() -> None:
    bucket = TokenBucket(RateLimit(per_second=2.0, burst=3), 0.0)
    assert bucket.is_full(0.0)
    bucket.take(0.0)
    bucket.take(0.0)
    assert not bucket.is_full(0.5)
    assert bucket.is_full(1.0)
