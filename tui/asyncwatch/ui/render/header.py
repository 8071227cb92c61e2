"""What of the run is not as it was when it started, one chip each: paused, settings, budget, circuits, halt. Pure."""

from __future__ import annotations

from itertools import dropwhile

from asyncwatch import text as units
from asyncwatch.events import SETTLED, WorkerState
from asyncwatch.text import mask_secrets
from asyncwatch.ui.display import Scene
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.cost import block_chip, blocked_notice, gauges
from asyncwatch.ui.render.spans import Line, Span, join, spread, width_of, wrap

_GAUGE = 8


def chips(scene: Scene) -> list[Line]:
    """Return the chips, the most urgent first; none for a run that goes as it was started."""
    return [*block_chip(scene), *_halted(scene), *_settings(scene), *_circuits(scene), *_budget(scene), *_nested(scene)]


def _halted(scene: Scene) -> list[Line]:
    halted = scene.fleet.halted
    if halted is None:
        return []
    what = "what runs finishes" if halted.mode == "soon" else "all was cancelled"
    return [
        [
            Span(f" halted after {units.count(halted.failures, 'failure')} ", "notice"),
            Span(f" {halted.stopped:,} stopped, {what}", "muted"),
        ]
    ]


def _settings(scene: Scene) -> list[Line]:
    settings = scene.fleet.settings
    shown: list[Line] = []
    if settings.is_paused:
        shown.append([Span(" ‖ paused ", "notice"), Span(" no new attempts", "muted")])
    for name, key, value, first in settings.changed:
        if name == "paused":
            continue
        of = f" of {fmt.clean(mask_secrets(key))}" if key else ""
        shown.append(
            [Span(f"{name}{of} ", "muted"), Span(told(value), "warning"), Span(f" (was {told(first)})", "muted")]
        )
    return shown


def told(value: object) -> str:
    """Return the value of a setting as it reads."""
    if value is None:
        return "none"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else fmt.clean(str(value))
    )


def _circuits(scene: Scene) -> list[Line]:
    circuits = scene.fleet.circuits.not_closed
    if not circuits:
        return []
    if len(circuits) == 1:
        key = fmt.clean(mask_secrets(circuits[0].key))
        return [[Span(f"circuit {key} {circuits[0].state}", "waiting")]]
    return [[Span(f"{len(circuits):,} circuits not closed", "waiting")]]


def _budget(scene: Scene) -> list[Line]:
    left, of = scene.statistics.retry_tokens, scene.statistics.retry_capacity
    if not of or left >= of:
        return []
    filled, rest = fmt.bar(left / of, _GAUGE)
    paint = "error" if left < of / 5 else "warning" if left < of / 2 else "muted"
    return [
        [
            Span("retry budget ", "muted"),
            Span(filled, paint),
            Span(rest, "faint"),
            Span(f" {left:.0f} of {of:.0f}", paint),
        ]
    ]


def _nested(scene: Scene) -> list[Line]:
    return [
        [Span(f"{fmt.clean(found.target)} retries by itself ({fmt.clean(found.library)}): retries multiply", "warning")]
        for found in scene.fleet.nested_retries[:1]
    ]


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
_LEAST_BAR = 16
_INVITING = 100
"""Columns from which on there is room to say how to run all again."""
_ROOMY = 160
"""Columns from which on all figures of the third line fit in full words, also in a busy run after a block."""
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def overview(scene: Scene, width: int) -> list[Line]:
    """Return the lines above the fleet, as many as it takes in `width` cells."""
    fleet = scene.fleet
    if fleet.run is None:
        return [spread([Span("asyncwatch", "title")], [Span("starting…", "muted")], width), [], []]
    counts = wrap(_counts(scene), width)
    lines: list[Line] = [_title(scene, width)]
    room = width - width_of(counts[-1]) - 3
    # In a narrow terminal the bar always has its own line: the table must not jump with every new state.
    if width >= 100 and room >= _LEAST_BAR + 5:
        lines += counts[:-1]
        lines.append(spread(counts[-1], _progress(scene, min(room, 45)), width))
    else:
        lines += [*counts, _progress(scene, width)]
    return [*lines, _speed(scene, width), *wrap(chips(scene), width, 3)]


def status(scene: Scene) -> Line:
    """Return what the run is doing, in a few words."""
    fleet = scene.fleet
    if scene.is_stopping:
        # A blocked loop is no news of its workers, and takes their room.
        left = scene.active
        running = "" if scene.blocked_for else f" {left:,} of {max(left, scene.stopping):,} still running"
        hint = "leaves" if scene.is_hurried else "ends them at once"
        return [Span(f"stopping…{running}", "warning"), Span(f" · ctrl+c {hint}", "muted")]
    if fleet.is_settled:
        missing = fleet.workers - fleet.counts[WorkerState.SUCCEEDED]
        if not missing:
            return [Span("✓ finished", "succeeded")]
        if fleet.tree.ending:
            return [Span("■ finished", "strong"), Span(f" · {fleet.tree.ending}", "muted")]
        return [
            Span("■ finished", "strong"),
            Span(f" · {missing:,} did not succeed · ", "muted"),
            Span("R", "key"),
            Span(" restarts them", "muted"),
        ]
    if fleet.counts[WorkerState.CANCELLING] and not fleet.counts[WorkerState.RUNNING]:
        return [Span("□ cancelling", "cancelling")]
    return [Span("● running", "running")] if fleet.rows else [Span("○ starting", "muted")]


