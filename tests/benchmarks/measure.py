"""Measurements and findings: repeat alternately, take the median, compare with a goal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

_T = TypeVar("_T")
_PER_SECOND = {"us": 1e6, "ms": 1e3, "s": 1.0}


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


class Cost(NamedTuple):
    """What work took, in seconds."""

    processor: float
    wall: float

    def each(self, count: int, *, beyond: Cost | None = None) -> Cost:
        """Return the share of each of `count` pieces of work, after the cost of the start (`beyond`) is subtracted."""
        start = beyond or Cost(0.0, 0.0)
        return Cost((self.processor - start.processor) / count, (self.wall - start.wall) / count)


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of a case.

    Attributes:
        what: what was measured.
        figure: the figure.
        unit: its unit; `x` is a ratio.
        spread: the lowest and highest measurement; None for a single measurement.
        goal: the goal of the figure, if it has one.
        note: more about the measurement.
        processor: the processor time of each side.
        wall: the wall time of each side.

    """

    what: str
    figure: float
    unit: str = "x"
    spread: tuple[float, float] | None = None
    goal: Goal | None = None
    note: str = ""
    processor: str = ""
    wall: str = ""

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
        """`met` or `NO`; empty without a goal."""
        return "" if self.goal is None else "met" if self.goal.is_met(self.figure) else "NO"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that cannot be measured here, and why."""

    what: str
    why: str


def amount(number: float, unit: str) -> str:
    """Format a number with two or three significant digits."""
    digits = 2 if unit == "x" else 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    return f"{number:,.{digits}f} {unit}"


def alternate(effort: Effort, measures: Mapping[str, Callable[[], _T]], *, times: int = 1) -> dict[str, list[_T]]:
    """Call all `measures` alternately (A B A B), `times` the pairs of the effort, and return their figures."""
    figures: dict[str, list[_T]] = {name: [] for name in measures}
    for _ in range(effort.pairs * (1 if effort.is_quick else times)):
        for name, measure in measures.items():
            figures[name].append(measure())
    return figures


def ratio(
    what: str, figures: Sequence[float], peers: Sequence[float], goal: Goal | None = None, note: str = ""
) -> Finding:
    """Return the median ratio of each figure to its peer from the same round."""
    return median_of(what, [figure / peer for figure, peer in zip(figures, peers, strict=True)], goal=goal, note=note)


def compare(
    what: str,
    costs: Sequence[Cost],
    peers: Sequence[Cost],
    goal: Goal | None = None,
    note: str = "",
    *,
    unit: str = "us",
) -> Finding:
    """Return the median ratio of the processor time of each cost to its peer's from the same round.

    Both times stand beside it, in `unit`: `us`, `ms` or `s`.
    """
    found = ratio(what, [cost.processor for cost in costs], [cost.processor for cost in peers], goal, note)
    return beside(found, costs, peers, unit)


def beside(found: Finding, costs: Sequence[Cost], peers: Sequence[Cost], unit: str) -> Finding:
    """Return the finding with the median processor and wall time of both sides, in `us`, `ms` or `s`."""
    processor = _against([cost.processor for cost in costs], [cost.processor for cost in peers], unit)
    wall = _against([cost.wall for cost in costs], [cost.wall for cost in peers], unit)
    return replace(found, processor=processor, wall=wall)


def _against(figures: Sequence[float], peers: Sequence[float], unit: str) -> str:
    own, peer = (amount(statistics.median(side) * _PER_SECOND[unit], unit) for side in (figures, peers))
    return f"{own} against {peer.removesuffix(f' {unit}')}"


def median_of(
    what: str, figures: Sequence[float], *, unit: str = "x", goal: Goal | None = None, note: str = ""
) -> Finding:
    """Return the median of `figures` and their spread."""
    return Finding(what, statistics.median(figures), unit, (min(figures), max(figures)), goal, note)


def percentile(figures: Sequence[float], quantile: float) -> float:
    """Return the smallest figure that is not below a share `quantile`, in (0, 1], of all figures."""
    return sorted(figures)[math.ceil(quantile * len(figures)) - 1]
