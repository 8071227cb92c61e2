"""Actions of keys on the selected workers: commands, a question before them, or a notice. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from asyncwatch import text as units
from asyncwatch.commands import (
    CancelAll,
    CancelBranch,
    CancelWorker,
    ChangeSetting,
    Command,
    GiveUp,
    GiveUpAll,
    RestartBranch,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.events import SettingChanged, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import Settings
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch, Tree
from asyncwatch.model.view.groups import Cluster
from asyncwatch.model.view.operations import (
    CANCEL,
    GIVE_UP,
    NONE_WAITS,
    RESTART,
    RESTART_UNSUCCESSFUL,
    RETRY_NOW,
    Operation,
)
from asyncwatch.model.view.outline import Line
from asyncwatch.model.view.selection import AT_ONCE, View
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import shown_name
from asyncwatch.ui.render.tree import shown_branch

UNASKED = 20
"""Marked workers on which a key acts without a question."""
_NAMED = 4


class Action(NamedTuple):
    """Result of a key press."""

    commands: Iterable[Command] = ()
    """An iterator makes them lazily, if there are very many."""
    question: str = ""
    """Asked before the commands are sent; empty to send them at once."""
    consequence: str = ""
    """Further effect of a yes, shown below the question."""
    verb: str = ""
    """Label of yes."""
    key: str = ""
    """The key that was pressed. Pressed again, it says yes."""
    highlighted: Sequence[Row] = ()
    """Workers that are highlighted while the question is open."""
    notice: str = ""
    """Shown at once."""


class Selection(NamedTuple):
    """Target of a key: the marked workers, else the line under the cursor."""

    fleet: Fleet
    line: Line | None
    """The row or branch under the cursor."""
    view: View | None = None
    """The view with the marks; None where a page shows one worker."""

    @property
    def branch(self) -> Branch | None:
        """The branch under the cursor; None if workers are marked."""
        return self.line if isinstance(self.line, Branch) and not self.is_marked else None

    @property
    def supervisor(self) -> Branch | None:
        """The branch, if it is a supervisor's and not just a group."""
        return branch if (branch := self.branch) is not None and branch.is_supervisor else None

    @property
    def is_marked(self) -> bool:
        """Whether the key is for marked workers."""
        return self.view is not None and bool(self.view.marks)

    def rows(self) -> list[Row]:
        """Return the workers, in queue order."""
        if self.view is not None and (marked := self.view.marks.rows()):
            return marked
        if isinstance(self.line, Branch):
            return self.fleet.tree.rows_below(self.line)
        return [] if self.line is None else [self.line]


# -- the selected workers


def cancel(selection: Selection) -> Action:
    """Cancel the selected workers, or stop the selected supervisor."""
    branch = selection.supervisor
    if branch is None:
        rows = selection.rows()
        if len(rows) > AT_ONCE:
            return _on_many(selection, rows, CANCEL)
        active = [row for row in rows if not row.is_settled]
        return _on_few(selection, [*CANCEL.make(active or rows)], CANCEL)
    if branch.ending:
        return Action(notice=f"{shown_branch(branch)} has ended.")
    active_workers = units.count(CANCEL.number(branch.counts), "active worker")
    question = f"Stop {shown_branch(branch)} and its {active_workers}?"
    return Action([CancelBranch(branch.path, branch.incarnation)], question, verb="stop", key=CANCEL.key)


def restart(selection: Selection) -> Action:
    """Restart the selected workers, or the selected supervisor as a whole. Ask first if siblings restart too."""
    tree = selection.fleet.tree
    if (branch := selection.supervisor) is not None:
        return _restart_branch(tree, branch)
    selected = selection.rows()
    if len(selected) > AT_ONCE and not tree.is_supervised:
        return _on_many(selection, selected, RESTART)
    rows, refused = _restartable(selected, tree)
    if not rows or not tree.is_supervised:
        return _on_few(selection, [*RESTART.make(rows)], RESTART)._replace(notice=refused)
    requested = tree.to_request(rows)
    commands = [*RESTART.make(requested)]
    siblings, consequence = _siblings(tree, requested, rows)
    if not siblings:
        return _on_few(selection, commands, RESTART, workers=len(rows))._replace(notice=refused)
    workers = names(requested) if len(rows) == 1 else units.count(len(rows), "worker")
    return _asked(RESTART, workers, commands, consequence, siblings, refused)


