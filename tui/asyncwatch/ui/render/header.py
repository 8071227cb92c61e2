"""Lines above the fleet: title and status, counts and progress, speed, changed settings and incidents. Pure."""

from __future__ import annotations

import math
from itertools import chain, dropwhile

from rich.cells import cell_len

from asyncwatch import text as units
from asyncwatch.commands import Statistics
from asyncwatch.events import SETTLED, WorkerState
from asyncwatch.events.run import recording_sentence
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import hold_ups
from asyncwatch.model.rows import IN_FLIGHT
from asyncwatch.model.services import Services
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.cost import gauges, present_block, recent_block
from asyncwatch.ui.render.services import FLAPPING
from asyncwatch.ui.render.snapshot import Snapshot
from asyncwatch.ui.render.spans import Line, Span, crop_line, crop_middle, join, spread, width_of, wrap

_ORDER = (
    WorkerState.SUCCEEDED,
    WorkerState.RUNNING,
    WorkerState.BACKING_OFF,
    WorkerState.RESTARTING,
    WorkerState.WAITING,
    WorkerState.CANCELLING,
    WorkerState.QUEUED,
    WorkerState.FAILED,
    WorkerState.EXHAUSTED,
    WorkerState.TIMED_OUT,
    WorkerState.CANCELLED,
    WorkerState.UNRESPONSIVE,
)
_LEAST_BAR = 10
_LEAST_NAME = 12
_PARTS = (("━", "bar"), ("╍", "error"), ("─", "running"), ("┈", "rest"))
"""Sign and style of each part of the bar: succeeded, ended otherwise, in flight, and the rest."""
_BUDGET_BAR = 8
_BUDGET_SHOWN = 0.5
"""Share of the retry budget below which it is shown."""
_ROOM_FOR_RESTART = 100
"""Columns from which there is room for the keys that restart all workers."""
_ROOMY = 160
"""Columns from which the speed line has room for all figures in full words."""
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def overview(snapshot: Snapshot, width: int) -> list[Line]:
    """Return the lines above the fleet, at most `width` cells wide."""
    if snapshot.fleet.run is None:
        return [spread([Span("asyncwatch", "title")], [Span("starting…", "muted")], width), [], [], []]
    second = _waits(snapshot, width) if snapshot.fleet.is_observed else _progress(snapshot, width)
    head = [_title(snapshot, width), second, *wrap(_counts(snapshot), width)]
    return [*head, _speed(snapshot, width), *wrap(_deviations(snapshot), width, 3)]


# -- title


def _title(snapshot: Snapshot, width: int) -> Line:
    run = snapshot.fleet.run
    assert run is not None  # noqa: S101 - `overview` has checked it
    name_id = [Span(" "), Span(snapshot.run_id, "muted")] if snapshot.run_id else []
    left: dict[str, list[Span]] = {
        "title": [Span("asyncwatch", "title")],
        "name": [Span(fmt.safe(run.run), "strong"), *name_id] if run.run else name_id[1:],
        "runner": [Span(run.runner, "muted")],
        "seed": [Span(_tasks(snapshot.fleet) if snapshot.fleet.is_observed else f"seed {run.seed}", "muted")],
    }
    if (viewers := snapshot.statistics.viewers) > 1:
        left["viewers"] = [Span(units.count(viewers, "viewer"), "strong")]
    # Tenths of a second are shown once they stand still.
    is_still = snapshot.fleet.is_settled or snapshot.frozen_events is not None
    time = Span(units.clock(snapshot.now, has_tenths=is_still), "strong")
    right = [Span("  "), *_status(snapshot)]
    if snapshot.is_read_only:
        right = [Span(f" {snapshot.title} ", "notice"), *right]
    if snapshot.blocked_for:
        right = [Span(present_block(snapshot, width), "notice"), *right]
    if snapshot.frozen_events is not None:
        waiting = units.count(snapshot.frozen_events, "event waiting", "events waiting")
        right = [Span(f" ‖ frozen · {waiting} ", "notice"), *right]
    hints = _hints(snapshot, width)

    def excess(*, shortest: int | None = None) -> int:
        """Return how many cells are missing, with the name cut to the `shortest` length if one is given."""
        cut = 0 if shortest is None or not run.run else max(0, cell_len(fmt.safe(run.run)) - shortest)
        return width_of(join(left.values())) - cut - (width - width_of([time, *right, *chain(*hints)]) - 3)

    if excess() > 0 and run.run:
        del left["title"]
    # What keys do stands in the footer too.
    while hints and excess(shortest=_LEAST_NAME) > 0:
        del hints[-1]
    # The status matters more than how the run was started. A long name gives way to all of it.
    if run.run and (too_much := excess()) > 0:
        name = left["name"][0].text
        left["name"] = [Span(crop_middle(name, max(_LEAST_NAME, cell_len(name) - too_much)), "strong"), *name_id]
    for dropped in ("viewers", "runner", "seed"):
        if excess() > 0:
            left.pop(dropped, None)
    return spread(join(left.values()), [time, *right, *chain(*hints)], width)


