"""What a case measures and how: in turn, several times, against a goal."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: `pairs` measurements of each kind; quick ones are small, and only show that a case works."""

    pairs: int = 5
    is_quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """Return how many of something to take."""
        return quick if self.is_quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit, and on which side of it a figure has to be. `unit` is what the limit is in."""

    side: Literal[">=", "<="]
    limit: float
    unit: str = "x"

    def is_met(self, figure: float) -> bool:
        """Return whether `figure` is on the right side."""
        return figure >= self.limit if self.side == ">=" else figure <= self.limit

    def __str__(self) -> str:
        return f"{self.side} {amount(self.limit, self.unit)}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a case. `spread` is the lowest and the highest of what it is the middle of, None for one figure."""

    what: str
    figure: float
    unit: str = "x"
    spread: tuple[float, float] | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def shown(self) -> str:
        """The figure with its spread."""
        text = amount(self.figure, self.unit)
        if self.spread is None:
            return text
        low, high = (amount(end, self.unit) for end in self.spread)
        return f"{text} ({low} to {high})"

    @property
    def verdict(self) -> str:
        """Whether the goal is met, in a word; empty without a goal."""
        return "" if self.goal is None else "yes" if self.goal.is_met(self.figure) else "NO"


def amount(number: float, unit: str) -> str:
    """Return a number with as many digits as tell something."""
    digits = 2 if unit == "x" else 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f} {unit}"


def in_turn(
    effort: Effort,
    measures: Mapping[str, Callable[[], float]],
    *,
    times: int = 1,
    warm_up: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Return what each of `measures` gave: A B A B, so many `times` the pairs of the effort.

    Before that each is called once for nothing, or `warm_up` is in their place, unless the effort is quick.
    """
    if not effort.is_quick:
        for call in measures.values() if warm_up is None else (warm_up,):
            call()
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(effort.pairs * (1 if effort.is_quick else times)):
        for name, measure in measures.items():
            figures[name].append(measure())
    return figures


def ratio(
    what: str, figures: Sequence[float], peers: Sequence[float], goal: Goal | None = None, note: str = ""
) -> Finding:
    """Return the median of the ratios of each figure to its peer of the same turn."""
    return middle(what, [figure / peer for figure, peer in zip(figures, peers, strict=True)], goal=goal, note=note)


def middle(
    what: str, figures: Sequence[float], *, unit: str = "x", goal: Goal | None = None, note: str = ""
) -> Finding:
    """Return the median of `figures` with their spread."""
    return Finding(what, statistics.median(figures), unit, (min(figures), max(figures)), goal, note)


def percentile(figures: Sequence[float], quantile: float) -> float:
    """Return the smallest figure that at least that part of all, in (0, 1], do not exceed."""
    return sorted(figures)[math.ceil(quantile * len(figures)) - 1]


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