def _restart_branch(tree: Tree, branch: Branch) -> Action:
    if reason := tree.why_branch_not_restarted(branch):
        return Action(notice=f"{shown_branch(branch)} cannot be restarted: {reason}.")
    rows, siblings = tree.rows_below(branch), tree.restarted_with_branch(branch)
    consequence = _also_restarts(siblings, [branch.parent.strategy]) if siblings and branch.parent is not None else ""
    workers = f"{shown_branch(branch)} and its {units.count(len(rows), 'worker')}"
    return _asked(RESTART, workers, [RestartBranch(branch.path, branch.incarnation)], consequence, [*rows, *siblings])


def retry_now(selection: Selection) -> Action:
    """Let selected workers that wait make their next attempt, or begin their next incarnation, now."""
    return _on_waiting(selection, RETRY_NOW)


def give_up(selection: Selection) -> Action:
    """Let selected workers that wait make no further attempt."""
    return _on_waiting(selection, GIVE_UP)


def _on_waiting(selection: Selection, operation: Operation) -> Action:
    selected = selection.rows()
    if len(selected) > AT_ONCE:
        return _on_many(selection, selected, operation)
    rows = [row for row in selected if operation.applies(row)]
    if not rows:
        return Action(notice=NONE_WAITS)
    action = _on_few(selection, [*operation.make(rows)], operation)
    if operation is GIVE_UP and not action.question:
        them = "it" if len(rows) == 1 else "them"
        return action._replace(notice=f"No further attempt of {names(rows)}. Press r to restart {them}.")
    return action


def _on_few(selection: Selection, commands: Sequence[Command], operation: Operation, workers: int = 0) -> Action:
    """Act on `workers` (by default one a command). Ask first if they are a group, or more than `UNASKED`."""
    workers = workers or len(commands)
    branch = selection.branch
    if branch is not None and workers:
        return _asked(operation, f"{units.count(workers, 'worker')} of {shown_branch(branch)}", commands)
    if workers > UNASKED:
        return _asked(operation, f"{workers:,} marked workers", commands)
    return Action(commands)


def _on_many(selection: Selection, rows: Sequence[Row], operation: Operation) -> Action:
    """Act on very many workers. Their states are checked after the answer, as the commands are made."""
    fleet, branch = selection.fleet, selection.branch
    noun = "worker" if branch is not None else "marked worker"
    of_branch = f" of {shown_branch(branch)}" if branch is not None else ""
    if branch is None and len(rows) < len(fleet.rows):
        workers = f"those of {units.count(len(rows), noun)} that {operation.applies_to}"
    elif number := operation.number(branch.counts if branch is not None else fleet.counts):
        workers = f"{units.count(number, noun)}{of_branch}"
    else:
        return Action(notice=operation.none)
    return _asked(operation, workers, operation.on(rows))


def _asked(
    operation: Operation,
    workers: str,
    commands: Iterable[Command],
    consequence: str = "",
    highlighted: Sequence[Row] = (),
    notice: str = "",
) -> Action:
    """Return the action that asks first; `workers` describes them."""
    question = operation.question.format(workers)
    return Action(commands, question, consequence, operation.verb, operation.key, highlighted, notice)


# -- all workers, or those that the filter matches


def cancel_all(view: View) -> Action:
    """Cancel all active workers, or those that the filter matches."""
    if _is_limited(view):
        return _on_matching(view, CANCEL._replace(key="C"))
    fleet = view.fleet
    active = fleet.workers - fleet.settled
    if not active:
        return Action(notice="No worker is active.")
    return Action([CancelAll()], f"Cancel {units.count(active, 'worker')}?", verb="cancel all", key="C")


def restart_all(view: View) -> Action:
    """Restart all workers that have ended without success, or those that the filter matches."""
    operation, fleet = RESTART_UNSUCCESSFUL, view.fleet
    if _is_limited(view):
        return _on_matching(view, operation)
    if len(fleet.rows) > AT_ONCE and not fleet.tree.is_supervised:
        if not (number := operation.number(fleet.counts)):
            return Action(notice=operation.none)
        workers = f"{units.count(number, 'worker')} that did not succeed"
        return _asked(operation, workers, operation.on(fleet.rows))
    rows = [row for row in fleet.rows if operation.applies(row)]
    return _restart_unsuccessful(fleet.tree, rows, "worker") if rows else Action(notice=operation.none)


def retry_all_now(view: View) -> Action:
    """Let workers that wait make their next attempt, or begin their next incarnation, now: all, or all that match."""
    return _on_all_waiting(view, RETRY_NOW._replace(key="N"), RetryAllNow())


