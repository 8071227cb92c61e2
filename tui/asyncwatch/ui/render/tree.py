"""The tree in the fleet table: lines of branches, indented names, and notes on waits and restarts. Pure."""

from __future__ import annotations

from collections.abc import Container

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import KnownKey, hold_phrase
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch, Gauge, Tree, label_of
from asyncwatch.text import brief_error
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import PREFIX, SHORT, TIMED, shown_name
from asyncwatch.ui.render.services import FLAPPING, ago, flapping_note
from asyncwatch.ui.render.spans import Line, Span, crop_line, join, spread, width_of

HOLDS = {
    "rate": "rate limit",
    "share": "share",
    "budget": "retry budget",
    "place": "no free slot",
    "paused": "paused",
}
"""Why an attempt is held back, in words."""
_ROOM_FOR_BLOCKS = 24
"""Cells from which the note on a block of the event loop is in full."""
_ROOM_FOR_NOTES = 24
_ROOM_FOR_COUNTS = 30
FOLDED, UNFOLDED = "▸", "▾"
_INDENT = 2
_DEEPEST = 8
"""Levels beyond which nothing is indented further."""
WIDEST_INDENT = _INDENT * (_DEEPEST + 1)
"""Cells before a name at most."""
STATES = (
    *(WorkerState.UNRESPONSIVE, WorkerState.RESTARTING, WorkerState.FAILED, WorkerState.EXHAUSTED),
    *(WorkerState.TIMED_OUT, WorkerState.BACKING_OFF, WorkerState.WAITING, WorkerState.CANCELLING),
    *(WorkerState.RUNNING, WorkerState.SUCCEEDED, WorkerState.CANCELLED, WorkerState.QUEUED),
)
"""In the order of urgency: the end of a line may be cut."""


def branch_line(
    branch: Branch, gauge: Gauge, width: int, *, is_folded: bool, is_selected: bool, left: int = 0, flapping: int = 0
) -> list[Span]:
    """Return the line of a branch: name, strategy, workers by state, restarts left. It is abbreviated to fit.

    `left` is the number of removed children that have no line, and `flapping` that of services that flap.
    """
    head: Line = [
        Span(" "),
        Span("›" if is_selected else " ", "mark"),
        Span(" " * (PREFIX - 2 + indent(branch.depth))),
        Span(f"{FOLDED if is_folded else UNFOLDED} ", "muted"),
        Span(shown_branch(branch), "strong"),
    ]
    strategy = [Span(branch.strategy, "muted")] if branch.strategy else []
    gone = [Span(f"+{left:,} removed", "muted")] if left else []
    long, short = gauge_line(branch, gauge), gauge_line(branch, gauge, is_short=True)
    counts = [*_counts(branch, flapping), gone]
    brief = [join(_counts(branch, flapping, is_short=True), 1), gone]
    for parts, right in (
        *(([strategy, *counts], long), ([strategy, *counts], short), ([strategy, *brief], long)),
        *(([strategy, *brief], short), (brief, short)),
    ):
        line = join([head, *parts])
        if width_of(line) + width_of(right) + 2 <= width:
            break
    return spread(line, [*right, Span(" ")] if right else [], width)


def _counts(branch: Branch, flapping: int, *, is_short: bool = False) -> list[Line]:
    present = [(state, branch.counts[state]) for state in STATES if branch.counts.get(state)]
    shown: list[Line] = [
        [Span(f"{fmt.GLYPHS[state]}{number:,}" if is_short else f"{fmt.GLYPHS[state]} {number:,} {state}", style)]
        for state, number in present
        # Green would say that all is well.
        for style in ["warning" if state is WorkerState.RUNNING and number <= flapping else fmt.state_style(state)]
    ]
    if flapping:
        shown.insert(
            0, [Span(f"{FLAPPING}{flapping:,}" if is_short else f"{FLAPPING} {flapping:,} flapping", "warning")]
        )
    return shown or [[Span("no workers", "muted")]]


