"""Which rows are visible, in which order, and which of them are marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from asyncwatch.model.clusters import cluster_key
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.outline import Line, outline
from asyncwatch.model.query import EVERYTHING, SYNTAX, Query, parse_query
from asyncwatch.model.row import Row
from asyncwatch.model.sorting import QUEUE_ORDER, SORTS, in_order, natural
from asyncwatch.model.tree import Branch

__all__ = ["EVERYTHING", "QUEUE_ORDER", "SORTS", "SYNTAX", "Line", "Query", "View", "natural", "parse_query"]

_SORT_KEYS = frozenset(key for key, _ in SORTS)


class View:
    """A filtered and sorted view of a Fleet's rows, with marks.

    Rows keep their places until `resort()`, or until the filter or the order is changed: only then do rows
    that changed move, appear or vanish. Workers that are queued in the meantime join at the end.

    When the fleet's tree is shown, rows stand below their branch, sorted within it, and a branch is a line of its own.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.marks: set[str] = set()
        """Names of the marked workers."""
        self.left: Counter[str] = Counter()
        """How many children of each pool, by its path, are no lines any more: they ended and were forgotten."""
        self._query = EVERYTHING
        self._sort = QUEUE_ORDER
        self._is_reversed = False
        self._is_trouble_only = False
        self._cluster: tuple[str, str] | None = None
        self._folded: set[str] = set()
        self._folded_filtered: set[str] = set()
        """What is folded under the present filter, which begins with all unfolded: it would hide what was asked for."""
        self._order: list[Row] = []
        self._lines: list[Line] = []
        self._places: dict[Line, int] | None = None
        self._shape = 0
        self._left_seen = 0
        self._rows_seen = 0
        self._is_current = False
        """Whether `_order` is of the present query, sort and direction."""
        self._has_moved = False
        """Whether a row changed since, so that `resort` could change the order."""

    @property
    def query(self) -> Query:
        """The filter that visible rows match."""
        return self._query

    @query.setter
    def query(self, query: Query) -> None:
        if query.text != self._query.text:
            self._query = query
            self._folded_filtered.clear()
            self._is_current = False

    @property
    def sort(self) -> str:
        """The key of the present order, one of `SORTS`. Setting another raises ValueError."""
        return self._sort

    @sort.setter
    def sort(self, key: str) -> None:
        if key not in _SORT_KEYS:
            raise ValueError(f"there is no order {key!r}")
        if key != self._sort:
            self._sort = key
            self._is_current = False

    @property
    def reverse(self) -> bool:
        """Whether the order is reversed. Rows without a value stay last all the same."""
        return self._is_reversed

    @reverse.setter
    def reverse(self, reverse: bool) -> None:
        if reverse != self._is_reversed:
            self._is_reversed = reverse
            self._is_current = False

    @property
    def trouble_only(self) -> bool:
        """Whether only the rows in trouble are visible."""
        return self._is_trouble_only

    @trouble_only.setter
    def trouble_only(self, trouble_only: bool) -> None:
        if trouble_only != self._is_trouble_only:
            self._is_trouble_only = trouble_only
            self._folded_filtered.clear()
            self._is_current = False

    @property
    def is_filtered(self) -> bool:
        """Whether some rows may be hidden."""
        return self._is_trouble_only or self._cluster is not None or bool(self._query.conditions)

    @property
    def cluster(self) -> tuple[str, str] | None:
        """The `Cluster.key` of the only errors whose workers are visible, None for all."""
        return self._cluster

    @cluster.setter
    def cluster(self, key: tuple[str, str] | None) -> None:
        if key != self._cluster:
            self._cluster = key
            self._folded_filtered.clear()
            self._is_current = False

    def is_folded(self, branch: Branch) -> bool:
        """Return whether nothing below the branch is a line."""
        return branch.path in self._folds

    def fold(self, branch: Branch, *, is_folded: bool) -> None:
        """Hide what is below the branch, or show it again."""
        if is_folded != self.is_folded(branch):
            self._folds.symmetric_difference_update({branch.path})
            self._is_current = False

    @property
    def _folds(self) -> set[str]:
        """The paths of the branches that are folded now."""
        return self._folded_filtered if self.is_filtered else self._folded

    @property
    def _is_plain(self) -> bool:
        """Whether the view is the fleet's own list, which is then used as it is."""
        return self._is_in_queue_order and not self.is_filtered and not self.fleet.tree.is_shown

    @property
    def _is_in_queue_order(self) -> bool:
        return self._sort == QUEUE_ORDER and not self._is_reversed

    def order(self) -> list[Row]:
        """Return the visible rows from top to bottom, those in folded branches too. Not to be changed by the caller."""
        rows, tree = self.fleet.rows, self.fleet.tree
        if self._is_plain:
            self._is_current = False
            return rows
        if not self._is_current or self._shape != tree.shape:
            self._rebuild()
        elif len(rows) > self._rows_seen:
            self._append(rows[self._rows_seen :])
        return self._order

    def lines(self) -> list[Line]:
        """Return what stands in the lines from top to bottom: rows, and branches if the tree is shown."""
        order = self.order()
        return self._lines if self.fleet.tree.is_shown else order  # type: ignore[return-value]  # only read

    def position(self, name: str) -> int | None:
        """Return the place of the worker in `lines()`, from 0; None if it is not visible."""
        row = self.fleet.get(name)
        return self.place(row) if row is not None else None

    def place(self, line: Line) -> int | None:
        """Return the place of a row or branch in `lines()`, from 0; None if it is not visible."""
        lines = self.lines()
        if lines is self.fleet.rows:
            return line.index
        if self._places is None:
            self._places = {shown: place for place, shown in enumerate(lines)}
        return self._places.get(line)

    def neighbour(self, row: Row, step: int) -> Row:
        """Return the row one line below (1) or above (-1), `row` itself at the end or if it is not visible."""
        lines, place = self.lines(), self.place(row)
        if place is None:
            return row
        beyond = lines[place + 1 :] if step > 0 else reversed(lines[:place])
        return next((line for line in beyond if isinstance(line, Row)), row)

    def touched(self, rows: Iterable[Row]) -> None:
        """Take note that `rows` have changed: the next `resort()` gives them their places."""
        if not self._has_moved and any(True for _ in rows):
            self._has_moved = True

    def resort(self) -> bool:
        """Give every row the place it should have by now. Return whether the order was made anew.

        Times pass without any event: sorted by elapsed, running rows may move although none was touched.
        """
        is_fixed = self._is_in_queue_order and not self.is_filtered
        has_left = self._left_seen != self.fleet.tree.left
        if not has_left and (is_fixed or (self._is_current and not self._has_moved and self._sort != "elapsed")):
            return False
        self._rebuild()
        return True

    def _is_visible(self, row: Row) -> bool:
        return (
            (not self._is_trouble_only or row.is_in_trouble)
            and (self._cluster is None or cluster_key(row, self.fleet.stack) == self._cluster)
            and self._query.matches(row)
        )

    def _append(self, rows: list[Row]) -> None:
        """Take in rows that were just queued, below all others."""
        self._rows_seen += len(rows)
        last = self._lines[-1] if self._lines else None
        group = last.group if isinstance(last, Row) else last.path if last is not None else None
        if self.fleet.tree.is_shown and (
            not self._is_in_queue_order or group in self._folds or any(row.group != group for row in rows)
        ):
            self._rebuild()
            return
        visible = list(filter(self._is_visible, rows))
        self._order.extend(visible)
        if self.fleet.tree.is_shown:
            self._lines.extend(visible)
        self._places = None
        self._has_moved = True

    def _rebuild(self) -> None:
        rows = self.fleet.rows
        tree = self.fleet.tree
        present = self._present() if tree.left else rows
        visible = filter(self._is_visible, present) if self.is_filtered else present
        self._order = in_order(visible, self._sort, reverse=self._is_reversed, now=self.fleet.latest)
        if tree.is_shown:
            self._order, self._lines = outline(
                tree,
                self._order,
                self._folds,
                is_filtered=self.is_filtered,
                in_start_order=self._is_in_queue_order,
            )
        self._shape = tree.shape
        self._left_seen = tree.left
        self._places = None
        self._rows_seen = len(rows)
        self._is_current = True
        self._has_moved = False

    def _present(self) -> list[Row]:
        """Return the rows without those that have left their pool, which are counted."""
        present: list[Row] = []
        self.left.clear()
        for row in self.fleet.rows:
            if self.fleet.tree.has_left(row):
                self.left[row.group] += 1
            else:
                present.append(row)
        return present

    def toggle_mark(self, name: str) -> bool:
        """Mark the worker, or take its mark away. Return whether it is marked now."""
        self.marks ^= {name}
        return name in self.marks

    def mark_all_visible(self) -> None:
        """Mark every row that is a line, beside those marked already."""
        self.marks.update(line.name for line in self.lines() if isinstance(line, Row))

    def clear_marks(self) -> None:
        """Take every mark away."""
        self.marks.clear()

    def marked(self) -> list[Row]:
        """Return the marked rows in queue order, hidden ones included."""
        rows = (self.fleet.get(name) for name in self.marks)
        return sorted((row for row in rows if row is not None), key=lambda row: row.index)
