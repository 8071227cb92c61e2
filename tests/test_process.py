"""The garbage collector, thread switches and memory of the process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from asyncwatch.process import (
    GC_THRESHOLD,
    STARTUP_GC_THRESHOLD,
    SWITCH_INTERVAL,
    infrequent_gc,
    memory,
    paused_gc,
    short_switch_interval,
)


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    """Leave the process as it was."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        (700, GC_THRESHOLD),
        (2_000, GC_THRESHOLD),
        (STARTUP_GC_THRESHOLD, GC_THRESHOLD),
        pytest.param(50_000, 50_000, id="higher"),
        pytest.param(0, 0, id="off"),
    ],
)
def test_infrequent_gc_raises_the_threshold_and_restores_it(before: int, inside: int) -> None:
    gc.set_threshold(before, 10, 10)
    with infrequent_gc():
        assert gc.get_threshold()[0] == inside
    assert gc.get_threshold()[0] == before


def test_infrequent_gc_ignores_objects_that_exist_already() -> None:
    old: list[object] = []
    old.append(old)
    with infrequent_gc():
        assert not any(each is old for each in gc.get_objects())


def test_paused_gc_nested_stays_paused_until_the_outer_end() -> None:
    with paused_gc():
        with paused_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize(("before", "inside"), [(0.005, SWITCH_INTERVAL), (SWITCH_INTERVAL / 2, SWITCH_INTERVAL / 2)])
def test_short_switch_interval_never_lengthens_it(before: float, inside: float) -> None:
    sys.setswitchinterval(before)
    with short_switch_interval():
        assert sys.getswitchinterval() == pytest.approx(inside)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_memory_is_in_bytes() -> None:
    in_use = memory()
    assert in_use is not None
    assert 1_000_000 < in_use < 100_000_000_000
