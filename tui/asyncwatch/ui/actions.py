"""From the rows that are meant to the requests for them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from asyncwatch import text as units
from asyncwatch.commands import CancelBranch, CancelWorker, Command, GiveUp, RestartBranch, RestartWorker, RetryNow
from asyncwatch.events import SETTLED, SettingChanged, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.settings import Settings
from asyncwatch.model.tree import Branch, Tree
from asyncwatch.text import mask_secrets
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import shown_name
from asyncwatch.ui.render.header import told

WAITING = frozenset({WorkerState.BACKING_OFF, WorkerState.WAITING, WorkerState.RESTARTING})
"""States in which a worker waits for its next attempt or incarnation."""
Ask = Callable[[Iterable[Row]], Iterator[Command]]
_NAMED = 4
CAME_ON_SCREEN = "The selection was off screen. Press the key again to act on it."
NO_ROOM = "The selection is off screen. Enlarge the terminal to act on it."
NOBODY_WAITS = "It does not wait for anything."
ACTIVE = frozenset(WorkerState) - SETTLED
UNSUCCESSFUL = SETTLED - {WorkerState.SUCCEEDED}


def cancel(rows: Iterable[Row]) -> Iterator[Command]:
    """Yield the requests that cancel the workers."""
    return (CancelWorker(row.name, row.incarnation) for row in rows)


def restart(rows: Iterable[Row]) -> Iterator[Command]:
    """Yield the requests that restart the workers."""
    return (RestartWorker(row.name, row.incarnation) for row in rows)


def retry_now(rows: Iterable[Row]) -> Iterator[Command]:
    """Yield the requests that end the wait of the workers: their next attempt, or incarnation, begins."""
    return (
        (RestartWorker if row.state is WorkerState.RESTARTING else RetryNow)(row.name, row.incarnation) for row in rows
    )


def give_up(rows: Iterable[Row]) -> Iterator[Command]:
    """Yield the requests that end the workers that wait, with no further attempt or incarnation."""
    return (
        (CancelWorker if row.state is WorkerState.RESTARTING else GiveUp)(row.name, row.incarnation) for row in rows
    )


class Deed(NamedTuple):
    """What can be done to very many workers, who are not looked at before it is."""

    verb: str
    key: str
    ask: Ask
    states: frozenset[WorkerState]
    """Whoever is in another state is left out."""
    which: str
    nobody: str
    is_for_pollers: bool = False
    """Whether it is also for pollers that are between two polls, which are running."""

    def is_for(self, row: Row) -> bool:
        """Return whether it can be done to the worker as it is now."""
        return row.state in self.states or (self.is_for_pollers and row.is_between_polls)

    def on(self, rows: Iterable[Row]) -> Iterator[Command]:
        """Yield the requests, for those whom it is for by then."""
        return self.ask(row for row in rows if self.is_for(row))

    def number(self, counts: Mapping[WorkerState, int]) -> int:
        """Return how many it is for, of workers that are counted by state."""
        return sum(counts.get(state, 0) for state in self.states)


CANCEL = Deed("cancel", "c", cancel, ACTIVE, "have not ended", "All of them have ended.")
RESTART = Deed(
    "restart", "r", restart, frozenset(WorkerState) - {WorkerState.QUEUED}, "have started", "None of them has started."
)
RENEW = Deed("restart", "R", restart, UNSUCCESSFUL, "did not succeed", "No worker has ended without success.")
RETRY_NOW = Deed("try", "n", retry_now, WAITING, "wait", "None of them waits.", is_for_pollers=True)
GIVE_UP = Deed("give up", "x", give_up, WAITING, "wait", "None of them waits.")


def restartable(rows: Iterable[Row], tree: Tree) -> tuple[list[Row], str]:
    """Return the rows for which a restart can be asked, and what there is to say of the others, if there are any."""
    able: list[Row] = []
    reasons: dict[str, int] = {}
    for row in rows:
        if reason := tree.why_not_restarted(row):
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            able.append(row)
    parts = (f"{units.count(number, 'worker')} cannot be restarted: {reason}." for reason, number in reasons.items())
    return able, " ".join(parts)


def renewed(
    commands: Iterable[Command],
    find: Callable[[str], Row | None],
    branch_at: Callable[[str], Branch | None] = lambda _path: None,
) -> list[Command]:
    """Return the requests as they are to be after a question was answered: for the incarnations that are there now.

    Left out are those that time has answered: cancelling who has ended, and hurrying who does not wait any more.
    """
    return [present for command in commands if (present := _renewed(command, find, branch_at)) is not None]


def _renewed(
    command: Command, find: Callable[[str], Row | None], branch_at: Callable[[str], Branch | None]
) -> Command | None:
    if isinstance(command, RestartBranch | CancelBranch):
        branch = branch_at(command.path)
        return command if branch is None else structs.replace(command, incarnation=branch.incarnation)
    if not isinstance(command, CancelWorker | RestartWorker | RetryNow | GiveUp):
        return command
    row = find(command.worker)
    if row is None or (isinstance(command, CancelWorker) and row.is_settled):
        return None
    if isinstance(command, RetryNow | GiveUp):
        deed = RETRY_NOW if isinstance(command, RetryNow) else GIVE_UP
        return structs.replace(command, incarnation=row.incarnation) if deed.is_for(row) else None
    return structs.replace(command, incarnation=row.incarnation)


def step(concurrency: int, direction: int) -> int:
    """Return the next number of attempts at a time, a tenth more (1) or less (-1), at least 1.

    A step down takes back a step up.
    """
    if direction > 0:
        return concurrency + max(1, concurrency // 10)
    return max(1, concurrency - max(1, concurrency // 11))


def named(rows: Sequence[Row]) -> str:
    """Return the first few names, and how many more there are: `db, cache and 3 more`."""
    names = [shown_name(row) for row in rows[:_NAMED]]
    more = len(rows) - len(names)
    if more:
        return f"{', '.join(names)} and {more:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def siblings_told(taken: Sequence[Row], strategies: Iterable[str], whom: str = "it") -> str:
    """Return which workers a restart takes along, and by which strategy."""
    how = ", ".join(sorted(set(strategies)))
    return f"{units.count(len(taken), 'sibling')} restarted with {whom} ({how}): {named(taken)}."


def given_up(rows: Sequence[Row]) -> str:
    """Return what was asked of workers that are given up, and how to take that back."""
    one = len(rows) == 1
    return f"{named(rows)} {'gives' if one else 'give'} up; restart (r) starts {'it' if one else 'them'} again."


def undone(change: SettingChanged, settings: Settings) -> str:
    """Return what undoing a change of a setting brings back, and how many changes are left to be undone."""
    left = len(settings.history) - 1
    more = f" {units.count(left, 'change')} before it." if left else ""
    if change.name == "paused":
        return f"Undone: {'new attempts start again' if change.value else 'paused again'}.{more}"
    of = f" of {fmt.clean(mask_secrets(change.key))}" if change.key else ""
    before, after = (told(settings.meant(change, value)) for value in (change.previous, change.value))
    return f"Undone: {change.name}{of} is {before} again (was {after}).{more}"
