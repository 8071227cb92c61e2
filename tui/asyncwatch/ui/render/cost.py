"""Overhead of asyncwatch and blocks of the event loop: in the header and on two pages. Pure."""

from __future__ import annotations

from pathlib import PurePath

from asyncwatch import text as units
from asyncwatch.events import LoopBlocked, WorkerState
from asyncwatch.events.run import FIXABLE_CAUSES, block_sentence, blocked_at, blocked_by
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.statistics import Histogram
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.snapshot import Snapshot
from asyncwatch.ui.render.spans import Line, Span, crop, crop_line, join, pad, width_of

_TOO_LATE = 0.1
"""Seconds of loop lag from which it is shown as a warning."""
_MUCH = 0.05
"""Share of a processor core from which the dashboard's own cost is shown."""
_NOTICE_TIME = 10.0
"""Seconds for which the header warns of a block that is over."""
_NAME_WIDTH = 30
_SHOWN_BLOCKS = 100


def gauges(snapshot: Snapshot, room: int) -> Line:
    """Return what is wrong with asyncwatch itself: an event loop that is late, a dashboard that takes much of a core.

    Empty otherwise. In little room words are left out, and the lag stays.
    """
    known, load, lag = snapshot.statistics, snapshot.frame_statistics.load, snapshot.statistics.loop_lag
    has_lag = lag >= _TOO_LATE and not snapshot.is_past
    late: Line = [Span("lag ", "muted"), Span(units.duration(lag), "warning")] if has_lag else []
    long_late: Line = [Span("loop ", "muted"), *late] if late else []
    cost: Line = []
    if load >= _MUCH:
        behind = f", {snapshot.frame_statistics.backlog:,} events behind" if known.events and has_lag else ""
        cost = [Span("dashboard ", "muted"), Span(f"{load:.0%} of a core", "warning"), Span(behind, "muted")]
    choices: tuple[list[Line], ...] = ([cost, long_late], [cost[:2], late], [late or cost[:2]])
    return next((line for parts in choices if width_of(line := join(parts)) <= room), late)


def present_block(snapshot: Snapshot, width: int) -> str:
    """Return how long the loop has been blocked, and the cause if there is room."""
    blocked = snapshot.statistics.blocked
    by = ""
    if blocked is not None and blocked.cause != "unknown":
        by = f" by {crop(fmt.safe(blocked_by(blocked)), _NAME_WIDTH)}"
        if width >= 140 and blocked.file:
            by += f" at {fmt.safe(blocked_at(blocked)).partition(': ')[0]}"
    text = f" event loop blocked for {snapshot.blocked_for:.0f} s"
    return f"{text}{by} " if len(text + by) + 40 <= width else f"{text} "


def recent_block(snapshot: Snapshot) -> Line:
    """Return a warning of a block of the loop that ended a few seconds ago; nothing if there was none."""
    blocks = snapshot.fleet.loop.blocks
    if not blocks or (last := blocks[-1]).at + _NOTICE_TIME < snapshot.clock_now or last.cause not in FIXABLE_CAUSES:
        return []
    text = Span(f" {fmt.safe(crop(block_sentence(last), 100))} ", "notice")
    return [text, Span(" d", "key"), Span(" shows more", "muted")]


def is_distorted(fleet: Fleet, row: Row) -> bool:
    """Return whether the duration of the row's last attempt was measured while the loop was late."""
    if row.state is WorkerState.RUNNING:
        return False  # the duration is the previous attempt's, whose start is not kept in the row
    return fleet.loop.is_distorted(row.attempt_started_at, row.last_duration)


def cost_lines(snapshot: Snapshot, *, memory: int | None, threads: int, width: int) -> list[Line]:
    """Return the page, in at most `width` cells a line. `memory`, in bytes, and `threads` are the dashboard's."""
    frames, known, watch = snapshot.frame_statistics, snapshot.statistics, snapshot.fleet.loop
    times = frames.frame_times
    lines = _section(
        "FRAMES",
        ("frame time", f"p50 {_quantile(times, 0.5)}, p95 {_quantile(times, 0.95)}, max {_quantile(times, 1.0)}"),
        ("frames drawn", f"{frames.frames:,} for {frames.received:,} events"),
        ("rows rendered a frame", f"{frames.lines / max(1, frames.frames):.1f}, max {frames.most_lines:,}"),
    )
    lines += _section("ENGINE", ("figures", "not recorded")) if snapshot.is_past else _engine_lines(snapshot)
    lines += _section(
        "DASHBOARD",
        ("memory", "unknown" if memory is None else f"{memory / 1e6:,.0f} MB"),
        ("processor, last 5 s", f"{frames.load:.1%} of a core"),
        ("threads", str(threads)),
    )
    lines += [[], [Span("EVENT LOOP BLOCKS", "heading")]]
    if not watch.count and known.blocked is None:
        lines.append([Span("none: nothing has blocked the event loop for 100 ms", "muted")])
        return lines
    lines.append([Span(f"{watch.count:,} in all, {units.duration(watch.seconds)} together", "muted")])
    if known.blocked is not None:
        lines.append(block_line(known.blocked, width, is_over=False))
    lines += [block_line(block, width) for block in list(watch.blocks)[: -_SHOWN_BLOCKS - 1 : -1]]
    return lines


