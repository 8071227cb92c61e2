"""Dispatch: what each command does to the scheduler and to the supervisors, and why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from asyncwatch.commands import (
    CancelBranch,
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    GiveUpAll,
    HoldKey,
    IsolateCircuit,
    ProbeCircuit,
    ReleaseKey,
    ResetKey,
    RestartBranch,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.engine.tree.child import Ending
from asyncwatch.events import SETTINGS
from asyncwatch.events.tree import ROOT, shown_path
from asyncwatch.policies.circuit import Circuit
from asyncwatch.policies.rate import change_rate
from asyncwatch.policies.throttle import Throttle


class Branches(Protocol):
    """The supervisors of a run, as far as commands concern them."""

    ending: Ending | None
    can_start_again: bool

    def start_again(self, incarnation: int) -> str:
        """Start the root again, which has ended, for a person; return why not, or an empty text."""

    def cancel_branch(self, path: str, incarnation: int) -> str | None:
        """Stop a supervisor for a person; return why not, or an empty text; None if no supervisor has `path`."""

    def restart_branch(self, path: str, incarnation: int) -> str | None:
        """Restart a supervisor for a person; return why not, or an empty text; None if no supervisor has `path`."""


_OF_CIRCUITS = {IsolateCircuit: Circuit.isolate, CloseCircuit: Circuit.close, ProbeCircuit: Circuit.probe}
_OF_KEYS: dict[type[Command], Callable[[Throttle, float], None]] = {
    ReleaseKey: Throttle.release,
    HoldKey: lambda throttle, _: throttle.hold(),
    ResetKey: lambda throttle, _: throttle.reset(),
}


_LONGEST_KEY = 10_000
"""Characters of the longest key that a command can name: what it changes is kept, and reported to every client."""
_LONGEST_TEXT = 500
"""Characters of a reason, and of the name of an unknown worker, in the event of a refusal."""


def carry_out(scheduler: Scheduler, tree: Branches | None, command: Command) -> bool:
    """Do what `command` requests; return whether that was possible. If not, `CommandRefused` says why."""
    worker, incarnation = "", 0
    match command:
        case ChangeSetting(key=key) | IsolateCircuit(key=key) if len(key) > _LONGEST_KEY:
            reason = f"a key has at most {_LONGEST_KEY:,} characters"
        case CancelWorker() | RestartWorker() | RetryNow() | GiveUp():
            worker, incarnation = command.worker, command.incarnation
            reason = _about_worker(scheduler, command)
        case CancelBranch() | RestartBranch():
            reason = _about_branch(scheduler, tree, command)
            if reason:
                reason = f"{shown_path(command.path)}: {reason}"
        case IsolateCircuit() | CloseCircuit() | ProbeCircuit():
            reason = scheduler.control_circuit(command.key, _OF_CIRCUITS[type(command)])
            if reason:
                reason = f"{command.key}: {reason}"
        case ReleaseKey() | HoldKey() | ResetKey():
            reason = scheduler.control_key(command.key, _OF_KEYS[type(command)])
            if reason:
                reason = f"{command.key}: {reason}"
        case ChangeSetting():
            reason = _change_setting(scheduler, command)
        case RetryAllNow():
            reason = scheduler.retry_all_now()
        case GiveUpAll():
            reason = scheduler.give_up_all()
        case _:
            reason = "this run cannot do that"
    if reason:
        if scheduler.registry.get(worker) is None:
            worker = _short(worker)
        scheduler.reporter.command_refused(type(command).__name__, worker, incarnation, _short(reason))
    return not reason


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _about_worker(scheduler: Scheduler, command: CancelWorker | RestartWorker | RetryNow | GiveUp) -> str:
    worker = scheduler.registry.get(command.worker)
    if worker is None:
        return scheduler.registry.why_unknown(command.worker)
    if command.incarnation != worker.incarnation:
        return f"that was incarnation {command.incarnation}, it is {worker.incarnation} now"
    match command:
        case CancelWorker():
            return scheduler.cancel(worker)
        case RestartWorker():
            return scheduler.restart(worker)
        case RetryNow():
            return scheduler.retry_now(worker)
        case GiveUp():
            return scheduler.give_up(worker)


def _about_branch(scheduler: Scheduler, tree: Branches | None, command: CancelBranch | RestartBranch) -> str:
    path, incarnation = command.path, command.incarnation
    is_cancel = isinstance(command, CancelBranch)
    reason = None
    if tree is not None:
        if not is_cancel and path == ROOT and tree.ending is not None and tree.can_start_again:
            scheduler.reopen_restarts()
            return tree.start_again(incarnation)
        if not is_cancel and not scheduler.accepts_restarts:
            return "the run is ending"
        reason = (tree.cancel_branch if is_cancel else tree.restart_branch)(path, incarnation)
    if reason is None:
        reason = (scheduler.cancel_group if is_cancel else scheduler.restart_group)(path)
    return reason


def _change_setting(scheduler: Scheduler, command: ChangeSetting) -> str:
    """Change a setting of a run that has started; return why that is not possible, or an empty text.

    The event comes before all that follows from the change.
    """
    value: Any = command.value
    if command.key and command.name != "rate":
        return "only a rate has a key"
    rule = SETTINGS.get(command.name)
    if rule is None:
        return f"there is no setting {command.name!r}"
    try:
        rule.check(value)
    except ValueError as error:
        return f"{command.name}: {error}"
    previous: object
    apply: Callable[[], object]
    match command.name:
        case "concurrency":
            if not scheduler.has_slots:
                return "services use no slots"
            previous = scheduler.concurrency
            apply = partial(scheduler.change_slots, value, is_paused=scheduler.is_paused)
        case "paused":
            previous = scheduler.is_paused
            apply = partial(scheduler.change_slots, scheduler.concurrency, is_paused=value)
        case "bad luck":
            previous = scheduler.threshold
            apply = partial(scheduler.change_threshold, None if value is None else float(value))
        case _:  # a rate
            admission = scheduler.admission
            is_default = command.name == "rate per key"
            limit = admission.rate_per_key if is_default else admission.limit(command.key)
            changed, previous = None, None if limit is None else str(limit)
            if value is not None:
                changed, value, previous = change_rate(value, limit)
            change = admission.change_rate_per_key if is_default else partial(admission.change_limit, command.key)
            apply = partial(change, changed)
    scheduler.reporter.setting_changed(command.name, value, previous, command.key, is_undo=command.is_undo)
    apply()
    return ""