def _status(snapshot: Snapshot) -> Line:
    fleet = snapshot.fleet
    if snapshot.stopping is not None:
        # While the loop is blocked the number of workers does not change, and the notice needs the room.
        left = snapshot.active
        running = "" if snapshot.blocked_for else f" {left:,} of {max(left, snapshot.stopping):,} still running"
        effect = "quits" if snapshot.is_stopping_now else "stops them now"
        return [Span(f"stopping…{running}", "warning"), Span(f" · ctrl+c {effect}", "muted")]
    if fleet.is_settled:
        missing = fleet.workers - fleet.counts[WorkerState.SUCCEEDED]
        if not missing:
            return [Span("✓ finished", "succeeded")]
        if fleet.tree.ending:
            ended = [Span("■ ended", "strong"), Span(f" · {fleet.tree.ending}", "muted")]
            if snapshot.is_read_only or fleet.finished is not None:
                return ended
            return [*ended, Span(" · ", "muted"), Span("r", "key"), Span(" on root starts it again", "muted")]
        return [Span("■ finished", "strong"), Span(f" · {missing:,} did not succeed", "muted")]
    if fleet.counts[WorkerState.CANCELLING] and not fleet.counts[WorkerState.RUNNING]:
        return [Span("□ cancelling", "cancelling")]
    return [Span("● running", "running")] if fleet.rows else [Span("○ starting", "muted")]


def _hints(snapshot: Snapshot, width: int) -> list[list[Span]]:
    """Return which keys restart workers after all have settled, the more important one first."""
    fleet = snapshot.fleet
    hints: list[list[Span]] = []
    if snapshot.stopping is not None or snapshot.is_read_only:
        return hints
    if fleet.is_settled and not fleet.tree.ending and fleet.counts[WorkerState.SUCCEEDED] < fleet.workers:
        hints.append([Span(" · ", "muted"), Span("R", "key"), Span(" restarts them", "muted")])
    if width >= _ROOM_FOR_RESTART and _can_restart_all(snapshot):
        keys = Span("a", "key"), Span(" then ", "muted"), Span("r", "key")
        hints.append([Span(" · ", "muted"), *keys, Span(" restarts all", "muted")])
    return hints


def _can_restart_all(snapshot: Snapshot) -> bool:
    """Return whether all workers have settled and the run can start again."""
    fleet = snapshot.fleet
    is_open = fleet.finished is None and snapshot.stopping is None and not snapshot.is_read_only
    return is_open and fleet.is_settled and not (fleet.tree.is_supervised or fleet.is_observed)


# -- counts, progress, speed


def _counts(snapshot: Snapshot) -> list[Line]:
    fleet, counts = snapshot.fleet, snapshot.fleet.counts
    shown: list[Line] = [
        [Span(f"{fmt.GLYPHS[state]} {counts[state]:,} {state}", fmt.state_style(state))]
        for state in _ORDER
        if counts[state]
    ]
    if fleet.restarts.flaps_until and (flapping := fleet.services(snapshot.now).flapping):
        shown.append([Span(f"{FLAPPING} {flapping:,} flapping", "warning")])
    if fleet.abandoned > counts[WorkerState.UNRESPONSIVE]:
        shown.append([Span(f"{fleet.abandoned:,} abandoned", "unresponsive")])
    return shown or [[Span("no workers yet", "muted")]]


def _progress(snapshot: Snapshot, width: int) -> Line:
    """Return the progress of a batch; for services, how many are up."""
    fleet = snapshot.fleet
    services = fleet.services(snapshot.now)
    if not services.workers:
        return _batch_progress(snapshot, services, width)
    restarts = f" · {units.count(fleet.restarts.total, 'restart')}" if fleet.restarts.total else ""
    shaky = f", {services.recovering:,} recovering" if services.recovering else ""
    shaky += f", {services.flapping:,} flapping" if services.flapping else ""
    shaky += f", {len(fleet.polls.failing):,} failing" if fleet.polls.failing else ""
    up = f"{services.up:,} of {services.wanted:,} up{shaky}{restarts}" if services.wanted else "all done"
    if not fleet.tree.has_batch:
        return _bar(services.up, services.wanted, f" {up}", width)
    if width < _ROOM_FOR_RESTART:
        up = up.removesuffix(restarts)
    return [Span(f"{up}  ", "muted"), *_batch_progress(snapshot, services, width - len(up) - 2, "batch ")]


