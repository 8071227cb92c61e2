"""Columns of the fleet table: their widths, and the cells of a row. Pure."""

from __future__ import annotations

import functools
from collections.abc import Collection, Container, Mapping, Sequence
from typing import NamedTuple

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.rows import IN_FLIGHT, Row
from asyncwatch.text import brief_error
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.spans import Span, crop_line, crop_path, join, pad, width_of

PREFIX = 3
"""Cells before the first column: mark, cursor, sibling sign."""

MARK = "▌"
THROTTLED = fmt.GLYPHS[WorkerState.WAITING]
"""Precedes the number of throttled attempts."""
LATE = "~"
"""Precedes a time measured while the event loop was late."""

TIMED = frozenset(
    {
        *(WorkerState.RUNNING, WorkerState.BACKING_OFF, WorkerState.WAITING, WorkerState.RESTARTING),
        *(WorkerState.CANCELLING, WorkerState.UNRESPONSIVE),
    }
)
"""States whose row changes with time alone."""
TENTH, SECOND = 0.1, 1.0
"""Seconds between two changes of a shown time, by its last digit."""
SHORT = 9.95
"""Seconds below which a time that is running is shown with a tenth."""

HEADINGS = {
    "name": ("WORKER", "WORKER"),
    "state": ("STATE", "STATE"),
    "health": ("HEALTH", "HEALTH"),
    "since": ("UP SINCE", "UP SINCE"),
    "restarts": ("RESTARTS", "RESTARTS"),
    "crash": ("LAST CRASH", "CRASHED"),
    "poll": ("NEXT POLL", "POLL"),
    "retries": ("RETRIES", "RETRY"),
    "waits": ("WAITS", "WAITS"),
    "luck": ("BAD LUCK", "LUCK"),
    "progress": ("PROGRESS", "PROGRESS"),
    "result": ("RESULT", "RESULT"),
    "last": ("LAST", "LAST"),
    "elapsed": ("ELAPSED", "ELAPSED"),
    "error": ("ERROR", "ERROR"),
}
SORT_OF = {"health": "state", "since": "elapsed", "crash": "restarts", "poll": "elapsed"}
"""Columns of services, and the order that a click on their heading asks for."""
OF_SERVICES = {"health": 10, "since": 8, "restarts": 8, "crash": 8, "poll": 8}
"""Columns that only services have, with their widths at least."""
_DROPPED = (("last", 20), ("result", 12), ("progress", 12), ("waits", 12), ("elapsed", 12))
"""Columns without which a table does where there is no room, the least important one first, with the cells that the
error has to keep."""
_DROPPED_OF_SERVICES = (
    *(("last", 24), ("poll", 24), ("result", 24), ("progress", 24), ("waits", 24), ("crash", 24)),
    *(("since", 12), ("restarts", 12), ("health", 12)),
)
"""The same where there are services."""
_DROPPED_OF_BOTH = (
    *(("last", 24), ("poll", 24), ("crash", 24), ("result", 24), ("progress", 24), ("waits", 24)),
    *(("since", 24), ("restarts", 24), ("elapsed", 12), ("health", 12)),
)
"""The same where a batch runs beside services: most rows have no restarts, and each has a time."""
_NOTHING: Mapping[str, tuple[str, str]] = {}
OPTIONAL = frozenset({"waits", "progress"})
"""Columns that most runs do without: how often a worker was asked to wait, and how far it says it is."""
FIXED = frozenset({"name", "state", "retries", "luck", "error"})
"""Columns of every row."""
OBSERVED_HEADING = ("WAITS AT, RESULT OR ERROR", "WAITS AT")
_RIGHT = frozenset({"last", "elapsed"})
_COUNTED_DOWN = {WorkerState.BACKING_OFF: "backoff", WorkerState.RESTARTING: "restart"}
"""States that end at a known time, in words short enough for a countdown beside them."""
_REFUSALS = {
    "retry budget": "no retry, budget used up",
    "deadline": "no retry, deadline",
    "person": "given up by a person",
    "patience": "throttled for too long",
}
"""Why a worker gets no further attempt, in words."""

_CACHED = 512
"""Cached cells of each kind: more than a screen has rows, which are drawn ten times a second."""

ENOUGH_OF_ERROR = 60
"""Cells in which most errors say what matters."""


