"""How the tree reads in the fleet: a branch, the name of a worker below it, and what a worker waits for. Pure."""

from __future__ import annotations

from asyncwatch.events import WorkerState
from asyncwatch.model.circuits import KnownCircuit
from asyncwatch.model.fleet import Fleet, Row
from asyncwatch.model.tree import Branch, Gauge, label_of
from asyncwatch.redact import mask_secrets
from asyncwatch.ui import format as fmt
from asyncwatch.ui.columns import PREFIX, shown_name
from asyncwatch.ui.lines import Line, Span, crop_line, join, spread, width_of

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


def branch_line(branch: Branch, gauge: Gauge, width: int, *, is_folded: bool, is_selected: bool) -> list[Span]:
    """Return the line of a branch: its name and strategy, how many workers are in which state, its restarts."""
    head: Line = [
        Span(" "),
        Span("›" if is_selected else " ", "mark"),
        Span(" " * (PREFIX - 2 + indent(branch.depth))),
        Span(f"{FOLDED if is_folded else UNFOLDED} ", "muted"),
        Span(shown_branch(branch), "strong"),
    ]
    counts = join(
        [
            [Span(f"{fmt.GLYPHS[state]} {branch.counts[state]:,} {state}", fmt.paint_of(state))]
            for state in STATES
            if branch.counts.get(state)
        ]
    ) or [Span("no worker", "muted")]
    left = join([head, [Span(branch.strategy, "muted")] if branch.strategy else [], counts])
    for right in (gauge_line(branch, gauge), gauge_line(branch, gauge, is_short=True)):
        if width_of(left) + width_of(right) + 2 <= width:
            break
    return spread(left, [*right, Span(" ")] if right else [], width)


def gauge_line(branch: Branch, gauge: Gauge, *, is_short: bool = False) -> list[Span]:
    """Return what is left of the restarts of a supervisor, or how it ended; nothing for a group."""
    if not branch.is_supervisor:
        return []
    if branch.ending:
        what = "restart limit reached" if branch.is_limit_reached else fmt.clean(branch.ending)
        return crop_line([Span(f"ended: {what}", "error" if what != "shutdown" else "muted")], 40)
    if gauge.expires_in is None:
        return [Span(f"{gauge.left} of {gauge.of} left", "faint")]
    paint = "warning" if gauge.left else "error"
    seconds = f"{gauge.expires_in:.1f} s" if gauge.expires_in < 59.95 else fmt.elapsed(gauge.expires_in)
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


def note(fleet: Fleet, row: Row, now: float) -> str:
    """Return what the worker waits for, if its state alone does not tell; else nothing."""
    match row.state:
        case WorkerState.WAITING:
            return held_by(row.held, fleet.circuits.by_key, now)
        case WorkerState.RUNNING if row.is_poller and row.retry_at is not None:
            return f"next call in {countdown(row.retry_at - now)}" if row.retry_at > now else "called now"
        case WorkerState.RUNNING if not row.is_ready:
            branch = fleet.tree.branch_of(row)
            return "not ready yet" if branch is not None and branch.is_supervisor else ""
        case _:
            return ""


def held_by(held: str, circuits: dict[str, KnownCircuit], now: float) -> str:
    """Return what holds a worker in words: `circuit open 3.2s (example.org)`, `rate limit`."""
    reason, _, key = held.partition(" ")
    shown = fmt.clean(mask_secrets(key))
    if reason == "rate":
        return f"rate limit of {shown}" if key else "rate limit"
    circuit = circuits.get(key) if reason == "circuit" else None
    if circuit is None:
        return f"{reason} {shown}".rstrip()
    left = f" {max(0.0, circuit.open_until - now):.1f}s" if circuit.open_until is not None else ""
    return f"circuit {circuit.state}{left} ({shown})"


def countdown(seconds: float) -> str:
    """Return the seconds that are left, with a tenth as long as they are few."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 59.95 else fmt.elapsed(seconds)
