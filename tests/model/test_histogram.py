"""Quantiles of durations, compared with the exact ones."""

from __future__ import annotations

import math
import sys

from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.model.statistics import LONGEST, RELATIVE_ERROR, SHORTEST, Histogram

DURATIONS = st.floats(min_value=SHORTEST, max_value=LONGEST)


def histogram_of(durations: list[float]) -> Histogram:
    """Return a histogram of `durations`."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram


@given(st.lists(DURATIONS, min_size=1), st.floats(0, 1))
def test_quantile_is_within_the_relative_error_of_its_rank(durations: list[float], q: float) -> None:
    exact = sorted(durations)[max(1, math.ceil(q * len(durations))) - 1]
    quantile = histogram_of(durations).quantile(q)
    assert quantile is not None
    assert abs(quantile - exact) <= exact * RELATIVE_ERROR * (1 + 1e-9)


@given(st.lists(st.floats(min_value=-1, max_value=1e9), min_size=1))
def test_quantiles_lie_between_the_extremes_and_never_shrink(durations: list[float]) -> None:
    histogram = histogram_of(durations)
    quantiles = [histogram.quantile(q / 10) or 0.0 for q in range(11)]
    assert quantiles == sorted(quantiles)
    assert max(0.0, min(durations)) <= quantiles[0]
    assert quantiles[-1] == max(0.0, *durations)


@given(st.lists(st.lists(st.floats(min_value=-1, max_value=1e9), min_size=1)))
def test_durations_counted_many_at_once_equal_those_counted_one_by_one(parts: list[list[float]]) -> None:
    histogram = Histogram()
    for part in parts:
        histogram.add_all(part)
    one_by_one = histogram_of([seconds for part in parts for seconds in part])
    for attribute in Histogram.__slots__:
        assert getattr(histogram, attribute) == getattr(one_by_one, attribute)


def test_histogram_empty_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


def test_histogram_memory_is_bounded() -> None:
    histogram = histogram_of([10.0**exponent for exponent in range(-12, 12)])
    assert sys.getsizeof(histogram._buckets) < 8_000
    assert histogram.count == 24