class Layout(NamedTuple):
    """The shown columns in order, with their widths in cells, and the gap between two of them."""

    columns: tuple[tuple[str, int], ...]
    gap: int
    scheme: str = ""
    """Prefix that all names share, as `https://`; it is not shown."""
    is_observed: bool = False
    """Whether the last column has what a task does, its result or its error."""

    def column_at(self, x: int) -> str | None:
        """Return the order of the column at cell `x` of a row, None if there is none."""
        left = PREFIX
        for key, width in self.columns:
            if left <= x < left + width + self.gap:
                return SORT_OF.get(key, key)
            left += width + self.gap
        return None


def arrange(
    width: int,
    widest_name: int,
    widest_result: int,
    widest_error: int = ENOUGH_OF_ERROR,
    scheme: str = "",
    without: Container[str] = OPTIONAL,
    of_services: Collection[str] = (),
    *,
    is_luck_idle: bool = False,
    is_observed: bool = False,
) -> Layout:
    """Share out `width` cells: each column gets its minimum, then important columns grow, and the error gets the rest.

    `widest_name`, `widest_result` and `widest_error` are the cells that the texts would need. If errors are short,
    names and results get their room. The columns in `without` are left out; if the minimum is too wide, so are the
    least important ones, and the last time, which most often equals the elapsed one, before an error is cut. Those of
    services are there if `of_services` has them. Idle bad luck, which strikes no worker, is a number without a bar. For
    observed tasks, which have few columns, the last one has all that there is to say.
    """
    if is_observed:
        hidden = {"elapsed"} if "elapsed" in without else set()
        without, of_services = hidden | {"retries", "luck", "last", "result", *OPTIONAL}, ()
        widest_error = max(widest_result, widest_error)
    widths = {
        "name": min(max(6, widest_name), 20),
        "state": 14,
        **{key: least for key, least in OF_SERVICES.items() if key in of_services},
        "retries": 5,
        "waits": 5,
        "luck": 4 if is_luck_idle else 6,
        "progress": 10,
        "result": 6,
        "last": 7,
        "elapsed": 7,
    }
    widths = {key: least for key, least in widths.items() if key not in without}
    gap = 1
    needed = max(len(HEADINGS["error"][0]) + 1, widest_error)

    def spare(kept: int) -> int:
        return width - PREFIX - sum(widths.values()) - gap * len(widths) - kept

    dropped = _DROPPED if not of_services else _DROPPED_OF_BOTH if "elapsed" in widths else _DROPPED_OF_SERVICES
    for key, kept in dropped:
        if key in widths and spare(kept) < 0:
            del widths[key]
    if (missing := -spare(12)) > 0:
        widths["name"] = max(6, widths["name"] - missing)
    for key in ("luck", "retries"):
        if key in widths and spare(0) < 0:
            del widths[key]
    least_error = 24 if is_luck_idle or of_services else 20
    if spare(least_error) >= len(widths):
        gap = 2
    growth: tuple[tuple[str, int, int], ...] = (
        *(("since", 17, 20), ("state", 18, 20), ("retries", 7, 20), ("name", min(widest_name, 32), 20)),
        *(("luck", 12, 32 if of_services else 20), ("progress", 18, 30), ("restarts", 20, 32), ("crash", 17, 32)),
        *(("result", min(widest_result, 12), 20), ("luck", 17, 30), ("name", min(widest_name, 60), 30)),
        *(("result", min(widest_result, 32), 40), ("name", widest_name, ENOUGH_OF_ERROR)),
        ("result", widest_result, ENOUGH_OF_ERROR),
    )
    if is_luck_idle:
        rest = ((key, wanted, max(kept, 28)) for key, wanted, kept in growth if key != "luck")
        growth = (("name", min(widest_name, 32), 24), *rest)
    for key, wanted, kept in growth:
        if key not in widths:
            continue
        kept = max(kept, least_error if of_services else 0)  # noqa: PLW2901
        more = wanted - widths[key]
        # Only these two may change with the first error, so that the other columns stay where they are.
        if key in {"name", "result"}:
            kept = min(kept, needed)  # noqa: PLW2901  errors do not need more
            more = min(more, spare(kept))
        if 0 < more <= spare(kept):
            widths[key] += more
    return Layout((*widths.items(), ("error", max(0, spare(0)))), gap, scheme, is_observed)


def heading(layout: Layout, sort_key: str, *, is_reversed: bool) -> list[Span]:
    """Return the heading, with an arrow at the column by which rows are sorted."""
    line = [Span(" " * PREFIX)]
    for key, width in layout.columns:
        long, short = OBSERVED_HEADING if layout.is_observed and key == "error" else HEADINGS[key]
        text = long if len(long) <= width else short
        is_sorted = key == sort_key or (SORT_OF.get(key) == sort_key and sort_key not in dict(layout.columns))
        # The arrow may use the gap: a heading as wide as its column must not be cut.
        arrow = ("▼" if is_reversed else "▲") if is_sorted else ""
        taken = max(width, len(text + arrow))
        line += [
            Span(pad(text + arrow, taken, right=key in _RIGHT), "strong" if is_sorted else ""),
            Span(" " * (width + layout.gap - taken)),
        ]
    return line[:-1]