def give_up_all(view: View) -> Action:
    """Let workers that wait make no further attempt: all, or all that the filter matches."""
    return _on_all_waiting(view, GIVE_UP._replace(key="X"), GiveUpAll())


def _on_all_waiting(view: View, operation: Operation, command: Command) -> Action:
    if _is_limited(view):
        return _on_matching(view, operation)
    fleet = view.fleet
    is_supervised = fleet.tree.is_supervised  # only then there are pollers
    number = sum(map(operation.applies, fleet.notable())) if is_supervised else operation.number(fleet.counts)
    if not number:
        return Action(notice="No worker is waiting.")
    # `command` is for workers that wait for an attempt. A service that waits for its incarnation has its own.
    restarting = (row for row in fleet.rows if row.state is WorkerState.RESTARTING)
    commands = [command, *(operation.make(restarting) if fleet.counts[WorkerState.RESTARTING] else ())]
    return _asked(operation, units.count(number, "waiting worker"), commands)


def _is_limited(view: View) -> bool:
    return view.is_filtered or bool(view.query.problem)


def _on_matching(view: View, operation: Operation) -> Action:
    """Act on the workers that the filter matches, shown or not. The question says how many it matches."""
    if problem := view.query.problem:  # the filter shows more than is meant
        return Action(notice=f"The filter is not understood: {problem}. Correct it, or press esc to clear it.")
    fleet, matches = view.fleet, view.matches()
    if matches is None:
        return Action(notice=f"The filter is still looking for its workers. Press {operation.key} again in a moment.")
    of_all = f"The filter matches {len(matches):,} of {units.count(len(fleet.rows), 'worker')}."
    is_restart = operation is RESTART_UNSUCCESSFUL
    if len(matches) > AT_ONCE and not (is_restart and fleet.tree.is_supervised):
        workers = f"those of {len(matches):,} matching workers that {operation.applies_to}"
        return _asked(operation, workers, operation.on(matches), of_all)
    rows = [row for row in matches if operation.applies(row)]
    if not rows:
        return Action(notice=f"The filter matches no workers that {operation.applies_to}.")
    if is_restart:
        return _restart_unsuccessful(fleet.tree, rows, "matching worker", of_all)
    return _asked(operation, units.count(len(rows), "matching worker"), [*operation.make(rows)], of_all)


def _restart_unsuccessful(tree: Tree, unsuccessful: Sequence[Row], noun: str, of_all: str = "") -> Action:
    """Restart those of the workers that can be restarted. Say why others cannot, and which siblings restart too."""
    rows, refused = _restartable(unsuccessful, tree)
    if not rows:
        return Action(notice=refused)
    requested = tree.to_request(rows)
    siblings, consequence = _siblings(tree, requested, rows)
    workers = f"{units.count(len(rows), noun)} that did not succeed"
    consequence = " ".join(filter(None, [of_all, consequence, refused]))
    return _asked(RESTART_UNSUCCESSFUL, workers, [*RESTART.make(requested)], consequence, siblings)


# -- workers of a cluster


def restart_cluster(tree: Tree, cluster: Cluster, which: str) -> Action:
    """Restart the workers of a cluster; `which` follows them in the question: `with this error`."""
    workers = f"{units.count(len(cluster.rows), 'worker')} {which}"
    if len(cluster.rows) > AT_ONCE and not tree.is_supervised:
        return _asked(RESTART, workers, RESTART.on(cluster.rows))
    requested = tree.to_request(cluster.rows)
    _, consequence = _siblings(tree, requested, cluster.rows)
    return _asked(RESTART, workers, [*RESTART.make(requested)], consequence)


def cancel_cluster(cluster: Cluster, which: str) -> Action:
    """Cancel the active workers of a cluster; `which` as in `restart_cluster`."""
    commands: Iterable[Command]
    if len(cluster.rows) > AT_ONCE:
        number, commands = CANCEL.number(cluster.states), CANCEL.on(cluster.rows)
    else:
        active = [row for row in cluster.rows if not row.is_settled]
        number, commands = len(active), [*CANCEL.make(active)]
    if not number:
        return Action(notice=CANCEL.none)
    return _asked(CANCEL, f"{units.count(number, 'worker')} {which}", commands)


# -- settings


def pause(settings: Settings) -> Action:
    """Start no new attempts, or start them again."""
    return Action([ChangeSetting("paused", not settings.is_paused)])


