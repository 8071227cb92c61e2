"""What the instrument itself takes, as lines: the end of the header, and the page behind its key. Pure."""

from __future__ import annotations

from pathlib import PurePath

from asyncwatch import text as units
from asyncwatch.events import LoopBlocked, WorkerState
from asyncwatch.events.run import FIXABLE_CAUSES, block_sentence, blocked_at, blocked_by
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.statistics import Histogram
from asyncwatch.text import mask_secrets
from asyncwatch.ui.display import Scene
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.spans import Line, Span, crop, crop_line, join, pad, width_of

LATE = 0.1
"""Seconds of lag that are too much."""
NEWS_LAST = 10.0
"""Seconds for which the header warns of a block that is over."""
_NAME = 30
_BLOCKS_SHOWN = 100


def gauges(scene: Scene, room: int) -> Line:
    """Return what fits into `room` cells: loop lag, queue depth, events a second, frame time; the lag in any case.

    Words become shorter before a figure is left out.
    """
    meter, lag = scene.meter, scene.statistics.loop_lag
    paint = "warning" if lag >= LATE else "muted"
    events = units.rate(meter.events_per_second)
    frame: Line = [Span(f"frame {units.duration(meter.last_frame)}", "muted")]
    queue: Line = [Span(f"queue {meter.depth:,}", "muted")]
    brief_lag: Line = [Span("lag ", "muted"), Span(units.duration(lag), paint)]
    full_lag: Line = [Span("loop ", "muted"), *brief_lag]
    choices: tuple[list[Line], ...] = (
        [frame, queue, [Span(f"{events} events/s", "muted")], full_lag],
        [frame, queue, [Span(f"{events} ev/s", "muted")], brief_lag],
        [frame, queue, full_lag],
        [queue, full_lag],
        [full_lag],
        [brief_lag],
    )
    return next((line for parts in choices if width_of(line := join(parts)) <= room), brief_lag)


def blocked_notice(scene: Scene, width: int) -> str:
    """Return that the loop is blocked, for how long, and by whom where there is room for it."""
    blocked = scene.statistics.blocked
    by = ""
    if blocked is not None and blocked.cause != "unknown":
        by = f" by {crop(_shown(blocked_by(blocked)), _NAME)}"
        if width >= 140 and blocked.file:
            by += f" at {_shown(blocked_at(blocked)).partition(': ')[0]}"
    told = f" event loop blocked for {scene.blocked_for:.0f} s"
    return f"{told}{by} " if len(told + by) + 40 <= width else f"{told} "


def block_chip(scene: Scene) -> list[Line]:
    """Return a chip that warns of the last block of the loop for a while; none if there was none."""
    watch = scene.fleet.loop
    if not watch.blocks or (last := watch.blocks[-1]).at + NEWS_LAST < scene.moment or last.cause not in FIXABLE_CAUSES:
        return []
    told: Line = [Span(f" {_shown(crop(block_sentence(last), 100))} ", "notice")]
    return [[*told, Span(" d", "key"), Span(" tells more", "muted")]]


def is_distorted(fleet: Fleet, row: Row) -> bool:
    """Return whether the time of the last attempt of a row was measured while the loop was late."""
    if row.state is WorkerState.RUNNING:
        return False  # what took that long is the attempt before, of which the start is not at hand
    return fleet.loop.is_distorted(row.attempt_started_at, row.last_duration)