def cells(
    row: Row,
    now: float,
    layout: Layout,
    *,
    is_selected: bool,
    is_marked: bool,
    label: str | None = None,
    note: str = "",
    is_sibling: bool = False,
    is_late: bool = False,
    is_service: bool = False,
    state_style: str = "",
    of_service: Mapping[str, tuple[str, str]] = _NOTHING,
) -> list[Span]:
    """Return the line of one row at the run time `now` (seconds).

    `label` replaces its name and `note` is put before its error. `is_sibling` says that it would be restarted together
    with another worker; `is_late` that its last attempt was measured while the event loop was late; `is_service` that
    it should run for ever, so that tenths of a second do not matter. `state_style` replaces the style of its state.
    `of_service` has the texts and styles of the columns of services.
    """
    gap = layout.gap
    line = [
        Span(MARK if is_marked else " ", "mark"),
        Span("›" if is_selected else " ", "mark"),
        Span(fmt.GLYPHS[WorkerState.RESTARTING] if is_sibling else " ", "mark"),
    ]
    for key, width in layout.columns:
        match key:
            case "name":
                line += _name(shown_name(row) if label is None else label, layout.scheme, width, gap)
            case "error" if layout.is_observed and not row.state.is_trouble:
                line += _cell(fmt.safe(row.report or row.result or ""), "muted" if row.report else "", width, 0)
            case "error":
                line += _error(row, note, width)
            case _ if key in OF_SERVICES:
                line += _cell(*of_service.get(key, ("-", "faint")), width, gap)
            case "state" if state_style:
                line += _state(row, now, width, gap, state_style)
            case "elapsed" if is_service:
                line += _elapsed(row, now, width, gap, is_short=False)
            case "last" if is_late:
                line += _cell(f"{LATE}{units.duration(row.last_duration or 0.0)}", "warning", width, gap, right=True)
            case _:
                line += _CELLS[key](row, now, width, gap)
    return line


@functools.lru_cache(8 * _CACHED)
def _cell(text: str, style: str, width: int, gap: int, *, right: bool = False) -> tuple[Span, ...]:
    """Return a cell and the gap after it. Most cells of a frame look like one in the frame before."""
    return Span(pad(text, width, right=right), style), Span(" " * gap)


def period(row: Row, now: float, *, is_service: bool, counts_down: bool = False) -> float | None:
    """Return the seconds between two changes of the row's line if nothing happens; None if it does not change.

    `counts_down` says that its note does, in tenths of a second.
    """
    if row.state not in TIMED:
        return None
    seconds = row.elapsed(now)
    has_tenths = not is_service and seconds is not None and seconds < SHORT
    has_tenths |= row.retry_at is not None and 0 < row.retry_at - now < SHORT
    return TENTH if has_tenths or counts_down else SECOND


def shown_name(row: Row) -> str:
    """Return the worker's name as people say it, safe to show."""
    return _safe(row.name)


def shown_error(row: Row) -> str:
    """Return the row's error, safe to show, with the most telling part first."""
    return _brief(row.error)


@functools.lru_cache(_CACHED)
def _safe(name: str) -> str:
    return fmt.safe(units.short_name(name))


@functools.lru_cache(_CACHED)
def _brief(error: str) -> str:
    return fmt.safe(brief_error(error))


def luck(draw: float | None, *, is_struck: bool, width: int) -> list[Span]:
    """Return the draw: a bar if there is room, two decimals, and a mark if it struck."""
    style = "struck" if is_struck else "muted"
    if draw is None:
        return [Span("-", "faint")]
    number = units.luck(draw)
    spans = [Span(number, style)]
    if is_struck and width > len(number):
        spans.append(Span(f" {fmt.STRUCK}", style))
    room = width - 7
    if room >= 3:
        filled, empty = fmt.bar(draw, room)
        spans = [Span(filled, style), Span(empty, "faint"), Span(" "), *spans]
    return spans


@functools.lru_cache(_CACHED)
def _name(name: str, scheme: str, width: int, gap: int) -> tuple[Span, ...]:
    bare = name.lstrip(" ")
    indent = min(len(name) - len(bare), max(0, width - 4))
    return _cell(" " * indent + crop_path(bare.removeprefix(scheme), width - indent), "", width, gap)


