"""Which rows are visible, in which order, and which of them are marked."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.model.fleet import Fleet
from asyncwatch.model.query import EVERYTHING, SYNTAX, Query, parse_query
from asyncwatch.model.row import Row
from asyncwatch.model.sorting import QUEUE_ORDER, SORTS, in_order, natural

__all__ = ["EVERYTHING", "QUEUE_ORDER", "SORTS", "SYNTAX", "Query", "View", "natural", "parse_query"]

_SORT_KEYS = frozenset(key for key, _ in SORTS)


class View:
    """A filtered and sorted view of a Fleet's rows, with marks.

    Rows keep their places until `resort()`, or until the filter or the order is changed: only then do rows
    that changed move, appear or vanish. Workers that are queued in the meantime join at the end.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.marks: set[str] = set()
        """Names of the marked workers."""
        self._query = EVERYTHING
        self._sort = QUEUE_ORDER
        self._is_reversed = False
        self._is_trouble_only = False
        self._order: list[Row] = []
        self._positions: dict[str, int] | None = None
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
            self._is_current = False

    @property
    def is_filtered(self) -> bool:
        """Whether some rows may be hidden."""
        return self._is_trouble_only or bool(self._query.conditions)

    @property
    def _is_plain(self) -> bool:
        """Whether the view is the fleet's own list, which is then used as it is."""
        return self._sort == QUEUE_ORDER and not self._is_reversed and not self.is_filtered

    def order(self) -> list[Row]:
        """Return the visible rows from top to bottom. Not to be changed by the caller."""
        rows = self.fleet.rows
        if self._is_plain:
            self._is_current = False
            return rows
        if not self._is_current:
            self._rebuild()
        elif len(rows) > self._rows_seen:
            self._order.extend(filter(self._is_visible, rows[self._rows_seen :]))
            self._rows_seen = len(rows)
            self._positions = None
            self._has_moved = True
        return self._order

    def position(self, name: str) -> int | None:
        """Return the place of the worker in `order()`, from 0; None if it is not visible."""
        order = self.order()
        if order is self.fleet.rows:
            row = self.fleet.get(name)
            return row.index if row is not None else None
        if self._positions is None:
            self._positions = {row.name: place for place, row in enumerate(order)}
        return self._positions.get(name)

    def touched(self, rows: Iterable[Row]) -> None:
        """Take note that `rows` have changed: the next `resort()` gives them their places."""
        if not self._has_moved and any(True for _ in rows):
            self._has_moved = True

    def resort(self) -> bool:
        """Give every row the place it should have by now. Return whether the order was made anew.

        Times pass without any event: sorted by elapsed, running rows may move although none was touched.
        """
        if self._is_plain or (self._is_current and not self._has_moved and self._sort != "elapsed"):
            return False
        self._rebuild()
        return True

    def _is_visible(self, row: Row) -> bool:
        return (not self._is_trouble_only or row.is_in_trouble) and self._query.matches(row)

    def _rebuild(self) -> None:
        rows = self.fleet.rows
        visible = filter(self._is_visible, rows) if self.is_filtered else rows
        self._order = in_order(visible, self._sort, reverse=self._is_reversed, now=self.fleet.latest)
        self._positions = None
        self._rows_seen = len(rows)
        self._is_current = True
        self._has_moved = False

    def toggle_mark(self, name: str) -> bool:
        """Mark the worker, or take its mark away. Return whether it is marked now."""
        self.marks ^= {name}
        return name in self.marks

    def mark_all_visible(self) -> None:
        """Mark every visible row, beside those marked already."""
        self.marks.update(row.name for row in self.order())

    def clear_marks(self) -> None:
        """Take every mark away."""
        self.marks.clear()

    def marked(self) -> list[Row]:
        """Return the marked rows in queue order, hidden ones included."""
        rows = (self.fleet.get(name) for name in self.marks)
        return sorted((row for row in rows if row is not None), key=lambda row: row.index)