def change_concurrency(fleet: Fleet, direction: int) -> Action:
    """Let about a tenth more (1) or fewer (-1) attempts run at a time."""
    present = concurrency_of(fleet)
    if present is None:
        return Action(notice="A tree has no concurrency limit: all its workers run.")
    concurrency = next_concurrency(present, direction)
    return Action([ChangeSetting("concurrency", concurrency)] if concurrency != present else ())


def concurrency_of(fleet: Fleet) -> int | None:
    """Return how many attempts may run at a time; None before the run starts and for a tree, which has no limit."""
    run = fleet.run
    if run is None or fleet.tree.is_supervised:
        return None
    return int(fleet.settings.value("concurrency", run.concurrency))


def next_concurrency(concurrency: int, direction: int) -> int:
    """Return a tenth more (1) or less (-1), at least 1. A step down takes back a step up."""
    if direction > 0:
        return concurrency + max(1, concurrency // 10)
    return max(1, concurrency - max(1, concurrency // 11))


def undo(settings: Settings) -> Action:
    """Undo the last change of a setting."""
    if (last := settings.last) is None:
        return Action(notice="Nothing to undo: no setting has been changed.")
    command = ChangeSetting(last.name, last.previous, last.key, is_undo=True)
    return Action([command], notice=_undone(last, settings))


def _undone(change: SettingChanged, settings: Settings) -> str:
    earlier = len(settings.history) - 1
    more = f" {units.count(earlier, 'earlier change')} can be undone." if earlier else ""
    if change.name == "paused":
        return f"Undone: {'new attempts start again' if change.value else 'paused again'}.{more}"
    of = f" of {fmt.safe(change.key)}" if change.key else ""
    before, after = (fmt.setting_value(settings.meant(change, value)) for value in (change.previous, change.value))
    return f"Undone: {change.name}{of} is {before} again (was {after}).{more}"


# -- after the answer


def updated(commands: Iterable[Command], fleet: Fleet) -> Iterable[Command]:
    """Return the commands adapted to the time of the answer: for the present incarnations.

    Pointless commands are left out: to cancel an ended worker, to retry or give up a worker that does not wait.
    An iterator makes its commands for the present incarnations anyway.
    """
    if not isinstance(commands, Sequence):
        return commands
    return [present for command in commands if (present := _updated(command, fleet)) is not None]


def _updated(command: Command, fleet: Fleet) -> Command | None:
    if isinstance(command, RestartBranch | CancelBranch):
        branch = fleet.tree.branches.get(command.path)
        return command if branch is None else structs.replace(command, incarnation=branch.incarnation)
    if not isinstance(command, CancelWorker | RestartWorker | RetryNow | GiveUp):
        return command
    row = fleet.get(command.worker)
    if row is None or (isinstance(command, CancelWorker) and row.is_settled):
        return None
    if isinstance(command, RetryNow | GiveUp):
        operation = RETRY_NOW if isinstance(command, RetryNow) else GIVE_UP
        return structs.replace(command, incarnation=row.incarnation) if operation.applies(row) else None
    return structs.replace(command, incarnation=row.incarnation)


# -- words


def _restartable(rows: Iterable[Row], tree: Tree) -> tuple[list[Row], str]:
    """Return the workers that can be restarted, and why the others cannot."""
    able: list[Row] = []
    reasons: dict[str, int] = {}
    for row in rows:
        if reason := tree.why_not_restarted(row):
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            able.append(row)
    parts = (f"{units.count(number, 'worker')} cannot be restarted: {reason}." for reason, number in reasons.items())
    return able, " ".join(parts)


def _siblings(tree: Tree, requested: Sequence[Row], selected: Iterable[Row]) -> tuple[list[Row], str]:
    """Return the unselected workers that restart together with the requested ones, and a sentence on them."""
    known = set(selected)
    siblings = [row for row in tree.restarted_with(requested) if row not in known]
    if not siblings:
        return [], ""
    branches = filter(None, map(tree.branch_of, requested))
    strategies = (branch.strategy for branch in branches if branch.strategy != "one_for_one")
    return siblings, _also_restarts(siblings, strategies)


def _also_restarts(siblings: Sequence[Row], strategies: Iterable[str]) -> str:
    how = ", ".join(sorted(set(strategies)))
    return f"Also restarts {units.count(len(siblings), 'sibling')} ({how}): {names(siblings)}."


def names(rows: Sequence[Row]) -> str:
    """Return the first few names, and how many more there are: `db, cache and 3 more`."""
    shown = [shown_name(row) for row in rows[:_NAMED]]
    more = len(rows) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else ""