def scheme_of(name: str) -> str:
    """Return the `http://` or `https://` at the start of the name, or an empty string."""
    return next((scheme for scheme in ("http://", "https://") if name.startswith(scheme)), "")


def _state(row: Row, now: float, width: int, gap: int, style: str = "") -> tuple[Span, ...]:
    label = fmt.state_label(row.state)
    if row.state in _COUNTED_DOWN and row.retry_at is not None:
        left = max(0.0, row.retry_at - now)
        if width < 18:
            label = f"{fmt.GLYPHS[row.state]} {_COUNTED_DOWN[row.state]}"
        label += f" {left:.1f}s" if left < SHORT else f" {left:.0f}s"
    return _cell(label, style or fmt.state_style(row.state), width, gap)


def _retries(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    can_retry = row.max_attempts > 1 or row.retries
    text = f"{row.retries}/{max(0, row.max_attempts - 1)}" if can_retry else ""
    if not text:
        return _cell("-", "faint", width, gap)
    return _cell(text, "warning" if row.retries else "muted", width, gap)


def _waits(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    if not row.throttled:
        return _cell("-", "faint", width, gap)
    return _cell(f"{THROTTLED}{row.throttled}", "waiting", width, gap)


def _progress(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    if row.progress is None:
        return _cell("-", "faint", width, gap)
    style = "running" if row.state in IN_FLIGHT else "muted"
    part, amount = row.part_done, fmt.safe(units.progress_line(row.progress, ""))
    if part is None or len(amount) >= width:
        return _cell(amount if part is None else f"{part:.0%}", style, width, gap)
    room = width - len(amount) - 1
    filled, empty = fmt.bar(part, room if room >= 3 else 0)
    bar = [Span(filled, style), Span(empty, "faint"), Span(" ")] if room >= 3 else []
    spans = [*bar, Span(amount, style)]
    return *spans, Span(" " * (width - width_of(spans) + gap))


def _luck(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    return _luck_cell(row.bad_luck, width, gap, is_struck=row.is_struck)


@functools.lru_cache(_CACHED)
def _luck_cell(draw: float | None, width: int, gap: int, *, is_struck: bool) -> tuple[Span, ...]:
    spans = luck(draw, is_struck=is_struck, width=width)
    return *spans, Span(" " * (width - width_of(spans) + gap))


def _result(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    if row.state in IN_FLIGHT and row.status:
        return _cell(fmt.safe(row.status), "muted", width, gap)
    if row.result is None:
        return _cell("-", "faint", width, gap)
    return _cell(fmt.safe(row.result), "", width, gap)


def _last(row: Row, now: float, width: int, gap: int) -> tuple[Span, ...]:
    del now
    if row.last_duration is None:
        return _cell("-", "faint", width, gap, right=True)
    return _cell(units.duration(row.last_duration), "muted", width, gap, right=True)


def _elapsed(row: Row, now: float, width: int, gap: int, *, is_short: bool = True) -> tuple[Span, ...]:
    seconds = row.elapsed(now)
    if seconds is None:
        return _cell("-", "faint", width, gap, right=True)
    if row.state not in TIMED:
        text = units.elapsed(seconds)
    elif is_short and seconds < SHORT:
        text = f"{seconds:.1f} s"
    else:
        whole = round(seconds)
        text = f"{whole} s" if whole < 60 else units.elapsed(whole)
    return _cell(text, "", width, gap, right=True)


def in_a_row(row: Row) -> str:
    """Return ` in a row` if more than one poll has failed."""
    return " in a row" if row.failed_polls > 1 else ""


def _error(row: Row, note: str, width: int) -> Sequence[Span]:
    if width <= 0:
        return ()
    text = f"{_REFUSALS.get(row.refusal, row.refusal)}: {shown_error(row)}" if row.refusal else shown_error(row)
    if row.failed_polls:
        mark = Span(f"failing: {units.count(row.failed_polls, 'poll')}{in_a_row(row)} failed: {text}", "error")
        return crop_line(join([[mark], [Span(note, "note")] if note else []]), width)
    if not note:
        return _cell(text, "error" if row.state.is_trouble else "muted", width, 0)
    return crop_line(join([[Span(note, "note")], [Span(text, "muted")] if text else []]), width)


_CELLS = {
    "state": _state,
    "retries": _retries,
    "waits": _waits,
    "luck": _luck,
    "progress": _progress,
    "result": _result,
    "last": _last,
    "elapsed": _elapsed,
}
