"""Operations: what a person can request for any number of workers, and to which of them it applies. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from asyncwatch.commands import CancelWorker, Command, GiveUp, RestartWorker, RetryNow
from asyncwatch.events import SETTLED, WorkerState
from asyncwatch.model.rows import Row

WAITING = frozenset({WorkerState.BACKING_OFF, WorkerState.WAITING, WorkerState.RESTARTING})
"""States in which a worker waits for its next attempt or incarnation."""
NONE_WAITS = "None of the selected workers is waiting for a retry or a restart."
_ACTIVE = frozenset(WorkerState) - SETTLED
_STARTED = frozenset(WorkerState) - {WorkerState.QUEUED}
_UNSUCCESSFUL = SETTLED - {WorkerState.SUCCEEDED}


class Operation(NamedTuple):
    """A kind of command for any number of workers."""

    verb: str
    key: str
    question: str
    """Its `{}` is replaced by the workers."""
    make: Callable[[Iterable[Row]], Iterator[Command]]
    """Returns the commands for the workers."""
    states: frozenset[WorkerState]
    """States in which it applies to a worker."""
    applies_to: str
    """`states` in words: "that ..."."""
    none: str
    """Notice if it applies to none of many."""
    to_pollers: bool | None = None
    """Whether it applies to pollers between two polls; None if `states` says that too."""

    def applies(self, row: Row) -> bool:
        """Return whether it applies to the worker in its present state."""
        if self.to_pollers is not None and row.is_between_polls:
            return self.to_pollers
        return row.state in self.states

    def on(self, rows: Iterable[Row]) -> Iterator[Command]:
        """Yield the commands for the workers to which it applies by then."""
        return self.make(row for row in rows if self.applies(row))

    def number(self, counts: Mapping[WorkerState, int]) -> int:
        """Return the number of workers to which it applies, by their states."""
        return sum(counts.get(state, 0) for state in self.states)


def _cancel(rows: Iterable[Row]) -> Iterator[Command]:
    return (CancelWorker(row.name, row.incarnation) for row in rows)


def _restart(rows: Iterable[Row]) -> Iterator[Command]:
    return (RestartWorker(row.name, row.incarnation) for row in rows)


def _retry_now(rows: Iterable[Row]) -> Iterator[Command]:
    return (
        (RestartWorker if row.state is WorkerState.RESTARTING else RetryNow)(row.name, row.incarnation) for row in rows
    )


def _give_up(rows: Iterable[Row]) -> Iterator[Command]:
    return (
        (CancelWorker if row.state is WorkerState.RESTARTING else GiveUp)(row.name, row.incarnation) for row in rows
    )


CANCEL = Operation("cancel", "c", "Cancel {}?", _cancel, _ACTIVE, "are active", "All of them have ended.")
RESTART = Operation("restart", "r", "Restart {}?", _restart, _STARTED, "have started", "None of them has started.")
RESTART_UNSUCCESSFUL = Operation(
    "restart", "R", "Restart {}?", _restart, _UNSUCCESSFUL, "did not succeed", "No worker has ended without success."
)
RETRY_NOW = Operation(
    "retry now", "n", "Retry {} now?", _retry_now, WAITING, "are waiting", NONE_WAITS, to_pollers=True
)
GIVE_UP = Operation("give up", "x", "Give up {}?", _give_up, WAITING, "are waiting", NONE_WAITS, to_pollers=False)
