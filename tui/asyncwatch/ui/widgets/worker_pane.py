"""Pane below the fleet: the log of the selected worker as it comes, or its details."""

# ruff: noqa: PLC0415  the first frame does not need the texts of details

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch
from asyncwatch.text import count
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.columns import shown_name
from asyncwatch.ui.render.format import safe, state_label, state_style
from asyncwatch.ui.render.spans import Line, Span, crop_path, spread, width_of
from asyncwatch.ui.widgets.fleet_table import FleetTable
from asyncwatch.ui.widgets.lines import Block, LinesView

KINDS = ("", "log", "details")
"""What it shows, in the order of its key; nothing at first."""
_LEAST, _LEAST_TABLE = 4, 8
"""Lines of the pane, and of what is above it, at least."""
_STEP = 3
_LOGS = 500
"""Log records of one worker, the newest."""
_KEYS = "v changes · [ ] resize "


class WorkerPane(Vertical):
    """Shows the worker under the cursor of the table. A log follows its newest line until a person scrolls up."""

    def __init__(self, dashboard: DashboardState, table: FleetTable) -> None:
        super().__init__(id="pane")
        self.display = False
        self.kind = KINDS[0]
        self._dashboard = dashboard
        self._table = table
        self._title = Block(id="pane-title")
        self._view = LinesView(id="pane-lines")
        self._lines = 0
        """Its height; 0 for a third of the terminal."""
        self._drawn: tuple[object, ...] = ()
        """What the lines were made of."""
        self._records: list[tuple[int, list[Line]]] = []
        """The log of the shown worker: the `seq` of each record, and its lines."""
        self._logged: tuple[object, ...] = ()
        """Worker, width and fleet of these records."""
        self._read = -1
        """The `seq` of the newest record of any worker that was looked at."""

    def compose(self) -> ComposeResult:
        """Yield a title and the lines."""
        yield self._title
        yield self._view

    def turn(self) -> None:
        """Show the log, then the details, then nothing."""
        self.kind = KINDS[(KINDS.index(self.kind) + 1) % len(KINDS)]
        self.display = bool(self.kind)
        self._drawn = ()
        self._fit()

    def resize(self, direction: int) -> None:
        """Make it some lines higher (1) or lower (-1)."""
        self._lines = self._height() + direction * _STEP
        self._fit()

    def _height(self) -> int:
        height = self.app.size.height
        return max(_LEAST, min(self._lines or height // 3, height - _LEAST_TABLE - _LEAST))

    def _fit(self) -> None:
        self.styles.height = self._height()

    def on_resize(self) -> None:
        """Fit the new width, and leave the table some lines."""
        self._lines = min(self._lines, self._height()) if self._lines else 0
        self._fit()
        self.draw()

    def draw(self) -> None:
        """Show the worker under the cursor, as it is now."""
        width = self._view.scrollable_content_region.width
        if not self.display or width < 2:
            return
        row, fleet = self._table.selected, self._dashboard.fleet
        branch = self._table.selected_branch
        is_live = self.kind == "details" and row is not None and not row.is_settled
        now = self._dashboard.clock_now
        shown, clock = row or branch, now if is_live else None
        state = (self.kind, shown, shown and shown.version, fleet.logged, len(fleet.logs), width, clock)
        if state == self._drawn:
            return
        is_same = state[:2] == self._drawn[:2]
        self._drawn = state
        is_at_end = round(self._view.scroll_y) + self._view.size.height >= len(self._view.lines)
        if row is None:
            lines = [_NO_WORKER if branch is None else _of_group(branch)]
        else:
            lines = self._log(row, width) if self.kind == "log" else self._details(row, width, now)
        self._title.show([self._title_line(row, self._title.size.width)])
        self._view.show(lines)
        if self.kind == "log" and (is_at_end or not is_same):
            self._view.scroll_to_edge(1)
        elif not is_same:
            self._view.scroll_to_edge(-1)

    def _title_line(self, row: Row | None, width: int) -> Line:
        left = [Span(f" {self.kind} ", "title")]
        if row is not None:
            name = crop_path(shown_name(row), max(8, width - 40))
            left += [Span(f"{name}  ", "strong"), Span(state_label(row.state), state_style(row.state))]
        right = [Span(_KEYS, "muted")]
        return spread(left, right if width_of(left) + len(_KEYS) < width else [], width)

    def _details(self, row: Row, width: int, now: float) -> list[Line]:
        from asyncwatch.ui.render.details import facts, report

        fleet = self._dashboard.fleet
        return [*facts(fleet, row, now, width), [], *report(fleet, row, now, width)]

    def _log(self, row: Row, width: int) -> list[Line]:
        from asyncwatch.ui.render.details import log_lines

        fleet = self._dashboard.fleet
        if self._logged != (row.name, width, fleet):
            self._logged, self._records, self._read = (row.name, width, fleet), [], -1
        new: list[tuple[int, list[Line]]] = []
        for record in reversed(fleet.logs):
            if record.seq <= self._read or len(new) >= _LOGS:
                break
            if record.worker == row.name:
                new.append((record.seq, log_lines(record, width)))
        self._read = fleet.logs[-1].seq if fleet.logs else -1
        self._records = [*self._records, *reversed(new)][-_LOGS:]
        lines = [line for _, lines in self._records for line in lines]
        return lines or [_NO_LOG]


_NO_LOG: Line = [Span("It has logged nothing so far. Its log records, prints and retries come here.", "muted")]
_NO_WORKER: Line = [Span("No worker is selected: ↓ selects one.", "muted")]


def _of_group(branch: Branch) -> Line:
    workers = count(sum(branch.counts.values()), "worker")
    return [Span(f"{safe(branch.path)} is a group of {workers}: ↓ selects one.", "muted")]