def _engine_lines(snapshot: Snapshot) -> list[Line]:
    frames, known = snapshot.frame_statistics, snapshot.statistics
    return [
        *_section(
            "EVENTS",
            ("per second", units.rate(frames.events_per_second)),
            ("emitted, shown", f"{known.events:,}, {snapshot.fleet.events:,}"),
            ("queued", f"{frames.backlog:,}, max {frames.highest_backlog:,}"),
            ("skipped", f"{known.skipped:,}; a snapshot took their place" if known.skipped else "none"),
        ),
        *_section(
            "ENGINE",
            ("loop lag, last 10 s", f"p50 {units.duration(known.lag_p50)}, p95 {units.duration(known.lag_p95)}"),
            ("loop lag, max", units.duration(known.lag_highest)),
            ("live tasks", f"{known.tasks:,}, max {known.tasks_highest:,}"),
            ("abandoned tasks", f"{known.detached:,}"),
            (
                "garbage collection",
                f"{units.duration(known.collecting)} in all, max {units.duration(known.longest_collection)}",
            ),
        ),
    ]


def block_line(block: LoopBlocked, width: int, *, is_over: bool = True) -> Line:
    """Return one block: its start, duration, cause and place."""
    when = units.clock(block.began) if is_over else "now"
    cause = Span(pad(fmt.safe(blocked_by(block)), _NAME_WIDTH), "strong" if block.worker else "muted")
    head = [Span(pad(when, 8), "muted"), Span(pad(units.duration(block.duration), 9, right=True), "warning"), cause]
    return crop_line(join([[span] for span in head] + [[Span(fmt.safe(blocked_at(block)), "muted")]]), width)


def block_report(blocks: tuple[LoopBlocked, ...], width: int) -> list[Line]:
    """Return the blocks by one worker, newest first, and the stack of the newest."""
    if not blocks:
        return []
    lines: list[Line] = [[], [Span("BLOCKED THE EVENT LOOP", "heading")]]
    lines += [
        [
            Span(f"{units.clock(block.began)}  ", "muted"),
            Span(pad(units.duration(block.duration), 9, right=True), "warning"),
            Span(f"  incarnation {block.incarnation}, attempt {block.attempt}  ", "muted"),
            Span(fmt.safe(blocked_at(block))),
        ]
        for block in blocks[:-6:-1]
    ]
    lines += [
        [Span(fmt.safe(text), "muted" if text.startswith("    ") else "")]
        for text in blocks[-1].stack.rstrip("\n").split("\n")
    ]
    return [crop_line(line, width) for line in lines]


def stack_report(snapshot: Snapshot, worker: str, width: int) -> list[Line]:
    """Return the present stack of the worker, outermost frame first; nothing while it is unknown."""
    stack, blocked = snapshot.statistics.stack, snapshot.statistics.blocked
    if stack is None or stack.worker != worker or not (stack.frames or stack.is_blocking):
        return []
    # The stack is sampled: the worker may have ended since.
    row = snapshot.fleet.get(worker)
    if row is not None and row.is_settled and not snapshot.fleet.abandoned_of(worker):
        return []
    how: Line = [Span("  live", "running")]
    if stack.is_blocking:
        how = [Span("  blocking the event loop, sampled from another thread", "error")]
    elif blocked is not None:
        how = [Span(f"  before {fmt.safe(blocked_by(blocked))} blocked the event loop", "warning")]
    lines: list[Line] = [[], [Span("WHERE IT IS", "heading"), *how]]
    for frame in stack.frames:
        at = f"{PurePath(frame.file).name}:{frame.line} "
        lines.append(
            crop_line([Span(at, "muted"), Span(frame.function, "strong"), Span(f"  {fmt.safe(frame.text)}")], width)
        )
    return lines


def _section(title: str, *facts: tuple[str, str]) -> list[Line]:
    lines: list[Line] = [[], [Span(title, "heading")]]
    return lines + [[Span(pad(name, _NAME_WIDTH), "muted"), Span(text)] for name, text in facts]


def _quantile(times: Histogram, q: float) -> str:
    seconds = times.quantile(q)
    return "-" if seconds is None else units.duration(seconds)
