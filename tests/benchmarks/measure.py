"""Measurements and findings: repeat alternately, take the median, compare with a goal."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: `pairs` of each kind. A quick run uses small sizes and only shows that a case works."""

    pairs: int = 5
    is_quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """Return `quick` in a quick run, else `full`."""
        return quick if self.is_quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit, the side of it that a figure has to be on, and the unit of both."""

    side: Literal[">=", "<="]
    limit: float
    unit: str = "x"

    def is_met(self, figure: float) -> bool:
        """Return whether `figure` is on the required side."""
        return figure >= self.limit if self.side == ">=" else figure <= self.limit

    def __str__(self) -> str:
        return f"{self.side} {amount(self.limit, self.unit)}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a case. `spread` is the lowest and highest measurement, or None for a single measurement."""

    what: str
    figure: float
    unit: str = "x"
    spread: tuple[float, float] | None = None
    goal: Goal | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """The figure with its unit and spread."""
        text = amount(self.figure, self.unit)
        if self.spread is None:
            return text
        low, high = (amount(end, self.unit) for end in self.spread)
        return f"{text} ({low} to {high})"

    @property
    def goal_met(self) -> str:
        """`yes` or `NO`; empty without a goal."""
        return "" if self.goal is None else "yes" if self.goal.is_met(self.figure) else "NO"


def amount(number: float, unit: str) -> str:
    """Format a number with two or three significant digits."""
    digits = 2 if unit == "x" else 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f} {unit}"


def alternate(
    effort: Effort,
    measures: Mapping[str, Callable[[], float]],
    *,
    times: int = 1,
    warm_up: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Call all `measures` alternately (A B A B), `times` the pairs of the effort, and return their figures.

    Unless the effort is quick, a warm-up comes first: `warm_up()`, or one call of each measure.
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
    """Return the median ratio of each figure to its peer from the same round."""
    return median_of(what, [figure / peer for figure, peer in zip(figures, peers, strict=True)], goal=goal, note=note)


def median_of(
    what: str, figures: Sequence[float], *, unit: str = "x", goal: Goal | None = None, note: str = ""
) -> Finding:
    """Return the median of `figures` and their spread."""
    return Finding(what, statistics.median(figures), unit, (min(figures), max(figures)), goal, note)


def percentile(figures: Sequence[float], quantile: float) -> float:
    """Return the smallest figure that is not below a share `quantile`, in (0, 1], of all figures."""
    return sorted(figures)[math.ceil(quantile * len(figures)) - 1]


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