def _batch_progress(snapshot: Snapshot, services: Services, width: int, what: str = "") -> Line:
    """Return a bar in parts and, as far as there is room, the share, how many of all are done, and the time left."""
    fleet = snapshot.fleet
    total = max(fleet.workers, fleet.run.workers if fleet.run is not None else 0)
    total -= services.workers + services.to_come
    counts = {state: number - services.counts[state] for state, number in fleet.counts.items()}
    settled = sum(counts[state] for state in SETTLED)
    succeeded = counts[WorkerState.SUCCEEDED]
    facts: list[Line] = [[Span(f"{settled:,} of {total:,} done", "strong")]]
    if fleet.is_reading:
        listed = f", latest {len(fleet.rows):,} listed" if fleet.forgets and fleet.departed.replaced else ""
        facts = [[Span(f"{settled:,} done", "strong"), Span(f" of {total:,} so far{listed}", "muted")]]
    if before := fleet.run.done_before if fleet.run is not None else 0:
        facts[0] = [*facts[0], Span(f", {before:,} before", "muted")]
    if not (fleet.is_settled or fleet.is_observed):
        facts.append([Span("ETA ", "muted"), Span(_time_left(snapshot, total - settled), "strong")])
    if not fleet.is_reading:
        facts.insert(0, [Span(units.percent(settled, total), "strong")])
    # The bar shows the share too.
    while len(facts) > 1 and len(what) + width_of(join(facts)) + 2 + _LEAST_BAR > width:
        facts.pop(0 if len(facts) > 2 else 1)
    text = join([[Span("")], [Span(what, "muted"), *facts[0]], *facts[1:]])
    parts = (succeeded, settled - succeeded, sum(counts[state] for state in IN_FLIGHT))
    cells = fmt.shares((*parts, max(0, total - sum(parts))), max(0, width - width_of(text)))
    return [*(Span(sign * number, style) for number, (sign, style) in zip(cells, _PARTS, strict=True)), *text]


def _time_left(snapshot: Snapshot, left: int) -> str:
    """Return how long the rest takes at the pace of the last minute, `-` while that is unknown."""
    is_known = not (snapshot.fleet.is_reading or snapshot.fleet.settings.is_paused or snapshot.stopping is not None)
    seconds = snapshot.pace.seconds(left, snapshot.now) if snapshot.pace is not None and is_known else None
    if seconds is None:
        return "-"
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 60 else units.elapsed(whole)


def _tasks(fleet: Fleet) -> str:
    """Return how many observed tasks there were, and how many are listed if old ones are not."""
    listed = f", latest {len(fleet.rows):,} listed" if fleet.departed.replaced else ""
    return f"{units.count(fleet.workers, 'task')} so far{listed}"


def _waits(snapshot: Snapshot, width: int) -> Line:
    """Return where most of the observed tasks wait, as many places as there is room for."""
    shown: list[Line] = []
    for number, place in snapshot.waits:
        part: Line = [Span(f"{number:,} × ", "strong"), Span(fmt.safe(place), "muted")]
        if shown and width_of(join([*shown, part], 3)) > width:
            break
        shown.append(part)
    return crop_line(join(shown, 3), width)


def _bar(part: int, whole: int, label: str, width: int) -> Line:
    filled, rest = fmt.bar(part / whole if whole else 0, max(0, width - len(label)))
    return [Span(filled, "bar"), Span(rest.replace("─", "━"), "rest"), Span(label, "strong")]


def _speed(snapshot: Snapshot, width: int) -> Line:
    fleet, now = snapshot.fleet, snapshot.now
    columns = 20 if width >= _ROOMY else 8
    # The seconds before the first attempt ended are left out.
    series = list(dropwhile(lambda ended: not ended, fleet.rate.series(now, columns)))
    parts: list[Line] = [
        [
            Span(units.rate(fleet.rate.per_second(now)), "strong"),
            Span(" ended/s " if fleet.is_observed else " attempts/s ", "muted"),
            Span(fmt.sparkline([0] * (columns - len(series))), "rest"),
            Span(fmt.sparkline(series), "spark"),
        ]
    ]
    for name, quantile in _PERCENTILES:
        seconds = fleet.durations.quantile(quantile)
        value = "-" if seconds is None else units.duration(seconds)
        parts.append([Span(f"{name} ", "muted"), Span(value)])
    if fleet.loop.count:
        late = f"(loop was late {units.count(fleet.loop.count, 'time')})" if width >= _ROOMY else "late"
        parts[-1] = [*parts[-1], Span(f" {late}", "warning")]
    left = join(parts)
    return spread(left, gauges(snapshot, width - width_of(left) - 2), width)


