"""The rate of ended attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.model.statistics import Pace, Rate


def rate_of(*times: float) -> Rate:
    """Return the rate of things that ended at `times`."""
    rate = Rate()
    for at in times:
        rate.add(at)
    return rate


def test_series_counts_whole_seconds_oldest_first() -> None:
    rate = rate_of(0.0, 0.99, 1.0, 3.2, 3.3, 3.4)
    assert rate.series(3.5, 6) == [0, 0, 2, 1, 0, 3]
    assert rate.series(5.0, 3) == [3, 0, 0]


@pytest.mark.parametrize("now", [2.0, 7.1, 100.0, 1000.0])
def test_per_second_of_a_steady_rate_is_that_rate(now: float) -> None:
    rate = rate_of(*(tenth / 10 for tenth in range(int(now * 10))))
    assert rate.per_second(now) == pytest.approx(10, rel=0.1)


def test_per_second_is_0_after_the_window() -> None:
    assert rate_of(1.0, 1.1).per_second(3.5) == 0


def test_times_older_than_the_ring_are_not_counted() -> None:
    rate = rate_of(1000.0, 999.0, 1.0)
    assert rate.series(1000.5, 2) == [1, 1]
    assert sum(rate.series(1000.5, 1001)) == 2


@given(st.lists(st.floats(0, 250), max_size=30), st.integers(1, 400))
def test_series_counts_every_time_within_the_ring(times: list[float], seconds: int) -> None:
    expected = [sum(int(at) == second for at in times) for second in range(250 - seconds + 1, 251)]
    assert rate_of(*times).series(250.0, seconds) == expected


def test_pace_estimates_by_the_last_minute() -> None:
    pace = Pace()
    assert pace.seconds(10, 0.0) is None
    pace.note(0.0, 0)
    assert pace.seconds(10, 5.0) is None
    for second in range(1, 121):
        pace.note(float(second), second * (10 if second > 60 else 1))
    # The minute before has ended at ten a second, with a jump at its beginning.
    assert pace.seconds(100, 120.0) == pytest.approx(100 * 60 / (1200 - 60))


def test_pace_counts_restarted_workers_and_starts_over_at_an_earlier_moment() -> None:
    pace = Pace()
    pace.note(0.0, 0)
    pace.note(5.0, 10)
    pace.note(6.0, 4)  # six were restarted
    pace.note(10.0, 14)
    assert pace.seconds(20, 10.0) == 10.0
    pace.note(2.0, 1)
    assert pace.seconds(20, 3.0) is None


@given(st.lists(st.lists(st.floats(0, 1_000), min_size=1, max_size=5)))
def test_attempts_counted_many_at_once_equal_those_counted_one_by_one(parts: list[list[float]]) -> None:
    rate = Rate()
    for part in parts:
        rate.add_all(part)
    one_by_one = rate_of(*(at for part in parts for at in part))
    assert rate.series(1_000, 1_001) == one_by_one.series(1_000, 1_001)
