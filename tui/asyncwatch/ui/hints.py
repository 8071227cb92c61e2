"""Which keys matter at this moment, for the footer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.events import WorkerState
from asyncwatch.ui.asks import WAITING
from asyncwatch.ui.scene import Scene

_TROUBLE = (WorkerState.FAILED, WorkerState.EXHAUSTED, WorkerState.TIMED_OUT, WorkerState.UNRESPONSIVE)


def hints(scene: Scene, states: Iterable[WorkerState]) -> dict[str, str]:
    """Return the actions that matter now, each with its label in the footer (empty: its own).

    `states` are those of the workers that a key would act on.
    """
    fleet = scene.fleet
    settings = fleet.settings
    now: dict[str, str] = {}
    if not WAITING.isdisjoint(states):
        now |= {"retry_now": "", "give_up": ""}
    if settings.is_paused:
        now["pause"] = "go on"
    if settings.last is not None:
        now["undo"] = "undo pause" if settings.last.name == "paused" else f"undo {settings.last.name}"
    if fleet.circuits.not_closed:
        now["circuits"] = ""
    if any(fleet.counts[state] for state in _TROUBLE):
        now["errors"] = ""
        if fleet.is_settled and not fleet.tree.ending:
            now["restart_all"] = ""
    if scene.view.marks:
        now["clear"] = "clear marks"
    return now
