"""Hints: the keys that come first in the footer at the moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncwatch.events import TROUBLE, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.view.operations import GIVE_UP, RETRY_NOW, WAITING

Hints = Mapping[str, str | None]
"""Label of the key of each action: empty for the usual label, None to hide a key without effect."""

_NEED_SUPERVISION = ("restart", "restart_all", "pause", "options", "undo")
_NEED_RUNNING_TREE = ("cancel", "restart_all")


def fleet_hints(fleet: Fleet, states: Iterable[WorkerState], *, has_marks: bool) -> Hints:
    """Return the hints of the main screen; `states` are the states of the selected workers."""
    settings = fleet.settings
    hints: dict[str, str | None] = dict.fromkeys(_NEED_RUNNING_TREE) if fleet.tree.ending else {}
    if fleet.is_observed:
        hints |= {"waits": "", **dict.fromkeys(_NEED_SUPERVISION)}
    elif not WAITING.isdisjoint(states):
        hints |= {"retry_now": "", "give_up": ""}
    if settings.is_paused:
        hints["pause"] = "resume"
    if settings.last is not None:
        hints["undo"] = "undo pause" if settings.last.name == "paused" else f"undo {settings.last.name}"
    if fleet.circuits.not_closed or any(map(fleet.keys.total, ("throttled", "budget"))) or fleet.keys.held_by_person:
        hints["limits"] = ""
    if fleet.polls.failing or fleet.restarts.by_worker:
        hints["errors"] = ""
    if any(fleet.counts[state] for state in TROUBLE):
        hints["errors"] = ""
        if fleet.is_settled and not (fleet.tree.ending or fleet.is_observed):
            hints["restart_all"] = ""
    if has_marks:
        hints["clear"] = "clear marks"
    return hints


def worker_hints(fleet: Fleet, row: Row) -> Hints:
    """Return the hints of the page of one worker."""
    is_possible = {
        "cancel": not row.is_settled,
        "restart": not (fleet.is_observed or fleet.tree.why_not_restarted(row)),
        "retry_now": RETRY_NOW.applies(row),
        "give_up": GIVE_UP.applies(row),
    }
    return {action: None for action, can in is_possible.items() if not can}
