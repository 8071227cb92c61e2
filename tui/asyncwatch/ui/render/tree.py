"""How the tree reads in the fleet: a branch, the name of a worker below it, and what a worker waits for. Pure."""

from __future__ import annotations

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.circuits import KnownCircuit
from asyncwatch.model.error_text import brief_error
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch, Gauge, Tree, label_of
from asyncwatch.text import mask_secrets
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import PREFIX, TIMED, shown_name
from asyncwatch.ui.render.spans import Line, Span, crop_line, join, spread, width_of

HOLDS = {"rate": "rate limit", "place": "no free place", "paused": "paused"}
"""Why an attempt is held, in words."""
_ROOM_FOR_BLOCKS = 24
"""Cells from which on it is said in full that a worker blocked the event loop."""
_ROOM_FOR_NOTES = 24
_ROOM_FOR_COUNTS = 30
FOLDED, UNFOLDED = "▸", "▾"
_INDENT = 2
_DEEPEST = 8
"""Levels beyond which nothing moves further to the right."""
WIDEST_INDENT = _INDENT * (_DEEPEST + 1)
"""Cells in front of a name at the most."""
STATES = (
    *(WorkerState.UNRESPONSIVE, WorkerState.RESTARTING, WorkerState.FAILED, WorkerState.EXHAUSTED),
    *(WorkerState.TIMED_OUT, WorkerState.BACKING_OFF, WorkerState.WAITING, WorkerState.CANCELLING),
    *(WorkerState.RUNNING, WorkerState.SUCCEEDED, WorkerState.CANCELLED, WorkerState.QUEUED),
)
"""What needs a look first: the end of the line may be cut."""


def branch_line(
    branch: Branch, gauge: Gauge, width: int, *, is_folded: bool, is_selected: bool, left: int = 0
) -> list[Span]:
    """Return the line of a branch: its name and strategy, how many workers are in which state, its restarts.

    `left` is how many have left a pool. What does not fit is said shorter.
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
    counts = [*_counts(branch), gone]
    brief = [join(_counts(branch, is_short=True), 1), gone]
    for parts, right in (
        *(([strategy, *counts], long), ([strategy, *counts], short), ([strategy, *brief], long)),
        *(([strategy, *brief], short), (brief, short)),
    ):
        line = join([head, *parts])
        if width_of(line) + width_of(right) + 2 <= width:
            break
    return spread(line, [*right, Span(" ")] if right else [], width)


def _counts(branch: Branch, *, is_short: bool = False) -> list[Line]:
    """Return how many workers are in which state, where anybody is."""
    present = [(state, branch.counts[state]) for state in STATES if branch.counts.get(state)]
    return [
        [Span(f"{fmt.GLYPHS[state]}{number:,}" if is_short else f"{fmt.GLYPHS[state]} {number:,} {state}", paint)]
        for state, number in present
        for paint in [fmt.paint_of(state)]
    ] or [[Span("no worker", "muted")]]


def gauge_line(branch: Branch, gauge: Gauge, *, is_short: bool = False) -> list[Span]:
    """Return what is left of the restarts of a supervisor, or how it ended; nothing for a group."""
    if not branch.is_supervisor:
        return []
    if branch.ending:
        what = "restart limit reached" if branch.is_limit_reached else fmt.clean(branch.ending)
        return crop_line([Span(f"ended: {what}", "error" if what != "shutdown" else "muted")], 40)
    if gauge.expires_in is None and branch.is_limited_per_worker:
        return [Span("each its own limit", "faint")]
    if gauge.expires_in is None:
        return [Span(f"{gauge.left} of {gauge.of} left", "faint")]
    paint = "warning" if gauge.left else "error"
    seconds = countdown(gauge.expires_in)
    expiry = f" · {seconds}" if is_short else f", oldest expires in {seconds}"
    return [Span(f"{gauge.left} of {gauge.of} left", f"{paint} strong"), Span(expiry, "muted")]


def shown_branch(branch: Branch) -> str:
    """Return the name of a branch as it may stand on the screen."""
    return fmt.clean(mask_secrets(branch.name)) or "(no group)"


def indent(depth: int) -> int:
    """Return how many cells the names at that depth are moved to the right."""
    return _INDENT * min(depth, _DEEPEST + 1)


def label(row: Row, branch: Branch | None) -> str:
    """Return the worker's name as it stands in its branch, if branches are shown."""
    if branch is None:
        return shown_name(row)
    name = fmt.clean(mask_secrets(label_of(row))) if branch.is_supervisor else shown_name(row)
    return " " * indent(branch.depth + 1) + name


