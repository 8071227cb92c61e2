"""The rate of ended attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.model.statistics import Rate


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
