"""Which rows are visible, in which order, and which of them are marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import compress

from asyncwatch.events import SETTLED
from asyncwatch.model.reducer import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch
from asyncwatch.model.view.filter import EVERYTHING, SYNTAX, Query, parse_query
from asyncwatch.model.view.groups import cluster_key
from asyncwatch.model.view.marks import Marks
from asyncwatch.model.view.outline import Line, grouped, outline
from asyncwatch.model.view.sort import (
    QUEUE_ORDER,
    SORTS,
    STEP,
    Order,
    Steps,
    gathered,
    natural,
    ordering,
    place_anew,
    place_of,
    sort,
)

__all__ = ["EVERYTHING", "QUEUE_ORDER", "SORTS", "SYNTAX", "Line", "Query", "View", "natural", "parse_query"]

AT_ONCE = 8_192
"""Rows that are filtered and sorted at once, while a key waits for it."""
_MANY = 4
"""If more than one of so many rows changed, sorting all of them is less work than finding places for those."""
_DONE = object()
_SORT_KEYS = frozenset(key for key, _ in SORTS)


class View:
    """A filtered and sorted view of a Fleet's rows, with marks.

    Rows keep their places until `resort()`, or until the filter or the order is changed: only then do rows
    that changed move, appear or vanish. Workers that are queued in the meantime join at the end. The row that a person
    acts on (`keep`) does not vanish: the next key is for it, and not for whoever took its place.

    A fleet of more than `AT_ONCE` rows is filtered and sorted in small steps, which somebody has to take (`work`).
    Until the last one was taken the lines are as they were before.

    When the fleet's tree is shown, rows stand below their branch, sorted within it, and a branch is a line of its own.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.marks = Marks(fleet)
        fleet.on_replaced = self.marks.unmark
        self._marking: Steps[None] | None = None
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
        self._flat = Order(fleet.rows)
        """The visible rows, sorted, whatever branch they belong to."""
        self._order: Sequence[Row] = fleet.rows
        self._lines: list[Line] = []
        """What stands in the lines if the tree is shown."""
        self._places: dict[Line, int] | None = None
        self._ordering = ordering(QUEUE_ORDER, is_reversed=False, now=0.0)
        """By what `_flat` is sorted."""
        self._kept: Row | None = None
        self._touched: set[Row] = set()
        """Rows that have changed since they got their places, or that change their places with time."""
        self._job: Steps[None] | None = None
        self._shape = 0
        self._left_seen = 0
        self._rows_seen = 0
        self._is_current = False
        """Whether `_flat` is of the present query, sort and direction."""
        self._is_of_filter = True
        """Whether the lines are those that the present filter lets through, whatever their order."""
        self._is_outlined = False
        """Whether `_lines` are those of `_flat` with what is folded at present."""

    def over(self, fleet: Fleet) -> View:
        """Return a view of another fleet with the same filter and order, without marks."""
        view = View(fleet)
        view.query, view.trouble_only = self._query, self._is_trouble_only
        view.sort, view.reverse = self._sort, self._is_reversed
        return view

    @property
    def query(self) -> Query:
        """The filter that visible rows match."""
        return self._query

    @query.setter
    def query(self, query: Query) -> None:
        if query.text != self._query.text:
            self._query = query
            self._filter_anew()

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
            self._forget_order()

    @property
    def reverse(self) -> bool:
        """Whether the order is reversed. Rows without a value stay last all the same."""
        return self._is_reversed

    @reverse.setter
    def reverse(self, reverse: bool) -> None:
        if reverse != self._is_reversed:
            self._is_reversed = reverse
            self._forget_order()

    @property
    def trouble_only(self) -> bool:
        """Whether only the rows in trouble are visible."""
        return self._is_trouble_only

    @trouble_only.setter
    def trouble_only(self, trouble_only: bool) -> None:
        if trouble_only != self._is_trouble_only:
            self._is_trouble_only = trouble_only
            self._filter_anew()

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
            self._filter_anew()

    def is_folded(self, branch: Branch) -> bool:
        """Return whether nothing below the branch is a line."""
        return branch.path in self._folds

    def fold(self, branch: Branch, *, is_folded: bool) -> None:
        """Hide what is below the branch, or show it again."""
        if is_folded != self.is_folded(branch):
            self._folds.symmetric_difference_update({branch.path})
            self._is_outlined = False

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

    @property
    def is_busy(self) -> bool:
        """Whether there are steps to take."""
        return self._job is not None or self._marking is not None

    @property
    def is_behind(self) -> bool:
        """Whether the lines are those of another filter or order than the present one, because there are so many."""
        return self._job is not None and not (self._is_current and self._is_outlined)

    @property
    def is_filtering(self) -> bool:
        """Whether that is because the filter is another one."""
        return self.is_behind and not self._is_of_filter

    def order(self) -> Sequence[Row]:
        """Return the visible rows from top to bottom, those in folded branches too."""
        rows, tree = self.fleet.rows, self.fleet.tree
        if self._is_plain:
            self._forget_order()
            self._touched.clear()
            self._is_of_filter = True
            self._order = rows
            return rows
        if self._job is None:
            if not self._is_current or self._shape != tree.shape:
                self._begin(self._sort_all())
            elif not self._is_outlined:
                self._begin(self._outline(self._flat))
            elif len(rows) > self._rows_seen:
                self._append(rows[self._rows_seen : self._rows_seen + max(AT_ONCE, STEP)])
        return self._order

    def lines(self) -> Sequence[Line]:
        """Return what stands in the lines from top to bottom: rows, and branches if the tree is shown."""
        order = self.order()
        # Before a tree is outlined for the first time its rows are shown without it.
        return self._lines if self.fleet.tree.is_shown and self._lines else order

    def work(self, is_time_up: Callable[[], bool]) -> bool:
        """Take steps until time is up, one at least. Return whether there are more to be taken."""
        while self._marking is not None:
            if next(self._marking, _DONE) is _DONE:
                self._marking = None
            if is_time_up():
                return self.is_busy
        while self._job is not None:
            if next(self._job, _DONE) is _DONE:
                self._job = None
            elif is_time_up():
                return True
        return False

    def _filter_anew(self) -> None:
        self._folded_filtered.clear()
        self._kept = None
        self._is_of_filter = False
        self._forget_order()

    def _forget_order(self) -> None:
        self._is_current = False
        self._job = None

    def _begin(self, job: Steps[None]) -> bool:
        """Take all steps of a small fleet; leave those of a large one to `work`. Return whether all were taken."""
        self._job = job
        if len(self.fleet.rows) <= AT_ONCE:
            self.work(lambda: False)
        return self._job is None

    def position(self, name: str) -> int | None:
        """Return the place of the worker in `lines()`, from 0; None if it is not visible."""
        row = self.fleet.get(name)
        return self.place(row) if row is not None else None

    def place(self, line: Line) -> int | None:
        """Return the place of a row or branch in `lines()`, from 0; None if it is not visible."""
        lines = self.lines()
        if lines is self.fleet.rows:
            return line.index if isinstance(line, Row) and self.fleet.get(line.name) is line else None
        if len(lines) <= AT_ONCE or (self.fleet.tree.is_shown and self._places is not None):
            if self._places is None:
                self._places = {shown: place for place, shown in enumerate(lines)}
            return self._places.get(line)
        if isinstance(line, Row) and lines is self._flat:
            for stale in (self._touched, ()):
                place = place_of(self._flat, line, self._ordering, stale)
                if place < len(lines) and lines[place] is line:
                    return place
            if line not in self._touched:
                return None
        try:
            return lines.index(line)
        except ValueError:
            return None

    def place_near(self, row: Row) -> int:
        """Return the place of the row in `lines()`, or about where it would stand; it may be just behind the last."""
        place = self.place(row)
        if place is None and self._order is self._flat:
            return place_of(self._flat, row, self._ordering, self._touched)
        return place or 0

    def neighbour(self, row: Row, step: int) -> Row:
        """Return the row one line below (1) or above (-1), `row` itself at the end or if it is not visible."""
        lines, place = self.lines(), self.place(row)
        if place is None:
            return row
        beyond = range(place + 1, len(lines)) if step > 0 else range(place - 1, -1, -1)
        return next((line for line in map(lines.__getitem__, beyond) if isinstance(line, Row)), row)

    def touched(self, rows: Iterable[Row]) -> None:
        """Take note that `rows` have changed: the next `resort()` gives them their places."""
        if self._is_current or self._job is not None:
            self._touched.update(rows)

    def resort(self) -> bool:
        """Give every row the place it should have by now. Return whether that is done; of many rows it takes time.

        Times pass without any event: sorted by elapsed, running rows may move although none was touched.
        """
        if self._job is not None:
            return False
        if self._left_seen != self.fleet.tree.left:
            self._forget_order()
        elif self._is_in_queue_order and not self.is_filtered:
            return False
        if not self._is_current:
            return self._begin(self._sort_all())
        if not self._touched:
            return False
        is_many = len(self._touched) * _MANY > len(self.fleet.rows)
        return self._begin(self._sort_all() if is_many else self._place_touched())

    def keep(self, row: Row | None) -> None:
        """Let this row, and no other, stay visible when it does not match any more, until the filter is changed."""
        before = self._kept
        if row is before or self.is_behind:
            return
        self._kept = row
        if before is not None:
            self.touched((before,))
            if self.fleet.tree.has_left(before):
                self._left_seen = -1

    @property
    def stray(self) -> Row | None:
        """The row that is visible only because it is kept; None if there is none."""
        row = self._kept if self.is_filtered and not self.is_behind else None
        return None if row is None or self._is_visible(row) else row

    def _is_visible(self, row: Row) -> bool:
        return (
            (not self._is_trouble_only or row.is_in_trouble)
            and (self._cluster is None or cluster_key(row, self.fleet.stack) == self._cluster)
            and self._query.matches(row)
        )

    def _condition(self) -> Callable[[Row], bool]:
        """Return what tells the visible rows, with as few calls as can be."""
        is_query_all = not self._is_trouble_only and self._cluster is None
        matches = self._query.matcher if is_query_all else self._is_visible
        kept = self._kept
        return matches if kept is None or matches(kept) else lambda row: row is kept or matches(row)

    def _append(self, rows: list[Row]) -> None:
        """Take in rows that were just queued, below all others."""
        self._rows_seen += len(rows)
        last = self._lines[-1] if self._lines else None
        group = last.group if isinstance(last, Row) else last.path if last is not None else None
        if self.fleet.tree.is_shown and (
            not self._is_in_queue_order or group in self._folds or any(row.group != group for row in rows)
        ):
            self._begin(self._sort_all())
            return
        visible = list(filter(self._is_visible, rows))
        self._flat.places.extend(row.index for row in visible)
        if isinstance(self._order, list):
            self._order.extend(visible)
            self._lines.extend(visible)
        self._places = None
        self._touched.update(visible)

    def _sort_all(self) -> Steps[None]:
        tree, rows = self.fleet.tree, self.fleet.rows
        left, seen = tree.left, len(rows)
        # What is touched from here on may be looked at before or after that.
        self._touched.clear()
        present = yield from self._present(seen)
        visible = (yield from self._filter(present)) if self.is_filtered else present
        moving = yield from self._moving(visible)
        by = ordering(self._sort, is_reversed=self._is_reversed, now=self.fleet.latest)
        flat = visible if self._is_in_queue_order else (yield from sort(visible, by))
        yield from self._outline(flat)
        self._flat, self._ordering = flat, by
        self._touched.update(moving)
        self._left_seen, self._rows_seen = left, seen
        self._is_current = self._is_of_filter = True

    def _place_touched(self) -> Steps[None]:
        moved, self._touched = self._touched, set()
        changed = yield from gathered(self.fleet.rows, moved)
        shown = (yield from self._filter(changed)) if self.is_filtered else changed
        moving = yield from self._moving(shown)
        by = ordering(self._sort, is_reversed=self._is_reversed, now=self.fleet.latest)
        flat = yield from place_anew(self._flat, changed, shown, by, self._touched)
        yield from self._outline(flat)
        self._flat, self._ordering = flat, by
        self._touched.update(moving)

    def _filter(self, order: Order) -> Steps[Order]:
        visible = Order(order.rows)
        is_visible = self._condition()
        for start in range(0, len(order), STEP):
            places = order.places[start : start + STEP]
            visible.places.extend(compress(places, map(is_visible, order.at(places))))
            yield
        return visible

    def _outline(self, flat: Order) -> Steps[None]:
        """Lay the sorted rows out below their branches."""
        tree = self.fleet.tree
        shape = tree.shape
        lines: list[Line] = []
        order: Sequence[Row] = flat
        if tree.is_shown:
            own = yield from grouped(flat)
            order, lines = outline(
                tree, own, self._folds, is_filtered=self.is_filtered, in_start_order=self._is_in_queue_order
            )
        self._order, self._lines = order, lines
        self._places = None
        self._shape = shape
        self._is_outlined = True

    def _moving(self, rows: Sequence[Row]) -> Steps[list[Row]]:
        """Return the rows that move with time, sorted by elapsed: the next `resort` has to place them anew."""
        moving: list[Row] = []
        for start in range(0, len(rows) if self._sort == "elapsed" else 0, STEP):
            moving += [row for row in rows[start : start + STEP] if row.state not in SETTLED and row.attempt]
            yield
        return moving

    def _present(self, seen: int) -> Steps[Order]:
        """Return the first `seen` rows without those that have left their pool, which are counted."""
        rows, tree = self.fleet.rows, self.fleet.tree
        present, left = Order(rows), Counter(tree.replaced)
        for start in range(0, seen, STEP):
            places: Iterable[int] = range(start, min(start + STEP, seen))
            if tree.left:
                gone = {row.index for row in rows[start : start + STEP] if row is not self._kept and tree.has_left(row)}
                left.update(rows[place].group for place in gone)
                places = (place for place in places if place not in gone)
            present.places.extend(places)
            yield
        self.left = left
        return present

    def toggle_mark(self, name: str) -> bool:
        """Mark the worker, or take its mark away. Return whether it is marked now."""
        row = self.fleet.get(name)
        if row is not None:
            self.toggle_marks([slice(row.index, row.index + 1)])
        return name in self.marks

    def toggle_marks(self, spans: Iterable[slice]) -> None:
        """Mark the workers of some parts of the queue, or take the marks away if all of them have one."""
        self.finish_marking()
        self.marks.toggle(spans)

    def mark_all_visible(self) -> None:
        """Mark every row that is a line and matches, beside those marked already; many rows in steps."""
        self.finish_marking()
        lines, stray = self.lines(), self.stray
        branches = len(self.fleet.tree.branches) if self.fleet.tree.is_shown else 0
        if stray is None and len(lines) >= len(self.fleet.rows) + branches:
            self.marks.add_all()
            return
        self._marking = self._mark(lines, stray)
        if len(lines) <= AT_ONCE:
            self.finish_marking()

    def finish_marking(self) -> None:
        """Take all steps at once that are left of marking many: what comes next is about all of them."""
        for _ in self._marking or ():
            pass
        self._marking = None

    def _mark(self, lines: Sequence[Line], stray: Row | None) -> Steps[None]:
        for start in range(0, len(lines), STEP):
            part = lines[start : start + STEP]
            self.marks.add(line for line in part if isinstance(line, Row) and line is not stray)
            yield

    def clear_marks(self) -> None:
        """Take every mark away."""
        self._marking = None
        self.marks.clear()

    def marked(self) -> list[Row]:
        """Return the marked rows in queue order, hidden ones included."""
        self.finish_marking()
        return list(self.marks.rows())
