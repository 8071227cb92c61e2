"""Restarts: the window that counts them, their backoff, and the children that are restarted together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import RestartBackoff
from asyncwatch.engine.tree import errors
from asyncwatch.policies.restart import (
    Reason,
    RestartType,
    RestartWindow,
    SpecError,
    Strategy,
    is_restarted,
    restarted_together,
)


def test_window_forgets_restarts_older_than_the_period() -> None:
    window = RestartWindow(1, 10.0)
    assert [window.add(now) for now in (0.0, 10.5, 20.5, 30.6)] == [True, True, False, True]


@given(st.lists(st.floats(0, 5), max_size=30), st.integers(0, 4), st.floats(0.5, 10))
def test_window_counts_restarts_within_the_period_at_any_times(gaps: list[float], most: int, within: float) -> None:
    window, now, times = RestartWindow(most, within), 0.0, list[float]()
    for gap in gaps:
        now += gap
        times.append(now)
        has_room = window.has_room(now)
        assert window.add(now) is has_room is (sum(time + within >= now for time in times) <= most)


@pytest.mark.parametrize(
    ("restart", "restarted"),
    [
        ("permanent", {"normal", "shutdown", "abnormal", "ignored"}),
        ("transient", {"abnormal"}),
        ("temporary", set()),
    ],
)
def test_restart_type_decides_by_the_reason(restart: RestartType, restarted: set[str]) -> None:
    assert {reason.value for reason in Reason if is_restarted(restart, reason)} == restarted


@pytest.mark.parametrize(
    ("strategy", "names"),
    [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])],
)
def test_strategy_decides_which_children_are_restarted_together(strategy: Strategy, names: list[str]) -> None:
    assert list(restarted_together(strategy, ("a", "b", "c"), "b")) == names


def test_backoff_by_default_restarts_at_once() -> None:
    assert [RestartBackoff().delay(restart, 0.9) for restart in (1, 2, 5000)] == [0.0, 0.0, 0.0]


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_half_to_all_of_the_ceiling(restart: int, jitter: float) -> None:
    backoff = RestartBackoff(base=1.0, factor=3.0, cap=100.0)
    ceiling = min(100.0, 3.0 ** min(restart - 1, 100))
    assert ceiling / 2 <= backoff.delay(restart, jitter) <= ceiling


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": -1.0}, "base: must be 0 seconds or more"),
        ({"base": True}, "base: must be a number"),
        ({"factor": 0.5}, "factor: must be 1 or more"),
        ({"factor": math.inf}, "factor: must be 1 or more"),
        ({"base": 31.0}, r"cap \(30s\) must not be below base \(31s\)"),
        ({"stable_after": math.nan}, "stable_after: must be 0 seconds or more"),
    ],
)
def test_backoff_setting_out_of_range_is_an_error_of_specs(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidBackoff, match=words) as caught:
        RestartBackoff(**settings)
    assert isinstance(caught.value, SpecError)
