"""What of the run is not as it was when it started, one chip each: paused, settings, budget, circuits, halt. Pure."""

from __future__ import annotations

from asyncwatch.redact import mask_secrets
from asyncwatch.ui import format as fmt
from asyncwatch.ui.lines import Line, Span
from asyncwatch.ui.own_cost import block_chip
from asyncwatch.ui.scene import Scene

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
            Span(f" halted after {fmt.count(halted.failures, 'failure')} ", "notice"),
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
