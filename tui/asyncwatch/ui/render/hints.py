"""Which keys matter at this moment, for the footer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.events import TROUBLE, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.ui.actions import GIVE_UP, RETRY_NOW, WAITING
from asyncwatch.ui.display import Scene

_OF_A_LIVING_TREE = ("cancel", "restart", "restart_all")


def hints(scene: Scene, states: Iterable[WorkerState]) -> dict[str, str | None]:
    """Return the actions that matter now, each with its label in the footer (empty: its own); None: it can do nothing.

    `states` are those of the workers that a key would act on.
    """
    fleet = scene.fleet
    settings = fleet.settings
    now: dict[str, str | None] = dict.fromkeys(_OF_A_LIVING_TREE) if fleet.tree.ending else {}
    if not WAITING.isdisjoint(states):
        now |= {"retry_now": "", "give_up": ""}
    if settings.is_paused:
        now["pause"] = "go on"
    if settings.last is not None:
        now["undo"] = "undo pause" if settings.last.name == "paused" else f"undo {settings.last.name}"
    if fleet.circuits.not_closed:
        now["circuits"] = ""
    if fleet.polls.failing:
        now["errors"] = ""
    if any(fleet.counts[state] for state in TROUBLE):
        now["errors"] = ""
        if fleet.is_settled and not fleet.tree.ending:
            now["restart_all"] = ""
    if scene.view.marks:
        now["clear"] = "clear marks"
    return now


def hints_of(scene: Scene, row: Row) -> dict[str, str | None]:
    """Return the same of the keys of one worker's page."""
    can = {
        "cancel": not row.is_settled,
        "restart": not scene.fleet.tree.why_not_restarted(row),
        "retry_now": RETRY_NOW.is_for(row),
        "give_up": GIVE_UP.is_for(row),
    }
    return {action: None for action, is_possible in can.items() if not is_possible}
