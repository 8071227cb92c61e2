"""Counts of the last seconds."""

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


def test_series_counts_whole_seconds() -> None:
    """Each number is one second of the run, oldest first, the present one last; before the start it is 0."""
    rate = rate_of(0.0, 0.99, 1.0, 3.2, 3.3, 3.4)
    assert rate.series(3.5, 6) == [0, 0, 2, 1, 0, 3]
    assert rate.series(5.0, 3) == [3, 0, 0]


@pytest.mark.parametrize("now", [2.0, 7.1, 100.0, 1000.0])
def test_steady_rate_reads_as_it_is(now: float) -> None:
    """Ten a second read as about ten a second, early and late in a run."""
    rate = rate_of(*(tenth / 10 for tenth in range(int(now * 10))))
    assert rate.per_second(now) == pytest.approx(10, rel=0.1)


def test_rate_falls_to_nothing() -> None:
    """Two seconds and a bit after the last one the rate is 0."""
    assert rate_of(1.0, 1.1).per_second(3.5) == 0


def test_what_is_too_old_is_forgotten() -> None:
    """A late time within the kept minutes counts, one before them does not, and neither disturbs the present."""
    rate = rate_of(1000.0, 999.0, 1.0)
    assert rate.series(1000.5, 2) == [1, 1]
    assert sum(rate.series(1000.5, 1001)) == 2


@given(st.lists(st.floats(0, 250), max_size=30), st.integers(1, 400))
def test_series_loses_nothing(times: list[float], seconds: int) -> None:
    """Within the minutes that are kept the series counts exactly what ended in each second."""
    expected = [sum(int(at) == second for at in times) for second in range(250 - seconds + 1, 251)]
    assert rate_of(*times).series(250.0, seconds) == expected
