"""Children that have left their pool: whose rows are kept for a while, and totals of the rows given up. Pure."""

from __future__ import annotations

from collections import Counter

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.error_text import error_kind
from asyncwatch.model.rows import Row

KEPT = 2_000
"""How many rows of children that ended well are kept.

It is more than the names whose incarnations the engine keeps counting, so that a restart it reports finds its row.
"""
TROUBLED_KEPT = 10_000
"""How many rows of the others are kept: they need attention."""
_KINDS_KEPT = 1_000


class ReplacedErrors(msgspec.Struct):
    """Failed workers without a row, whose last errors were of one kind."""

    example: Row
    """The row that the first of them had."""
    refusals: Counter[str]
    """How often a retry was refused, by the reason."""
    workers: int = 0


class DepartedChildren:
    """Rows of children that ended and left their pool, and what remains of those whose row a new worker took over."""

    def __init__(self, kept: int, troubled_kept: int) -> None:
        self.replaced = 0
        """Workers that have no row any more."""
        self.cancelled: Counter[str] = Counter()
        """How many of these were cancelled, by the reason."""
        self.errors: dict[str, ReplacedErrors] = {}
        """The errors of these, by kind; no more than a thousand kinds."""
        self.replaced_at: dict[int, int] = {}
        """Index of each row that was replaced -> the value of `replaced` after the last time; the latest one last."""
        self._kept = kept
        self._troubled_kept = troubled_kept
        self._well: dict[Row, None] = {}
        self._troubled: dict[Row, None] = {}

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return len(self._well) + len(self._troubled)

    def add(self, row: Row) -> None:
        """Add the row of a child that has just left its pool."""
        kept = self._troubled if row.state.is_trouble else self._well
        kept.pop(row, None)
        kept[row] = None

    def discard(self, row: Row) -> None:
        """Drop the row of a child that is started again."""
        self._well.pop(row, None)
        self._troubled.pop(row, None)

    def pop_oldest(self) -> Row | None:
        """Remove and return the oldest row beyond those that are kept; None if there is none, or it shares a block."""
        if len(self._well) > self._kept:
            kept = self._well
        elif len(self._troubled) > self._troubled_kept:
            kept = self._troubled
        else:
            return None
        row = next(iter(kept))
        del kept[row]
        return row if row.block.size == 1 else None

    def replace(self, row: Row, cancel_reason: str) -> None:
        """Count a row that a new worker takes over."""
        self.replaced += 1
        self.replaced_at.pop(row.index, None)
        self.replaced_at[row.index] = self.replaced
        if row.state is WorkerState.CANCELLED:
            self.cancelled[cancel_reason] += 1
        if not row.state.is_failure:
            return
        kind = error_kind(row.error)
        known = self.errors.get(kind)
        if known is None:
            if len(self.errors) == _KINDS_KEPT:
                return
            known = self.errors[kind] = ReplacedErrors(row, Counter())
        known.workers += 1
        if row.refusal:
            known.refusals[row.refusal] += 1