# -- deviations


def _deviations(snapshot: Snapshot) -> list[Line]:
    """Return incidents and changed settings, the most urgent first."""
    block = recent_block(snapshot)
    return [
        *([block] if block else []),
        *_not_recorded(snapshot),
        *_halted(snapshot),
        *_settings(snapshot),
        *_rates(snapshot),
        *_circuits(snapshot),
        *_throttled(snapshot),
        *budget_lines(snapshot.fleet, snapshot.statistics),
        *_nested_retries(snapshot),
    ]


def _not_recorded(snapshot: Snapshot) -> list[Line]:
    failed = snapshot.fleet.not_recorded
    if failed is None:
        return []
    since, _, reason = recording_sentence(failed).partition(": ")
    return [[Span(f" {since} ", "notice"), Span(f" {fmt.safe(reason)}", "muted")]]


def _halted(snapshot: Snapshot) -> list[Line]:
    halted = snapshot.fleet.halted
    if halted is None:
        return []
    rest = "running workers finish" if halted.mode == "soon" else "the others were cancelled"
    return [
        [
            Span(f" halted after {units.count(halted.failures, 'failure')} ", "notice"),
            Span(f" {halted.stopped:,} stopped, {rest}" if halted.stopped else f" {rest}", "muted"),
        ]
    ]


def _settings(snapshot: Snapshot) -> list[Line]:
    settings = snapshot.fleet.settings
    shown: list[Line] = []
    if settings.is_paused:
        shown.append([Span(" ‖ paused ", "notice"), Span(" no new attempts", "muted")])
    for name, key, value, first in settings.changed:
        if name == "paused":
            continue
        of = f" of {fmt.safe(key)}" if key else ""
        shown.append(
            [
                Span(f"{name}{of} ", "muted"),
                Span(fmt.setting_value(value), "warning"),
                Span(f" (was {fmt.setting_value(first)})", "muted"),
            ]
        )
    return shown


def _circuits(snapshot: Snapshot) -> list[Line]:
    circuits = snapshot.fleet.circuits.not_closed
    if not circuits:
        return []
    waiting = snapshot.fleet.keys.total("circuit")
    wait = [Span(f": {waiting:,} wait", "muted")] if waiting else []
    if len(circuits) == 1:
        return [[Span(f"circuit {fmt.safe(circuits[0].key)} {circuits[0].state}", "waiting"), *wait]]
    return [[Span(f"{len(circuits):,} circuits not closed", "waiting"), *wait]]


def _rates(snapshot: Snapshot) -> list[Line]:
    """Return the rate limits that hold workers back."""
    fleet, settings = snapshot.fleet, snapshot.fleet.settings
    shown: list[Line] = []
    queued = fleet.counts[WorkerState.QUEUED]
    if fleet.queue_held_by == "rate" and queued:
        rate = f" of {fmt.safe(str(rate))}" if (rate := settings.value("rate")) else ""
        shown.append([Span(f"rate limit{rate}", "waiting"), Span(f": {queued:,} queued", "muted")])
    if waiting := fleet.keys.total("rate"):
        shown.append([Span("rate per key", "waiting"), Span(f": {waiting:,} wait", "muted")])
    return shown


def _throttled(snapshot: Snapshot) -> list[Line]:
    return [
        [Span(fmt.safe(subject), "waiting"), Span(fmt.safe(facts), "muted")]
        for subject, facts in hold_ups(snapshot.fleet.keys, snapshot.now)
    ]


def budget_lines(fleet: Fleet, statistics: Statistics) -> list[Line]:
    """Return a line with the tokens of the retry budget and how many retries wait for it; none if most is left."""
    left, of = statistics.retry_tokens, statistics.retry_capacity
    number = fleet.keys.total("budget")
    wait = [Span(f", {units.count(number, 'retry waits', 'retries wait')}", "waiting")] if number else []
    # Most of it is there: it limits nothing. The statistics come later than the events.
    if not of or left >= of * _BUDGET_SHOWN:
        return [[Span("retry budget", "muted"), *wait]] if number else []
    filled, rest = fmt.bar(left / of, _BUDGET_BAR)
    style = "error" if left < of / 5 else "warning" if left < of / 2 else "muted"
    return [
        [
            Span("retry budget ", "muted"),
            Span(filled, style),
            Span(rest, "faint"),
            Span(f" {left:.0f} of {of:.0f} tokens left", style),
            *wait,
        ]
    ]


def _nested_retries(snapshot: Snapshot) -> list[Line]:
    return [
        [Span(f"{fmt.safe(found.target)} has retries of its own ({fmt.safe(found.library)}): they multiply", "warning")]
        for found in snapshot.fleet.nested_retries[:1]
    ]