def gauge_line(branch: Branch, gauge: Gauge, *, is_short: bool = False) -> list[Span]:
    """Return how many restarts a supervisor has left, or how it ended; nothing for a group."""
    if not branch.is_supervisor:
        return []
    if branch.ending:
        what = "restart limit reached" if branch.is_limit_reached else fmt.safe(branch.ending)
        return crop_line([Span(f"ended: {what}", "error" if what != "shutdown" else "muted")], 40)
    if gauge.expires_in is None and branch.is_limited_per_worker:
        return [Span("limited per worker", "faint")]
    if gauge.expires_in is None:
        allowed = f"{gauge.of:,}" if is_short else units.count(gauge.of, "restart")
        return [
            Span(f"up to {allowed} in {units.format_duration(branch.within)}" if gauge.of else "no restarts", "faint")
        ]
    of = f"{gauge.left:,} of {units.count(gauge.of, 'restart')}"
    left = f"{units.count(gauge.left, 'restart') if is_short else of} left"
    style = "warning" if gauge.left else "error"
    seconds = countdown(gauge.expires_in)
    expiry = f" · {seconds}" if is_short else f", oldest expires in {seconds}"
    return [Span(left, f"{style} strong"), Span(expiry, "muted")]


def shown_branch(branch: Branch) -> str:
    """Return the name of a branch, safe to show."""
    return fmt.safe(branch.name) or "(no group)"


def indent(depth: int) -> int:
    """Return the indent of names at that depth, in cells."""
    return _INDENT * min(depth, _DEEPEST + 1)


def label(row: Row, branch: Branch | None) -> str:
    """Return the worker's name as its row shows it: relative to its supervisor, and indented."""
    if branch is None:
        return shown_name(row)
    name = fmt.safe(label_of(row)) if branch.is_supervisor else shown_name(row)
    return " " * indent(branch.depth + 1) + name


def note(fleet: Fleet, row: Row, now: float, width: int = 80, shown: Container[str] = ()) -> str:
    """Return the note on a worker: its block of the event loop, its wait, its restarts and its last crash.

    It is abbreviated if `width` is small, and leaves out what the columns in `shown` say.
    """
    flaps = "" if "health" in shown else flapping_note(fleet, row, now, width)
    waits = _wait_note(fleet, row, now, width, shown)
    parts = [flaps, waits, _crash_note(fleet, row, now, is_brief=bool(waits), has_when=bool(flaps) or "crash" in shown)]
    block = fleet.loop.last_of(row.name)
    if block is not None and block.incarnation == row.incarnation:
        is_roomy = width >= _ROOM_FOR_BLOCKS
        blocked = f"blocked the loop {units.duration(block.duration)}" if is_roomy else f"blocked {block.duration:.1f}s"
        parts.insert(0, blocked)
    return " · ".join(filter(None, parts))


def _wait_note(fleet: Fleet, row: Row, now: float, width: int, shown: Container[str]) -> str:
    """Return what the worker waits for, or how near it is to its restart limit; nothing if its state shows that."""
    tree = fleet.tree
    match row.state:
        case WorkerState.WAITING:
            return held_by(fleet, row, now, width)
        case WorkerState.RUNNING if row.is_poller and row.retry_at is not None:
            if row.retry_at <= now:
                return "polling now"
            if "poll" in shown:
                return f"{row.calls:,} done" if row.calls else ""
            left = countdown(row.retry_at - now)
            if width < _ROOM_FOR_NOTES:
                return f"next in {left}"
            return f"next poll in {left}" + (f", {row.calls:,} done" if width >= _ROOM_FOR_COUNTS else "")
        case WorkerState.RUNNING if not row.is_ready:
            branch = tree.branch_of(row)
            return "not ready yet" if branch is not None and branch.is_supervisor else own_restarts(tree, row, now)
        case _ if row.is_settled:
            if not tree.is_at_limit(row):
                return ""
            return "restart limit reached" if width >= _ROOM_FOR_NOTES else "limit reached"
        case _:
            return own_restarts(tree, row, now)