def cost_lines(scene: Scene, *, memory: int | None, threads: int, width: int) -> list[Line]:
    """Return the page, in at most `width` cells a line. `memory` is in bytes."""
    meter, known, watch = scene.meter, scene.statistics, scene.fleet.loop
    times = meter.frame_times
    lines = [
        *_section(
            "PICTURE",
            ("frame time", f"p50 {_quantile(times, 0.5)}, p95 {_quantile(times, 0.95)}, max {_quantile(times, 1.0)}"),
            ("frames drawn", f"{meter.frames:,} for {meter.received:,} events"),
            ("rows rendered a frame", f"{meter.lines / max(1, meter.frames):.1f}, at most {meter.most_lines:,}"),
        ),
        *_section(
            "EVENTS",
            ("a second", units.rate(meter.events_per_second)),
            ("emitted, in the picture", f"{known.events:,}, {scene.fleet.events:,}"),
            ("on the way", f"{meter.depth:,}, at most {meter.highest_depth:,}"),
            ("dropped", "none, they never are"),
        ),
        *_section(
            "ENGINE",
            ("loop lag, last 10 s", f"p50 {units.duration(known.lag_p50)}, p95 {units.duration(known.lag_p95)}"),
            ("loop lag, at most", units.duration(known.lag_highest)),
            ("tasks alive", f"{known.tasks:,}, seen at most {known.tasks_highest:,}"),
            ("left behind", f"{known.detached:,}"),
        ),
        *_section(
            "PROCESS",
            ("memory", "unknown" if memory is None else f"{memory / 1e6:,.0f} MB"),
            ("threads", str(threads)),
            (
                "garbage collection",
                f"{units.duration(known.collecting)} in all, {units.duration(known.longest_collection)} at most",
            ),
        ),
        [],
        [Span("BLOCKS OF THE LOOP", "heading")],
    ]
    if not watch.count and known.blocked is None:
        lines.append([Span("none so far: nothing kept the event loop for 100 ms", "muted")])
        return lines
    lines.append([Span(f"{watch.count:,} in all, {units.duration(watch.seconds)} together", "muted")])
    if known.blocked is not None:
        lines.append(block_line(known.blocked, width, is_over=False))
    lines += [block_line(block, width) for block in list(watch.blocks)[: -_BLOCKS_SHOWN - 1 : -1]]
    return lines


def block_line(block: LoopBlocked, width: int, *, is_over: bool = True) -> Line:
    """Return one block: when it began, for how long it lasted, who it was, and where."""
    when = units.clock(block.began) if is_over else "now"
    who = Span(pad(_shown(blocked_by(block)), _NAME), "strong" if block.worker else "muted")
    head = [Span(pad(when, 8), "muted"), Span(pad(units.duration(block.duration), 9, right=True), "warning"), who]
    return crop_line(join([[span] for span in head] + [[Span(_shown(blocked_at(block)), "muted")]]), width)


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
            Span(_shown(blocked_at(block))),
        ]
        for block in blocks[:-6:-1]
    ]
    lines += [
        [Span(_shown(text), "muted" if text.startswith("    ") else "")]
        for text in blocks[-1].stack.rstrip("\n").split("\n")
    ]
    return [crop_line(line, width) for line in lines]


def stack_report(scene: Scene, worker: str, width: int) -> list[Line]:
    """Return where the worker waits at this moment, outermost first; nothing while that is not known."""
    stack, blocked = scene.statistics.stack, scene.statistics.blocked
    if stack is None or stack.worker != worker or not (stack.frames or stack.is_blocking):
        return []
    # The stack is looked at now and then; that the worker has ended is known before.
    row = scene.fleet.get(worker)
    if row is not None and row.is_settled and not scene.fleet.abandoned_of(worker):
        return []
    how: Line = [Span("  live", "running")]
    if stack.is_blocking:
        how = [Span("  it blocks the event loop, as seen from outside", "error")]
    elif blocked is not None:
        how = [Span(f"  before {_shown(blocked_by(blocked))} blocked the event loop", "warning")]
    lines: list[Line] = [[], [Span("WHERE IT IS", "heading"), *how]]
    for frame in stack.frames:
        at = f"{PurePath(frame.file).name}:{frame.line} "
        lines.append(
            crop_line([Span(at, "muted"), Span(frame.function, "strong"), Span(f"  {_shown(frame.text)}")], width)
        )
    return lines


def _section(title: str, *facts: tuple[str, str]) -> list[Line]:
    lines: list[Line] = [[], [Span(title, "heading")]]
    return lines + [[Span(pad(name, _NAME), "muted"), Span(text)] for name, text in facts]


def _quantile(times: Histogram, q: float) -> str:
    seconds = times.quantile(q)
    return "-" if seconds is None else units.duration(seconds)


def _shown(text: str) -> str:
    return fmt.clean(mask_secrets(text))
