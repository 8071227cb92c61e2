"""Draws of bad luck: uniform, and dependent on their key alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import BadLuck
from asyncwatch.policies.bad_luck import MAX_SEED, Luck, draw_seed

keys = st.tuples(st.text(), st.text(), st.integers(1, 10**9), st.integers(1, 10**9))


@given(st.integers(0, MAX_SEED), keys)
def test_draw_of_the_same_seed_and_key_is_equal_and_in_range(seed: int, key: tuple[str, str, int, int]) -> None:
    luck = Luck(seed)
    luck.draw("other", "worker", 1, 1)
    drawn = luck.draw(*key)
    assert drawn == Luck(seed).draw(*key)
    assert 0 <= drawn < 1


def test_draw_of_a_known_seed_never_changes() -> None:
    """A run can be repeated with any later version."""
    luck = Luck(4127)
    drawn = [luck.draw("luck", str(worker), 1, 1) for worker in range(4)]
    assert drawn == [0.449667, 0.847521, 0.874372, 0.300708]


def test_draw_of_another_seed_or_key_differs() -> None:
    drawn = {
        Luck(1).draw("luck", "a", 1, 1),
        Luck(2).draw("luck", "a", 1, 1),
        Luck(1).draw("fault", "a", 1, 1),
        Luck(1).draw("luck", "b", 1, 1),
        Luck(1).draw("luck", "a", 2, 1),
        Luck(1).draw("luck", "a", 1, 2),
        Luck(1).draw("luck", "a", 11, 1),
        Luck(1).draw("luck", "a", 1, 11),
    }
    assert len(drawn) == 8


def test_draws_are_uniform() -> None:
    """Each of ten bins holds 1,000 of 10,000 draws, within 5 standard deviations."""
    luck = Luck(7)
    bins = Counter(int(luck.draw("luck", str(n), 1, 1) * 10) for n in range(10_000))
    assert all(abs(count - 1000) < 5 * 30 for count in bins.values())
    assert len(bins) == 10


def test_seed_is_fresh_each_time_and_refused_out_of_range() -> None:
    assert len({draw_seed() for _ in range(20)}) > 15
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(ValueError, match="seed"):
            Luck(seed)


def test_fault_gets_an_equal_share_of_the_draws() -> None:
    luck = BadLuck(threshold=0.9, faults=(ValueError, KeyError))
    assert isinstance(luck.fault(0.0), ValueError)
    assert isinstance(luck.fault(0.4999), ValueError)
    assert isinstance(luck.fault(0.5), KeyError)
    assert isinstance(luck.fault(0.999999), KeyError)


def test_bad_luck_with_an_invalid_threshold_or_no_faults_is_refused() -> None:
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            BadLuck(threshold=threshold)
    with pytest.raises(ValueError, match="fault"):
        BadLuck(faults=())


def test_fault_is_chosen_in_proportion_to_its_weight() -> None:
    luck = BadLuck(faults=(ValueError, KeyError, OSError), weights=(0.0, 3.0, 1.0))
    chosen = Counter(type(luck.fault(draw / 1000)).__name__ for draw in range(1000))
    assert chosen == {"KeyError": 750, "OSError": 250}
    assert isinstance(BadLuck(faults=(ValueError, KeyError), weights=(1.0, 0.0)).fault(0.999999), ValueError)


@given(st.floats(0, 1, exclude_max=True), st.lists(st.just(1.0), min_size=3, max_size=3))
def test_fault_with_equal_weights_is_the_same_as_without_weights(draw: float, weights: list[float]) -> None:
    faults = (ValueError, KeyError, OSError)
    weighted = BadLuck(faults=faults, weights=tuple(weights))
    assert type(weighted.fault(draw)) is type(BadLuck(faults=faults).fault(draw))


def test_latency_is_drawn_from_its_range() -> None:
    luck = BadLuck(latency=(1.0, 3.0))
    assert [luck.added_latency(draw) for draw in (0.0, 0.5, 0.75)] == [1.0, 2.0, 2.5]
    assert BadLuck().added_latency(0.5) == 0.0


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"weights": (1.0,)}, "1 weights for 3 faults"),
        ({"weights": (0.0, 0.0, 0.0)}, "weights"),
        ({"weights": (-1.0, 1.0, 1.0)}, "weights"),
        ({"latency": (2.0, 1.0)}, "latency"),
        ({"latency": (-1.0, 1.0)}, "latency"),
        ({"latency": (0.0, float("inf"))}, "latency"),
    ],
)
def test_bad_luck_with_invalid_weights_or_latency_is_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        BadLuck(**settings)