def _crash_note(fleet: Fleet, row: Row, now: float, *, is_brief: bool, has_when: bool) -> str:
    """Return how often and why a running service was restarted, or why it last crashed.

    The number is of interest while the restarts count towards the limit. `has_when` says that the time is shown.
    """
    history = fleet.restarts.by_worker.get(row.name)
    branch = fleet.tree.branches.get(row.group)
    if history is None or not history.times or branch is None:
        return ""
    if row.state not in TIMED or row.incarnation == 1 or row.error:
        return ""
    crash, gauge = history.crashes[-1], fleet.tree.own_gauge(row, now)
    counts = crash.at + branch.within >= now if gauge is None else gauge.expires_in is not None
    cause = fmt.safe(brief_error(crash.cause))
    if has_when:
        return cause
    if counts:
        return f"restarted {history.times:,}×" + ("" if is_brief else f": {cause}")
    return "" if is_brief else f"crashed {ago(now - crash.at)} ago: {cause}"


def own_restarts(tree: Tree, row: Row, now: float) -> str:
    """Return how many restarts a worker with a limit of its own has left, if some are used."""
    gauge = tree.own_gauge(row, now)
    return "" if gauge is None or gauge.expires_in is None else f"{gauge.left} of {gauge.of} restarts left"


def held_by(fleet: Fleet, row: Row, now: float, width: int = 80) -> str:
    """Return why a worker is held back: `circuit open 3.2s (example.org)`, `share of example.org`, `paused`.

    If `width` is small, what matters most comes first: `circuit 3.2s (example.org)`.
    """
    reason, _, key = fleet.held_by(row).partition(" ")
    if reason == "throttled" and (known := fleet.keys.by_key.get(key)) is not None:
        return _throttled_by(known, now, width)
    circuit = fleet.circuits.by_key.get(key) if reason == "circuit" else None
    if circuit is None:
        return hold(reason, key)
    shown = fmt.safe(key)
    left = f" {max(0.0, circuit.open_until - now):.1f}s" if circuit.open_until is not None else ""
    state = "" if width < _ROOM_FOR_NOTES and left else f" {circuit.state}"
    return f"circuit{state}{left} ({shown})"


def hold(reason: str, key: str) -> str:
    """Return why an attempt is held back, whatever is known of its key."""
    if reason == "throttled":
        return f"throttled by {fmt.safe(key)}"
    return HOLDS.get(reason, reason) + (f" of {fmt.safe(key)}" if key else "")


def _throttled_by(known: KnownKey, now: float, width: int) -> str:
    """Return why a worker waits for a throttled key, in the longest words that fit; the key is often in its name."""
    key, phrase = fmt.safe(known.key), hold_phrase(known, now, has_tenths=True)
    if known.is_held:
        start, _, left = phrase.partition(", ")
        choices = [f"{key} {phrase}", f"{key} {start}", phrase, left or start]
    elif known.rate is None and known.limit is None:
        choices = [f"throttled by {key}", "throttled"]
    else:
        allowed = units.short_rate(known.rate) if known.rate is not None else f"{known.limit:,} at a time"
        choices = [f"{key} allows {allowed}", f"allows {allowed}", allowed]
    return next((choice for choice in choices if width_of([Span(choice)]) <= width), choices[-1])


def counts_down(fleet: Fleet, row: Row, now: float) -> bool:
    """Return whether the row shows a time that changes every tenth of a second until its worker goes on."""
    if row.state is not WorkerState.WAITING:
        return False
    reason, _, key = row.held.partition(" ")
    known = fleet.keys.by_key.get(key) if reason == "throttled" else None
    return reason == "circuit" if known is None else known.is_held and 0 < known.held_until - now < SHORT


def wait_state(fleet: Fleet, row: Row) -> object:
    """Return what the note on the row's wait depends on, apart from the time."""
    if not row.held:
        return ""
    reason, _, key = row.held.partition(" ")
    known = fleet.keys.by_key.get(key) if reason == "throttled" else None
    return fleet.held_by(row), known and (known.is_held, known.held_until, known.rate, known.limit)


def countdown(seconds: float) -> str:
    """Return the time left; below 10 seconds with a tenth."""
    seconds = max(0.0, seconds)
    return f"{seconds:.1f} s" if seconds < SHORT else f"{seconds:.0f} s" if seconds < 59.5 else units.elapsed(seconds)