def note(fleet: Fleet, row: Row, now: float, width: int = 80) -> str:
    """Return what is to be said of a worker besides its state: blocks of the event loop, what it waits for, restarts.

    It is said shorter where `width` cells are few.
    """
    waits = _wait_note(fleet, row, now, width)
    told = [waits, _restart_note(fleet, row, now, is_brief=bool(waits))]
    block = fleet.loop.last_of(row.name)
    if block is not None and block.incarnation == row.incarnation:
        is_roomy = width >= _ROOM_FOR_BLOCKS
        blocked = f"blocked the loop {units.duration(block.duration)}" if is_roomy else f"blocked {block.duration:.1f}s"
        told.insert(0, blocked)
    return " · ".join(filter(None, told))


def _wait_note(fleet: Fleet, row: Row, now: float, width: int) -> str:
    """Return what the worker waits for, or is near to, if its state alone does not tell; else nothing."""
    tree = fleet.tree
    match row.state:
        case WorkerState.WAITING:
            return held_by(fleet.held_by(row), fleet.circuits.by_key, now, is_brief=width < _ROOM_FOR_NOTES)
        case WorkerState.RUNNING if row.is_poller and row.retry_at is not None:
            if row.retry_at <= now:
                return "called now"
            left = countdown(row.retry_at - now)
            if width < _ROOM_FOR_NOTES:
                return f"next in {left}"
            return f"next call in {left}" + (f", {row.calls:,} done" if width >= _ROOM_FOR_COUNTS else "")
        case WorkerState.RUNNING if not row.is_ready:
            branch = tree.branch_of(row)
            return "not ready yet" if branch is not None and branch.is_supervisor else own_restarts(tree, row, now)
        case _ if row.is_settled:
            if not tree.is_at_limit(row):
                return ""
            return "restart limit reached" if width >= _ROOM_FOR_NOTES else "limit reached"
        case _:
            return own_restarts(tree, row, now)


def _restart_note(fleet: Fleet, row: Row, now: float, *, is_brief: bool) -> str:
    """Return how often a worker that is up again had to be restarted, while that counts for its limit; and why."""
    restarted = fleet.restarts.by_worker.get(row.name)
    branch = fleet.tree.branches.get(row.group)
    if restarted is None or branch is None or row.state not in TIMED or row.incarnation == 1 or row.error:
        return ""
    gauge = fleet.tree.own_gauge(row, now)
    counts = restarted.at + branch.within >= now if gauge is None else gauge.expires_in is not None
    if not counts:
        return ""
    cause = "" if is_brief else f": {fmt.clean(mask_secrets(brief_error(restarted.cause)))}"
    return f"restarted {restarted.times:,}×{cause}"


def own_restarts(tree: Tree, row: Row, now: float) -> str:
    """Return what is left of a worker's own restarts while some of them are used up; else nothing."""
    gauge = tree.own_gauge(row, now)
    return "" if gauge is None or gauge.expires_in is None else f"{gauge.left} of {gauge.of} restarts left"


def held_by(held: str, circuits: dict[str, KnownCircuit], now: float, *, is_brief: bool = False) -> str:
    """Return what holds a worker in words: `circuit open 3.2s (example.org)`, `rate limit`, `place`, `paused`.

    Where it has to be brief the time comes first: `circuit 3.2s (example.org)`.
    """
    reason, _, key = held.partition(" ")
    shown = fmt.clean(mask_secrets(key))
    if reason in HOLDS:
        return f"{HOLDS[reason]} of {shown}" if key else HOLDS[reason]
    circuit = circuits.get(key) if reason == "circuit" else None
    if circuit is None:
        return f"{reason} {shown}".rstrip()
    left = f" {max(0.0, circuit.open_until - now):.1f}s" if circuit.open_until is not None else ""
    state = "" if is_brief and left else f" {circuit.state}"
    return f"circuit{state}{left} ({shown})"


def countdown(seconds: float) -> str:
    """Return the seconds that are left, with a tenth as long as they are few."""
    seconds = max(0.0, seconds)
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s" if seconds < 59.5 else units.elapsed(seconds)