def _is_over(scene: Scene) -> bool:
    """Return whether nothing moves any more, and all of it can be run again."""
    fleet = scene.fleet
    return fleet.is_settled and fleet.finished is None and not scene.is_stopping and not fleet.tree.is_supervised


def _title(scene: Scene, width: int) -> Line:
    run = scene.fleet.run
    assert run is not None  # noqa: S101 - the caller has seen it
    workers = max(run.workers, scene.fleet.workers)
    left = [
        [Span("asyncwatch", "title")],
        [Span(fmt.clean(mask_secrets(run.run)), "strong")] if run.run else [],
        [Span(run.runner, "muted")],
        [Span(f"seed {run.seed}", "muted")],
        [Span(units.count(workers, "worker"), "muted")],
    ]
    time = Span(units.clock(scene.now), "strong")
    right = [Span("  "), *status(scene)]
    if scene.blocked_for:
        right = [Span(blocked_notice(scene, width), "notice"), Span("  "), *status(scene)]
    if scene.is_frozen:
        right = [Span(f" ‖ frozen · {units.count(scene.waiting, 'event waits', 'events wait')} ", "notice"), *right]
    if width >= _INVITING and _is_over(scene):
        right += [Span(" · ", "muted"), Span("a r", "key"), Span(" all again", "muted")]
    # The last facts give way first: what the run does matters more than how it was started.
    while len(left) > 1 and width_of(join(left)) + width_of([time, *right]) + 3 > width:
        left.pop(-1 if width < 60 else 2 if len(left) > 2 else -1)
    return spread(join(left), [time, *right], width)


def _counts(scene: Scene) -> list[Line]:
    counts = scene.fleet.counts
    shown: list[Line] = [
        [Span(f"{fmt.GLYPHS[state]} {counts[state]:,} {state}", fmt.paint_of(state))]
        for state in _ORDER
        if counts[state]
    ]
    if scene.fleet.abandoned > counts[WorkerState.UNRESPONSIVE]:
        shown.append([Span(f"{scene.fleet.abandoned:,} left behind", "unresponsive")])
    return shown or [[Span("no worker yet", "muted")]]


def _progress(scene: Scene, width: int) -> Line:
    """Return how much of the batch is done; of services, which are never done, how many are up."""
    fleet = scene.fleet
    services = fleet.services
    total = max(fleet.workers, fleet.run.workers if fleet.run is not None else 0)
    total -= services.workers + services.to_come
    settled = fleet.settled - sum(services.counts[state] for state in SETTLED)
    if not services.workers:
        return _bar(settled, total, f" {units.percent(settled, total):>5}", width)
    restarts = f" · {units.count(fleet.restarts.total, 'restart')}" if fleet.restarts.total else ""
    told = f"{services.up:,} of {services.wanted:,} up{restarts}" if services.wanted else "all done"
    if not fleet.tree.has_batch:
        return _bar(services.up, services.wanted, f" {told}", width)
    batch = f" batch {units.percent(settled, total)}"
    return [Span(f"{told}  ", "muted"), *_bar(settled, total, batch, width - len(told) - 2)]


def _bar(part: int, whole: int, label: str, width: int) -> Line:
    filled, rest = fmt.bar(part / whole if whole else 0, max(0, width - len(label)))
    return [Span(filled, "bar"), Span(rest.replace("─", "━"), "rest"), Span(label, "strong")]


def _speed(scene: Scene, width: int) -> Line:
    fleet, now = scene.fleet, scene.now
    columns = 20 if width >= _ROOMY else 8
    # Seconds before the first attempt ended say nothing.
    series = list(dropwhile(lambda ended: not ended, fleet.rate.series(now, columns)))
    parts: list[Line] = [
        [
            Span(units.rate(fleet.rate.per_second(now)), "strong"),
            Span(" attempts/s ", "muted"),
            Span(fmt.sparkline([0] * (columns - len(series))), "rest"),
            Span(fmt.sparkline(series), "spark"),
        ]
    ]
    for name, quantile in _PERCENTILES:
        seconds = fleet.durations.quantile(quantile)
        value = "-" if seconds is None else units.duration(seconds)
        parts.append([Span(f"{name} ", "muted"), Span(value)])
    if fleet.loop.count:
        told = f"(loop was late {units.count(fleet.loop.count, 'time')})" if width >= _ROOMY else "late"
        parts[-1] = [*parts[-1], Span(f" {told}", "warning")]
    left = join(parts)
    return spread(left, gauges(scene, width - width_of(left) - 2), width)
