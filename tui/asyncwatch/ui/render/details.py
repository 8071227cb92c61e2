"""The page of one worker: facts, attempts on a time axis, last traceback, log. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from asyncwatch import text as units
from asyncwatch.events import AttemptHeld, LogRecorded, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.history import FIRST_KEPT, AttemptRecord
from asyncwatch.model.rows import Row
from asyncwatch.model.statistics import LoopWatch
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import LATE, luck, shown_name
from asyncwatch.ui.render.cost import block_report
from asyncwatch.ui.render.log import LEVEL_STYLES, fold
from asyncwatch.ui.render.services import ago, clock_at, flapping_note, health
from asyncwatch.ui.render.spans import Line, Span, crop_line, join, pad, width_of, wrap
from asyncwatch.ui.render.tree import countdown, gauge_line, held_by, hold

_NEXT = {WorkerState.RESTARTING: "next incarnation in", WorkerState.RUNNING: "next poll in"}
_ROOM_FOR_CAUSE = 30
"""Cells that the cause of a crash needs beside its time; with fewer it has lines of its own."""
_AT_ONCE = 0.01
"""Shorter delays, in seconds, are shown as "immediately"."""
_CANCELLED_BY = {
    "person": "a person",
    "run": "the end of the run",
    "timeout": "the total timeout",
    "restart": "a restart",
    "attempt timeout": "the timeout of its attempt",
    "supervisor": "its supervisor",
    "halt": "the halt of the batch",
}
"""CANCEL_REASONS in words."""
_OUTCOME_STYLES = {"succeeded": "succeeded", "cancelled": "cancelled", "timed out": "timed-out"}


def facts(fleet: Fleet, row: Row, now: float, width: int) -> list[Line]:
    """Return the head of the page: name and state, then all other facts that apply."""
    tree = fleet.tree
    seconds = row.elapsed(now)
    known = [
        ("group", fmt.safe(row.group)),
        ("incarnation", str(row.incarnation) if row.incarnation > 1 else ""),
        ("attempt", _attempt_number(row)),
        ("throttled", units.count(row.throttled, "time") if row.throttled else ""),
        ("successful polls", f"{row.calls:,}" if row.calls else ""),
        ("failed polls in a row", f"{row.failed_polls:,}" if row.failed_polls else ""),
        ("elapsed", units.elapsed(seconds) if seconds is not None else ""),
        ("progress" if row.report else "last progress", fmt.safe(row.last_report)),
        ("ran at" if row.is_settled else "runs at", fmt.safe(fleet.hosts.by_worker.get(row.name, ""))),
        ("cancelled by", _CANCELLED_BY.get(reason := fleet.cancel_reason(row.name), reason)),
    ]
    if row.retry_at is not None and row.retry_at > now:
        known.append((_NEXT.get(row.state, "next attempt in"), countdown(row.retry_at - now)))
    if tree.is_at_limit(row):
        known.append(("restart limit reached:", "stays down"))
    if row.held:
        known.append(("waiting for:", held_by(fleet, row, now)))
    known += _supervision(fleet, row, now)
    parts: list[Line] = [[Span(f"{name} ", "muted"), Span(text)] for name, text in known if text]
    title: Line = [
        Span("worker ", "muted"),
        Span(shown_name(row), "title"),
        Span("   "),
        Span(fmt.state_label(row.state), fmt.state_style(row.state)),
    ]
    return [title, *(wrap(parts, width, 3) or [[]])]


def _attempt_number(row: Row) -> str:
    if not row.attempt:
        return ""
    if not row.throttled:
        return f"{row.attempt} of {row.max_attempts}"
    # Throttled attempts do not count towards the limit.
    return f"{row.attempt} (retry {row.retries} of {max(0, row.max_attempts - 1)})"


def _supervision(fleet: Fleet, row: Row, now: float) -> list[tuple[str, str]]:
    branch = fleet.tree.branch_of(row)
    if branch is None or not branch.is_supervisor:
        return []
    own = fleet.tree.own_gauge(row, now)
    gauge = fleet.tree.gauge(branch, now) if own is None else own
    restarts = "".join(span.text for span in gauge_line(branch, gauge))
    ready = "" if row.is_settled else "yes" if row.is_ready else "not yet"
    word, _ = health(fleet, row, now)
    began = row.first_started_at
    is_down = row.is_settled or row.state is WorkerState.RESTARTING
    since = "" if began is None or is_down else f"{clock_at(fleet, began, now=now)} ({ago(now - began)})"
    number = row.incarnation - 1
    return [
        ("health", flapping_note(fleet, row, now) or word),
        ("up since", since),
        ("restarted", units.count(number, "time") if number else ""),
        ("strategy", branch.strategy),
        ("own limit" if own is not None else "limit", restarts),
        ("ready", ready),
    ]


def report(fleet: Fleet, row: Row, now: float, width: int) -> list[Line]:
    """Return the rest of the page, in at most `width` cells a line."""
    lines: list[Line] = []
    if row.result is not None:
        lines += [*_heading("RESULT"), *_folded(row.result, width)]
    if row.error:
        is_over = row.state is WorkerState.SUCCEEDED
        lines += _heading("LAST ERROR" if is_over else "ERROR")
        lines += _folded(row.error, width, "muted" if is_over else "error")
    for stuck, cancelled_at in fleet.abandoned_of(row.name):
        is_present = stuck.incarnation == row.incarnation
        lines += _heading("STUCK AT" if is_present else f"ABANDONED INCARNATION {stuck.incarnation}, STUCK AT")
        lines += _folded(stuck.stack or "an unknown place", width, "unresponsive")
        age = units.elapsed(now - cancelled_at)
        lines.append([Span(f"cancelled {age} ago, {units.count(stuck.cancels, 'cancel')} ignored", "muted")])
    lines += block_report(fleet.loop.blocks_of(row.name), width)
    lines += _crashes(fleet, row, now, width)
    lines += _attempts(fleet, row, now, width)
    if waits := [wait for wait in fleet.waits_of(row.name) if isinstance(wait, AttemptHeld)]:
        lines += _heading("WAITS")
        for wait in waits:
            lines += _wait(wait, width)
    if stack := fleet.stack(row.name):
        lines += _heading("LAST TRACEBACK")
        for frame in stack.rstrip("\n").split("\n"):
            lines += _folded(frame.expandtabs(4), width, "muted" if frame.startswith("    ") else "")
        if row.error:
            lines += _folded(row.error, width, "error")
    if logs := fleet.logs_of(row.name):
        lines += _heading("LOG")
        for log in logs:
            lines += log_lines(log, width)
    return lines[1:]


def log_lines(log: LogRecorded, width: int) -> list[Line]:
    """Return a log record of a known worker in as many lines as its message needs."""
    style = LEVEL_STYLES.get(log.level, "info")
    head: Line = [
        Span(f"{units.clock(log.at)}  ", "muted"),
        Span(f"{pad(log.level.lower(), 8)}  ", style),
    ]
    indent = width_of(head)
    first, *more = _folded(log.message, max(10, width - indent))
    return [[*head, *first], *([Span(" " * indent), *line] for line in more)]


def _crashes(fleet: Fleet, row: Row, now: float, width: int) -> Iterable[Line]:
    """Yield the crashes of a service, the newest one first: when, which incarnation, what followed, and why."""
    history = fleet.restarts.by_worker.get(row.name)
    if history is None or not history.crashes:
        return
    kept, all_of_them = len(history.crashes), max(history.times, len(history.crashes))
    title = "the newest first" if kept == all_of_them else f"the last {kept} of {all_of_them:,}, the newest first"
    yield []
    yield [Span("CRASHES", "heading"), Span(f"  {title}", "muted")]
    for crash in reversed(history.crashes):
        follows = "not restarted"
        if crash.delay is not None:
            follows = f"restart in {units.duration(crash.delay)}" if crash.delay >= _AT_ONCE else "restarted at once"
        head: Line = [
            Span(f"{clock_at(fleet, crash.at, now=now):<12}  ", "strong"),
            Span(f"incarnation {crash.incarnation:<5} ", "muted"),
            Span(f"{follows:<17}  ", "muted" if crash.delay is None else "restarting"),
        ]
        indent = width_of(head)
        if width - indent < _ROOM_FOR_CAUSE:
            yield crop_line(head, width)
            indent, head = 2, [Span("  ")]
        first, *more = _folded(crash.cause, max(10, width - indent), "error")
        yield [*head, *first]
        yield from ([Span(" " * indent), *line] for line in more)
        if crash.place:
            yield from ([Span(" " * indent), *line] for line in _folded(crash.place, max(10, width - indent), "muted"))


def _wait(wait: AttemptHeld, width: int) -> list[Line]:
    """Return time and reason of a wait, in as many lines as needed."""
    head: Line = [Span(f"{units.clock(wait.at)}  ", "muted"), Span(f"incarnation {wait.incarnation:<3}  ", "muted")]
    what = f"{fmt.GLYPHS[WorkerState.WAITING]} attempt {wait.attempt} waited: {hold(wait.reason, wait.key)}"
    indent = width_of(head)
    first, *more = _folded(what, max(10, width - indent), "waiting")
    return [[*head, *first], *([Span(" " * indent), *line] for line in more)]


def _heading(text: str) -> list[Line]:
    return [[], [Span(text, "heading")]]


def _folded(text: str, width: int, style: str = "") -> list[Line]:
    """Return the whole text, folded to the width."""
    room = max(2, width)
    return [[Span(part, style)] for piece in text.splitlines() for part in fold(fmt.safe(piece), room, room)] or [[]]


def _attempts(fleet: Fleet, row: Row, now: float, width: int) -> Iterable[Line]:
    history = fleet.history(row.name)
    if not history:
        yield from _heading("ATTEMPTS")
        yield [Span("none yet: it waits for its first", "muted")]
        return
    luck_width = 17 if width >= 100 else 6
    axis = min(48, max(10, width // 4))
    yield []
    yield [
        Span(pad("ATTEMPTS", luck_width + 4), "heading"),
        Span(pad("START", 9, right=True), "heading"),
        Span(" " * (axis + 2)),
        Span(pad("TOOK", 9, right=True), "heading"),
        Span("  OUTCOME", "heading"),
    ]
    left_out, shown = fleet.attempts_left_out(row.name), 0
    for incarnation, group in groupby(history, key=lambda record: record.incarnation):
        records = list(group)
        if left_out and shown == FIRST_KEPT:
            yield _gap(left_out)
        if row.incarnation > 1:
            yield [Span(f"incarnation {incarnation}", "muted")]
        is_alive = incarnation == row.incarnation and row.ended_at is None
        begin = records[0].started_at
        end = max(_end(record, now if is_alive else record.started_at) for record in records)
        if is_alive:
            end = max(end, now)
        for number, record in enumerate(records):
            if left_out and number and shown == FIRST_KEPT:
                yield _gap(left_out)
            shown += 1
            blocked = _blocked(fleet.loop, record)
            yield _attempt(record, begin, end, now if is_alive else end, luck_width, axis, blocked)


def _gap(attempts: int) -> Line:
    return [Span(f"… {units.count(attempts, 'attempt')} in between", "muted")]


def _blocked(loop: LoopWatch, record: AttemptRecord) -> Line:
    """Return how long the loop was late during an attempt, if that distorts its duration."""
    if record.duration is None or not loop.is_distorted(record.started_at, record.duration):
        return []
    late = loop.late_within(record.started_at, record.started_at + record.duration)
    return [Span(f"{LATE} loop late {units.duration(late)}", "warning")]


def _end(record: AttemptRecord, now: float) -> float:
    if record.duration is None:
        return max(now, record.started_at)
    return record.started_at + record.duration + (record.backoff or 0.0)


def _attempt(
    record: AttemptRecord, begin: float, end: float, now: float, luck_width: int, axis: int, blocked: Line
) -> Line:
    took = record.duration if record.duration is not None else max(0.0, now - record.started_at)
    scale = axis / max(end - begin, 1e-9)
    start = min(axis - 1, round((record.started_at - begin) * scale))
    work = min(axis - start, max(1, round(took * scale)))
    wait = min(axis - start - work, round((record.backoff or 0.0) * scale))
    is_good = record.outcome == "succeeded"
    style = _OUTCOME_STYLES.get(record.outcome, "running" if not record.outcome else "failed")
    if not record.outcome:
        glyph = f"{fmt.GLYPHS[WorkerState.RUNNING]} running"
    elif record.outcome in set(WorkerState):
        glyph = fmt.state_label(WorkerState(record.outcome))
    else:
        glyph = f"{fmt.GLYPHS[WorkerState.FAILED]} {fmt.safe(record.outcome)}"
    shown_luck = luck(record.bad_luck, is_struck=record.is_struck, width=luck_width)
    tail: Line = []
    if record.backoff is not None:
        tail = [Span(f"{fmt.GLYPHS[WorkerState.BACKING_OFF]} {units.duration(record.backoff)}", "backing-off")]
        if record.is_asked_for:
            tail.append(Span(" Retry-After", "note"))
    late: Line = [Span(f"+{units.duration(record.latency)} latency", "struck")] if record.latency else []
    error_class: Line = [Span(record.error_class, "note")] if record.error_class and not is_good else []
    return join(
        [
            [
                Span(pad(str(record.attempt), 3), "strong"),
                *shown_luck,
                Span(" " * (luck_width + 1 - width_of(shown_luck))),
                Span(pad(f"+{units.elapsed(record.started_at - begin)}", 9, right=True), "muted"),
                Span("  "),
                Span(" " * start),
                Span("━" * work, style),
                Span("┄" * wait, "backing-off"),
                Span(" " * (axis - start - work - wait)),
                Span(pad(units.duration(took), 9, right=True), "" if is_good else "muted"),
            ],
            blocked,
            tail,
            late,
            error_class,
            [Span(glyph, style)],
        ]
    )
