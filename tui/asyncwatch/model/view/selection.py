"""View of a fleet: visible rows, their order and lines, and the marks. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import compress

from asyncwatch.events import SETTLED, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch
from asyncwatch.model.view.columns import is_in_trouble, unended
from asyncwatch.model.view.filter import EVERYTHING, Condition, Query, matching
from asyncwatch.model.view.groups import WaitKey, is_of_cluster, wait_key
from asyncwatch.model.view.live import LiveHead, LiveOrder
from asyncwatch.model.view.map import StateMap
from asyncwatch.model.view.marks import Marks
from asyncwatch.model.view.outline import Line, grouped, outline
from asyncwatch.model.view.sort import (
    LIVE_ORDER,
    QUEUE_ORDER,
    SORTS,
    STEP,
    Indexes,
    Order,
    Ordering,
    Steps,
    in_order,
    in_queue_order,
    masked,
    ordering,
    place_of,
    reinsert,
    rows_at,
    sort_rows,
)
from asyncwatch.slices import Work, for_each

AT_ONCE = 8_192
"""Fleets of up to this many rows are filtered and sorted at once, while a key waits."""
_MANY = 4
"""If more than one row in this many changed, sorting all rows is faster than moving the changed ones."""
_FEW = 8
"""If one row in this many matches, or less, sorting them is faster than looking for them in an order of all rows."""
_SORT_KEYS = frozenset(key for key, _ in SORTS)


class View:
    """A filtered and sorted view of a Fleet's rows, with marks.

    Changed rows move, appear or disappear only on `resort()` or when the filter or the order changes. New workers are
    added at the end. The row under the cursor (`keep`) stays visible, so that no other row gets the next key.

    More than `AT_ONCE` rows are filtered and sorted in steps that the caller runs (`work`). The lines change only after
    the last step. With a tree, each branch has a line, and its rows are sorted below it.

    In live order the view follows the run until `hold`: only the first rows are in order, and `resort` keeps them so.
    Then they stay where they are, and the others follow in live order below them.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.marks = Marks(fleet)
        self.now = 0.0
        """Seconds since the run started, by which a service flaps or has calmed down."""
        self.left: Counter[str] = Counter()
        """How many children of each supervisor, by its path, have no line any more: they ended and were forgotten."""
        self._query = EVERYTHING
        self._sort = QUEUE_ORDER
        self._is_reversed = False
        self._is_trouble_only = False
        self._cluster: tuple[str, str] | None = None
        self._folded: set[str] = set()
        self._folded_filtered: set[str] = set()
        """Branches folded under the present filter. A new filter unfolds all, so that no match is hidden."""
        self._flat = Order(fleet.rows)
        """The visible rows, sorted across branches."""
        self._ordering = ordering(QUEUE_ORDER, is_reversed=False, now=0.0)
        """The order of `_flat`."""
        self._all: Order | None = None
        """All rows, sorted, from before the present filter."""
        self._order_of_all = (QUEUE_ORDER, False)
        """The order of `_all`, and whether it is reversed."""
        self._touched_of_all: set[Row] = set()
        """Like `_touched`, for `_all`."""
        self._order: Sequence[Row] = fleet.rows
        """The visible rows in the order of their branches, if the tree is shown."""
        self._lines: list[Line] = []
        """The lines, if the tree is shown."""
        self._places: dict[Line, int] | None = None
        self._kept: Row | None = None
        self._touched: set[Row] = set()
        """Rows that have changed since they were placed, or whose place changes with time."""
        self._job: Work | None = None
        self.is_order_chosen = False
        """Whether a person chose the order."""
        self._live: LiveOrder | None = None
        """The live order, while it is shown."""
        self._map: StateMap | None = None
        self._is_following = False
        self._head: LiveHead | None = None
        """The lines while the view follows."""
        self._held_at = (0, 0, 0)
        """Attempts that had started, and workers that had settled and succeeded, when the rows were held."""
        # What the lines were made of.
        self._shape = 0
        self._left_seen = 0
        self._rows_seen = 0
        self._is_current = False
        """Whether `_flat` has the present filter, order and direction."""
        self._is_of_filter = True
        """Whether the lines have the present filter, in any order."""
        self._is_outlined = False
        """Whether `_lines` show `_flat` with the present folds."""

    def over(self, fleet: Fleet) -> View:
        """Return a view of another fleet with the same filter, order and folds, without marks."""
        view = View(fleet)
        view.query, view.trouble_only, view.cluster = self._query, self._is_trouble_only, self._cluster
        view.is_order_chosen = self.is_order_chosen
        if self._is_following:
            view.is_order_chosen = False  # it follows again when all of its rows have come
        else:
            view.sort, view.reverse = self._sort, self._is_reversed
        view._folded, view._folded_filtered = self._folded, self._folded_filtered
        return view

    # -- filter, order and folds

    @property
    def query(self) -> Query:
        """The filter that visible rows match."""
        return self._query

    @query.setter
    def query(self, query: Query) -> None:
        if query.text != self._query.text:
            self._query = query
            self._filter_changed()

    @property
    def trouble_only(self) -> bool:
        """Whether only rows in trouble are visible."""
        return self._is_trouble_only

    @trouble_only.setter
    def trouble_only(self, trouble_only: bool) -> None:
        if trouble_only != self._is_trouble_only:
            self._is_trouble_only = trouble_only
            self._filter_changed()

    @property
    def cluster(self) -> tuple[str, str] | None:
        """Only workers of the cluster with this key are visible; None for all."""
        return self._cluster

    @cluster.setter
    def cluster(self, key: tuple[str, str] | None) -> None:
        if key != self._cluster:
            self._cluster = key
            self._filter_changed()

    @property
    def is_filtered(self) -> bool:
        """Whether some rows may be hidden."""
        return self._is_trouble_only or self._cluster is not None or bool(self._query.conditions)

    @property
    def sort(self) -> str:
        """Key of the order, one of `SORTS`. Setting another raises ValueError."""
        return self._sort

    @sort.setter
    def sort(self, key: str) -> None:
        if key not in _SORT_KEYS:
            raise ValueError(f"there is no order {key!r}")
        if key != self._sort:
            self._sort = key
            self._live, self._is_following, self._head = None, False, None
            self._forget_order()

    @property
    def reverse(self) -> bool:
        """Whether the order is reversed. Rows without a value are last in both directions."""
        return self._is_reversed

    @reverse.setter
    def reverse(self, reverse: bool) -> None:
        if reverse != self._is_reversed:
            self._is_reversed = reverse
            self._live, self._is_following, self._head = None, False, None
            self._forget_order()

    def is_folded(self, branch: Branch) -> bool:
        """Return whether the lines below the branch are hidden."""
        return branch.path in self._folds

    def fold(self, branch: Branch, *, is_folded: bool) -> None:
        """Hide the lines below the branch, or show them again."""
        if is_folded != self.is_folded(branch):
            self._folds.symmetric_difference_update({branch.path})
            self._is_outlined = False

    @property
    def _folds(self) -> set[str]:
        return self._folded_filtered if self.is_filtered else self._folded

    @property
    def _is_in_queue_order(self) -> bool:
        return self._sort == QUEUE_ORDER and not self._is_reversed

    def _filter_changed(self) -> None:
        self._is_following, self._head = False, None
        self._note_held()
        self._folded_filtered.clear()
        self._kept = None
        self._is_of_filter = False
        self._forget_order()

    def _forget_order(self) -> None:
        self._is_current = False
        self._job = None

    # -- live order

    @property
    def is_following(self) -> bool:
        """Whether the first rows are always those in live order, so that none of them can be selected."""
        return self._is_following

    def follow(self) -> None:
        """Show the live order, and keep the first rows in it. That needs a view without filter and tree."""
        if self.is_filtered or self.fleet.tree.is_shown:
            return
        self.sort, self.reverse = LIVE_ORDER, False
        fleet = self.fleet
        self._is_following = True
        if self._live is not None:
            self.resort()
        elif not fleet.attempts and not fleet.settled:
            self._live_from(LiveOrder(fleet.rows))
        else:
            self._is_current = False
            self._begin(self._sort_live())

    def hold(self) -> None:
        """Keep all rows where they are from now on."""
        if not self._is_following:
            return
        fleet, head = self.fleet, self._head
        self._is_following, self._head = False, None
        self._note_held()
        self._places = None
        if head is None:
            self._forget_order()
            return
        self._flat = Order(fleet.rows, [row.index for row in head.head])
        self._order, self._rows_seen = self._flat, len(fleet.rows)
        self._is_current = self._is_outlined = self._is_of_filter = True
        if len(head.head) < len(fleet.rows):
            self._begin(self._sort_below(self._flat))

    def _note_held(self) -> None:
        fleet = self.fleet
        self._held_at = fleet.attempts, fleet.settled, fleet.counts[WorkerState.SUCCEEDED]

    @property
    def held_back(self) -> tuple[int, int, int] | None:
        """How many attempts started, and workers succeeded and ended otherwise, since the rows are held; else None."""
        if self._sort != LIVE_ORDER or self._is_following or self.is_filtered or self._live is None:
            return None
        fleet, (attempts, settled, succeeded) = self.fleet, self._held_at
        new = max(0, fleet.counts[WorkerState.SUCCEEDED] - succeeded)
        return fleet.attempts - attempts, new, max(0, fleet.settled - settled - new)

    def _live_from(self, live: LiveOrder) -> None:
        self._live = live
        self._is_current = self._is_outlined = self._is_of_filter = True
        self._shape = self.fleet.tree.shape
        live.touched(self._touched)
        self._touched.clear()
        self._update_head()

    def _update_head(self) -> bool:
        """Move the rows that changed. Return whether the first rows are others now."""
        if self._live is None or not (self._live.is_outdated or self._head is None):
            return False
        self._live.update()
        head = self._live.head()
        if self._head is not None and self._head.head == head and len(self._head) == len(self.fleet.rows):
            return False
        self._head = LiveHead(head, self.fleet.rows)
        self._order = self._head
        return True

    def _sort_live(self) -> Steps[None]:
        """Sort all rows, to begin with."""
        rows = self.fleet.rows
        self._touched.clear()
        by = ordering(LIVE_ORDER, is_reversed=False, now=self.fleet.latest)
        known = yield from sort_rows(rows, range(len(rows)), by)
        self._live_from(LiveOrder(rows, known))

    def _sort_below(self, head: Order) -> Steps[None]:
        """Put the other rows below those that are held, in live order."""
        rows, seen = self.fleet.rows, self._rows_seen
        by = ordering(LIVE_ORDER, is_reversed=False, now=self.fleet.latest)
        order = yield from sort_rows(rows, range(seen), by)
        is_held = bytearray(seen)
        for index in head.indexes:
            is_held[index] = True
        for start in range(0, len(order), STEP):
            head.indexes.extend(index for index in order.indexes[start : start + STEP] if not is_held[index])
            yield
        self._places = None

    # -- rows and lines

    def order(self) -> Sequence[Row]:
        """Return the visible rows from top to bottom, including those in folded branches."""
        rows, tree = self.fleet.rows, self.fleet.tree
        if self._is_in_queue_order and not self.is_filtered and not tree.is_shown:
            # No copy of the fleet's own list.
            self._forget_order()
            self._touched.clear()
            self._is_of_filter = True
            self._order = rows
            return rows
        if self._is_following and tree.is_shown:
            self.hold()
        if self._head is not None:
            return self._head
        if self._job is None:
            if not self._is_current or self._shape != tree.shape:
                self._begin(self._sort_all())
            elif not self._is_outlined:
                self._begin(self._outline(self._flat))
            elif len(rows) > self._rows_seen:
                self._append(rows[self._rows_seen : self._rows_seen + max(AT_ONCE, STEP)])
        return self._order

    def lines(self) -> Sequence[Line]:
        """Return the lines from top to bottom: rows, and branches if the tree is shown."""
        order = self.order()
        # Until a tree is outlined for the first time its rows are listed without it.
        return self._lines if self.fleet.tree.is_shown and self._lines else order

    def position(self, name: str) -> int | None:
        """Return the index of the worker in `lines()`; None if it is not visible."""
        row = self.fleet.get(name)
        return self.place(row) if row is not None else None

    def place(self, line: Line) -> int | None:
        """Return the index of a row or branch in `lines()`; None if it is not visible."""
        lines = self.lines()
        if isinstance(lines, LiveHead):
            return lines.head.index(line) if line in lines.head else None
        if lines is self.fleet.rows:
            return line.index if isinstance(line, Row) and self.fleet.get(line.name) is line else None
        if len(lines) <= AT_ONCE or (self.fleet.tree.is_shown and self._places is not None):
            if self._places is None:
                self._places = {shown: place for place, shown in enumerate(lines)}
            return self._places.get(line)
        if isinstance(line, Row) and lines is self._flat and self._sort != LIVE_ORDER:
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
        """Return the index of the row in `lines()`, or about where it would be, up to `len(lines())`."""
        place = self.place(row)
        if place is None and self._order is self._flat:
            return place_of(self._flat, row, self._ordering, self._touched)
        return place or 0

    def neighbour(self, row: Row, step: int) -> Row:
        """Return the row one line below (1) or above (-1). It is `row` itself at the end, or if that is not visible."""
        lines, place = self.lines(), self.place(row)
        if place is None:
            return row
        beyond = range(place + 1, len(lines)) if step > 0 else range(place - 1, -1, -1)
        return next((line for line in map(lines.__getitem__, beyond) if isinstance(line, Row)), row)

    def keep(self, row: Row | None) -> None:
        """Keep this row, and no other, visible until the filter is changed, even if it no longer matches."""
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

    def matches(self) -> list[Row] | None:
        """Return the rows that the filter matches, also those in folded branches; None while it looks for them.

        Among more than `AT_ONCE` rows, these are the rows that matched when they were last placed.
        """
        rows, tree = self.fleet.rows, self.fleet.tree
        if len(rows) <= AT_ONCE:
            found = [rows[index] for index in matching(range(len(rows)), rows, self._conditions())]
            return [row for row in found if not tree.has_left(row)] if tree.left else found
        order, kept = self.order(), self._kept
        if self.is_filtering:
            return None
        stray = None if kept is None or self._is_visible(kept) else kept
        return [row for row in order if row is not stray]

    def mark_all_visible(self) -> None:
        """Mark every row that has a line and matches, in steps if there are many. Other marks stay."""
        self.marks.finish()
        lines, stray = self.lines(), self.stray
        branches = len(self.fleet.tree.branches) if self.fleet.tree.is_shown else 0
        if stray is None and len(lines) >= len(self.fleet.rows) + branches:
            self.marks.add_all()
            return
        self.marks.add(lines, without=stray)
        if len(lines) <= AT_ONCE:
            self.marks.finish()

    @property
    def state_map(self) -> StateMap:
        """The map of all workers, in queue order. It is kept up to date from the first use on."""
        if self._map is None:
            fleet = self.fleet
            self._map = StateMap(fleet.rows, is_new=not fleet.attempts and not fleet.settled)
        if len(self.fleet.rows) <= AT_ONCE:
            while self._map.is_behind:
                self._map.read()
        return self._map

    # -- changes and steps

    @property
    def is_busy(self) -> bool:
        """Whether there are steps left to run."""
        return self._job is not None or self.marks.is_busy or (self._map is not None and self._map.is_behind)

    @property
    def is_behind(self) -> bool:
        """Whether the lines still show an earlier filter or order: sorting many rows takes a while."""
        return self._job is not None and not (self._is_current and self._is_outlined)

    @property
    def is_filtering(self) -> bool:
        """Whether the lines still show an earlier filter."""
        return self.is_behind and not self._is_of_filter

    def touched(self, rows: Collection[Row]) -> None:
        """Record that `rows` have changed, for the next `resort()`."""
        if self._all is not None:
            self._touched_of_all.update(rows)
            if len(self._touched_of_all) * _MANY > len(self._all):
                self._all = None
        if self._map is not None:
            self._map.touched(rows)
        if self._live is not None:
            self._live.touched(rows)
        if (self._live is None or self.is_filtered) and (self._is_current or self._job is not None):
            self._touched.update(rows)

    def pass_time(self, now: float) -> None:
        """Note that it is `now`, in seconds since the run started. No event reports that a service has calmed down."""
        before, self.now = self.now, now
        if self._is_trouble_only:
            calm = (name for name, until in self.fleet.restarts.flaps_until.items() if before < until <= now)
            self.touched([row for name in calm if (row := self.fleet.get(name)) is not None])

    def resort(self) -> bool:
        """Move every row to its present place. Return whether that is done; with many rows it takes steps.

        Time passes without events: sorted by elapsed time, running rows may move although none was touched.
        """
        if self._job is not None:
            return False
        if self._is_following:
            return self._update_head()
        if self._live is not None:
            self._live.update()
            if not self.is_filtered:
                return False  # the rows are held
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

    def work(self, is_time_up: Callable[[], bool]) -> bool:
        """Run at least one step, until time is up. Return whether there are more."""
        if self.marks.is_busy and (self.marks.work(is_time_up) or is_time_up()):
            return self.is_busy
        if self._job is not None and not self._job(is_time_up):
            self._job = None
        if self._job is not None:
            return True
        while self._map is not None and self._map.is_behind:
            self._map.read()
            if is_time_up():
                break
        return self.is_busy

    def _begin(self, steps: Steps[None]) -> bool:
        """Run all steps for a small fleet; `work` runs them for a large one. Return whether all were run."""
        self._job = for_each(steps, lambda _: None)
        if len(self.fleet.rows) <= AT_ONCE:
            self.work(lambda: False)
        return self._job is None

    def _append(self, rows: list[Row]) -> None:
        start = self._rows_seen
        self._rows_seen += len(rows)
        last = self._lines[-1] if self._lines else None
        group = last.group if isinstance(last, Row) else last.path if last is not None else None
        if self.fleet.tree.is_shown and (
            not self._is_in_queue_order or group in self._folds or any(row.group != group for row in rows)
        ):
            self._begin(self._sort_all())
            return
        visible = Order(self.fleet.rows, matching(range(start, start + len(rows)), rows, self._conditions()))
        self._flat.indexes.extend(visible.indexes)
        if isinstance(self._order, list):
            self._order.extend(visible)
            self._lines.extend(visible)
        self._places = None
        self._touched.update(visible)
        if self._all is self._flat:
            self._touched_of_all.update(visible)

    def _sort_all(self) -> Steps[None]:
        tree, rows = self.fleet.tree, self.fleet.rows
        left, seen = tree.left, len(rows)
        # A row that is touched from here on may be looked at before or after that.
        self._touched.clear()
        visible = yield from self._visible(seen)
        moving = yield from self._moving(range(seen) if self._query.is_timed else visible)
        by = ordering(self._sort, is_reversed=self._is_reversed, now=self.fleet.latest)
        if self._sort == QUEUE_ORDER:
            flat = yield from in_order(rows, visible, is_reversed=self._is_reversed)
        elif (known := self._known_order()) is not None and len(visible) * _FEW > len(known):
            added = rows[len(known) : seen]
            moved = yield from in_queue_order(rows, [*self._touched_of_all, *added])
            flat = yield from masked(known, visible, moved, by, self._touched)
        else:
            flat = yield from sort_rows(rows, visible, by)
        yield from self._outline(flat)
        self._adopt(flat, by, moving)
        self._left_seen, self._rows_seen = left, seen
        self._is_current = self._is_of_filter = True

    def _place_touched(self) -> Steps[None]:
        touched, self._touched = self._touched, set()
        moved = yield from in_queue_order(self.fleet.rows, touched)
        shown = (yield from self._filter(moved)) if self.is_filtered else moved
        moving = yield from self._moving((moved if self._query.is_timed else shown).indexes)
        by = ordering(self._sort, is_reversed=self._is_reversed, now=self.fleet.latest)
        flat = yield from reinsert(self._flat, moved, shown, by, self._touched)
        yield from self._outline(flat)
        self._adopt(flat, by, moving)

    def _known_order(self) -> Order | None:
        """Return all rows in the present order, as they were before the filter; None if that is not known."""
        is_known = self._order_of_all == (self._sort, self._is_reversed)
        return self._all if is_known and not self.fleet.tree.left and not self.fleet.departed.replaced else None

    def _adopt(self, flat: Order, by: Ordering, moving: list[Row]) -> None:
        self._flat, self._ordering = flat, by
        self._touched.update(moving)
        if not self.is_filtered and not self.fleet.tree.left:
            self._all, self._order_of_all = flat, (self._sort, self._is_reversed)
            self._touched_of_all = self._touched.copy()

    def _visible(self, seen: int) -> Steps[Indexes]:
        """Return the visible ones of the first `seen` rows. Count those that have left their pool and the replaced."""
        rows, tree = self.fleet.rows, self.fleet.tree
        visible, left = array("i"), Counter(tree.replaced)
        if not self.is_filtered and not tree.left:
            self.left = left
            return range(seen)
        matching = self._matching()
        for start in range(0, seen, STEP):
            chunk = rows[start : min(start + STEP, seen)]
            indexes: Sequence[int] = range(start, start + len(chunk))
            if tree.left:
                stays = [row is self._kept or not tree.has_left(row) for row in chunk]
                left.update(row.group for row, is_there in zip(chunk, stays, strict=True) if not is_there)
                indexes, chunk = list(compress(indexes, stays)), list(compress(chunk, stays))
            visible.fromlist(matching(indexes, chunk))
            yield
        self.left = left
        return visible

    def _filter(self, order: Order) -> Steps[Order]:
        """Return the visible rows of an order in queue order."""
        visible = Order(order.rows)
        matching = self._matching()
        for start in range(0, len(order), STEP):
            indexes = order.indexes[start : start + STEP]
            visible.indexes.fromlist(matching(indexes, rows_at(order.rows, indexes)))
            yield
        return visible

    def _matching(self) -> Callable[[Sequence[int], Sequence[Row]], list[int]]:
        """Return the present filter: it returns the visible ones of the indexes of some rows in queue order."""
        conditions, kept = self._conditions(), self._kept
        if kept is None or matching((0,), (kept,), conditions):
            return partial(matching, conditions=conditions)

        def and_kept(indexes: Sequence[int], rows: Sequence[Row]) -> list[int]:
            found = matching(indexes, rows, conditions)
            is_among = bool(indexes) and indexes[0] <= kept.index <= indexes[-1] and kept in rows
            return sorted({*found, kept.index}) if is_among else found

        return and_kept

    def _conditions(self) -> list[Condition]:
        """Return what a visible row has to meet."""
        conditions, key, stack_of = [*self._query.conditions], self._cluster, self.fleet.stack
        crashes = self.fleet.restarts.by_worker
        if self._is_trouble_only:
            conditions.insert(0, self._is_in_trouble)
        if isinstance(key, WaitKey):
            conditions.append(lambda rows: [wait_key(row) == key for row in rows])
        elif key is not None:
            conditions.append(lambda rows: [is_of_cluster(row, key, stack_of, crashes) for row in rows])
        return conditions

    def _is_in_trouble(self, rows: Sequence[Row]) -> list[bool]:
        """Return whether each row is in trouble: by its state, or because its service flaps."""
        fleet, now = self.fleet, max(self.now, self.fleet.latest)
        troubled = is_in_trouble(rows)
        if not fleet.restarts.flaps_until:
            return troubled
        return [is_bad or fleet.is_flapping(row, now) for is_bad, row in zip(troubled, rows, strict=True)]

    def _is_visible(self, row: Row) -> bool:
        return bool(matching((row.index,), (row,), self._conditions()))

    def _moving(self, indexes: Indexes) -> Steps[list[Row]]:
        """Return the rows with these indexes whose place changes with time, if elapsed times matter."""
        moving: list[Row] = []
        moves = self._sort == "elapsed" or self._query.is_timed
        for start in range(0, len(indexes) if moves else 0, STEP):
            rows = unended(rows_at(self.fleet.rows, indexes[start : start + STEP]))
            moving += [row for row in rows if row.state not in SETTLED and row.attempt]
            yield
        return moving

    def _outline(self, flat: Order) -> Steps[None]:
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
