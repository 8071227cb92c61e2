"""The state of one run. Pure.

A `Fleet` is folded from the run's events by `reducer.apply`, which alone writes it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from asyncwatch.events import (
    FAILURES,
    TROUBLE,
    AttemptHeld,
    CommandRefused,
    ItemsRead,
    LogRecorded,
    NestedRetriesFound,
    RecordingFailed,
    RestartScheduled,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    WorkerState,
    WorkerUnresponsive,
)
from asyncwatch.events.run import OBSERVED
from asyncwatch.model import history as departed
from asyncwatch.model.history import AttemptHistory, AttemptRecord, DepartedChildren
from asyncwatch.model.hosts import Hosts
from asyncwatch.model.limits import QUEUE_REASONS, Circuits, Keys, Settings
from asyncwatch.model.rows import Row, blocks_of
from asyncwatch.model.services import Polls, Restarts, Services
from asyncwatch.model.statistics import Histogram, LoopWatch, Rate
from asyncwatch.model.tree import Tree
from asyncwatch.policies.limits import SIGNAL_SPREAD
from asyncwatch.policies.restart import DEFAULT_FLAPPING, Flapping

LOGS_KEPT = 10_000
"""Log lines kept, the newest."""
LOG_SIZE_KEPT = 20_000_000
"""Characters of log lines kept, besides the newest line: some programs log whole documents."""
REFUSALS_KEPT = 1_000
WAITS_KEPT = 10_000


class Abandoned(NamedTuple):
    """An incarnation that ignored its cancellation at `asked_at` (seconds since the run started)."""

    event: WorkerUnresponsive
    asked_at: float


class Fleet:
    """The state of one run. Times are in seconds since the run started.

    Args:
        departed_kept: rows kept of removed children that ended well.
        troubled_departed_kept: rows kept of the others.

    """

    def __init__(
        self, *, departed_kept: int = departed.KEPT, troubled_departed_kept: int = departed.TROUBLED_KEPT
    ) -> None:
        # The run.
        self.run: RunStarted | None = None
        self.items_read: ItemsRead | None = None
        self.timed_out: RunTimedOut | None = None
        self.cancel_requested: RunCancelRequested | None = None
        self.stop_requested_at: float | None = None
        """When all workers were last asked to stop, not counting that they were hurried."""
        self.halted: RunHalted | None = None
        self.finished: RunFinished | None = None
        self.not_recorded: RecordingFailed | None = None
        """Why the journal cannot be written at present; None if it can, or if there is none."""
        self.last_seq = -1
        """The `seq` of the last event that was applied."""
        self.events = 0
        """Events applied."""
        self.latest = 0.0
        """The highest `at` of any event."""
        self.left_at: float | None = None
        """When the client left the run, if it did: no event reports that."""

        # Workers.
        self.rows: list[Row] = []
        """Every worker, in queue order. A child that was removed long ago is replaced by a new one."""
        self.rows_to_come = 0
        """Rows that a snapshot has not brought yet. All totals include them."""
        self.by_name: dict[str, Row] = {}
        self.departed = DepartedChildren(departed_kept, troubled_departed_kept)
        self.counts: dict[WorkerState, int] = dict.fromkeys(WorkerState, 0)
        """Workers by state, including those whose row was replaced."""
        self.settled = 0
        """Number of workers that have settled."""
        self.last_settled_at: float | None = None
        """When a worker last settled."""

        # Attempts.
        self.attempts = 0
        """Attempts started, of all incarnations."""
        self.attempt_history = AttemptHistory()
        self.durations = Histogram()
        """Seconds of the attempts that ended by themselves, without injected faults, which measure nothing."""
        self.rate = Rate()
        """Attempts that ended by themselves."""
        self.waits: deque[AttemptHeld | RestartScheduled] = deque(maxlen=WAITS_KEPT)
        """The last attempts that had to wait, and restarts that were scheduled."""
        self.queue_held_by = "place"
        """What workers in the ready queue wait for: `place` (a slot), `rate` or `paused`."""
        self.stacks: dict[str, str] = {}
        """The last traceback of each worker that had one."""
        self.cancel_reasons: dict[str, str] = {}
        """Why the present incarnation of a worker was asked to stop, if it was."""
        self.cancel_requested_at: dict[str, float] = {}
        self.abandoned_incarnations: dict[tuple[str, int], Abandoned] = {}
        """By worker and incarnation: abandoned ones that have not ended, oldest first."""

        # Everything else.
        self.tree = Tree(self.rows)
        self.restarts = Restarts()
        self.polls = Polls()
        self.circuits = Circuits()
        self.hosts = Hosts()
        self.keys = Keys()
        self.settings = Settings()
        self.loop = LoopWatch()
        self.nested_retries: list[NestedRetriesFound] = []
        """Targets that retry by themselves: retries multiply."""
        self.refusals: deque[CommandRefused] = deque(maxlen=REFUSALS_KEPT)
        """The last refused commands."""
        self.refused = 0
        """All refused commands."""
        self.logs: deque[LogRecorded] = deque()
        """The newest log lines."""
        self.log_size = 0
        """Characters of `logs`."""
        self.logged = 0
        """All log lines, including those that are not kept."""

    # -- the run

    @property
    def workers(self) -> int:
        """Number of workers so far, including those whose row was replaced or is still to come."""
        return len(self.rows) + self.rows_to_come + self.departed.replaced

    @property
    def forgets(self) -> bool:
        """Whether old rows of the batch are given to new workers."""
        return self.run is not None and self.run.rows_kept is not None

    @property
    def is_observed(self) -> bool:
        """Whether the workers are tasks that a program has made by itself, which are not supervised."""
        return self.run is not None and self.run.runner == OBSERVED

    @property
    def is_reading(self) -> bool:
        """Whether more workers may join while items are read, so that their total is unknown."""
        reads_items = self.run is not None and self.run.reads_items
        return reads_items and self.items_read is None and self.finished is None

    @property
    def is_settled(self) -> bool:
        """Whether there are workers and all of them have settled. None needs to have come if all items were read."""
        return not self.is_reading and self.settled == self.workers and (bool(self.rows) or self.items_read is not None)

    @property
    def settled_at(self) -> float | None:
        """When the last active worker settled; None while one is active."""
        return self.last_settled_at if self.is_settled else None

    @property
    def end(self) -> float:
        """When the last worker settled; else when the run finished or was left, or its latest event."""
        if (settled_at := self.settled_at) is not None:
            return settled_at
        if self.finished is not None:
            return self.finished.elapsed
        return max(self.latest, self.left_at or 0.0)

    @property
    def has_own_failures(self) -> bool:
        """Whether any worker ended badly, except workers that failed by the signal that stopped the run."""
        bad = sum(self.counts[state] for state in TROUBLE if state.is_settled)
        stop = math.inf if self.stop_requested_at is None else self.stop_requested_at - SIGNAL_SPREAD
        by_signal = sum(row.state in FAILURES and (row.ended_at or 0.0) >= stop for row in self.notable())
        return bad > by_signal

    @property
    def lost_results(self) -> int:
        """Number of workers that succeeded with a result that JSON cannot hold."""
        return sum(row.is_result_lost for row in self.notable())

    def services(self, now: float | None = None) -> Services:
        """Return the workers that have a supervisor, without those of a batch beside or below it.

        `now` is in seconds since the run started, by default the time of the latest event.
        """
        now = self.latest if now is None else now
        counts: Counter[WorkerState] = Counter()
        for branch in self.tree.branches.values():
            if branch.is_supervisor and branch.parent is None:
                counts.update(branch.counts)
            elif not branch.is_supervisor and branch.parent is not None:
                counts.subtract(branch.counts)
        to_come, newest = 0, self.tree.newest
        if newest is not None and self.run is not None and self.cancel_requested is None and not self.tree.ending:
            to_come = max(0, self.run.workers - self.workers)
        is_starting = to_come and newest is not None and not newest.is_ready and not newest.is_settled
        flapping = [row for row in self.rows_of(self.restarts.flaps_until) if self.is_flapping(row, now)]
        recovering = set(self._recovering(now)).difference(flapping)
        shaky = len(recovering) + sum(row.state is WorkerState.RUNNING for row in flapping)
        up = counts[WorkerState.RUNNING] - shaky
        return Services(counts, to_come, newest if is_starting else None, len(flapping), len(recovering), up)

    def is_flapping(self, row: Row, now: float) -> bool:
        """Return whether a service crashes again and again, and is or will be restarted."""
        return self.restarts.flaps(row.name, now) and not row.is_settled

    def flapping_by_branch(self, now: float) -> Counter[str]:
        """Return how many services flap below each supervisor, by its path."""
        numbers: Counter[str] = Counter()
        for row in self.rows_of(self.restarts.flaps_until):
            branch = self.tree.branches.get(row.group) if self.is_flapping(row, now) else None
            while branch is not None:
                numbers[branch.path] += 1
                branch = branch.parent
        return numbers

    def is_recovering(self, row: Row, now: float) -> bool:
        """Return whether a running service was restarted, and has not run for long enough to count as up."""
        since = self.restarts.latest.get(row.name)
        is_new = since is not None and since > now - self.flapping.stable
        return is_new and row.state is WorkerState.RUNNING and self.tree.is_service(row)

    @property
    def flapping(self) -> Flapping:
        """When a service of the run flaps."""
        return DEFAULT_FLAPPING if self.run is None or self.run.flapping is None else self.run.flapping

    def _recovering(self, now: float) -> Iterator[Row]:
        for name in reversed(self.restarts.latest):
            if self.restarts.latest[name] <= now - self.flapping.stable:
                return
            row = self.by_name.get(name)
            if row is not None and self.is_recovering(row, now):
                yield row

    def rows_of(self, names: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of these workers, without those that have none."""
        return (row for name in names if (row := self.by_name.get(name)) is not None)

    @property
    def abandoned(self) -> int:
        """Number of abandoned incarnations that have not ended."""
        return len(self.abandoned_incarnations)

    def notable(self) -> Iterator[Row]:
        """Yield all rows that have an error, wait, or have another attempt to come, and some others, in queue order.

        Blocks of workers that just succeed are skipped: of a million rows few are left.
        """
        for block, span in blocks_of(self.rows):
            if block.has_extras:
                yield from self.rows[span]

    # -- one worker

    def get(self, name: str) -> Row | None:
        """Return the row of the worker, None if there is no such worker."""
        return self.by_name.get(name)

    def history(self, name: str) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts of all incarnations, oldest first, without the `attempts_left_out`."""
        row = self.by_name.get(name)
        return self.attempt_history.of(row) if row is not None else ()

    def attempts_left_out(self, name: str) -> int:
        """Return how many attempts are missing in the worker's `history`, after the first `FIRST_KEPT`."""
        return self.attempt_history.left_out(name)

    def waits_of(self, name: str) -> tuple[AttemptHeld | RestartScheduled, ...]:
        """Return the worker's kept waits and scheduled restarts, oldest first."""
        return tuple(wait for wait in self.waits if wait.worker == name)

    def held_by(self, row: Row) -> str:
        """Return what a waiting worker waits for: a reason of `AttemptHeld`, and the key if there is one.

        Empty for a worker that does not wait. Workers in the ready queue wait for what the queue does.
        """
        return self.queue_held_by if row.held in QUEUE_REASONS else row.held

    def stack(self, name: str) -> str:
        """Return the worker's last traceback without its last line, the error; empty if there is none."""
        return self.stacks.get(name, "")

    def cancel_reason(self, name: str) -> str:
        """Return why the present incarnation was asked to stop, empty if it was not."""
        return self.cancel_reasons.get(name, "")

    def abandoned_of(self, name: str) -> tuple[Abandoned, ...]:
        """Return the worker's abandoned incarnations that have not ended, oldest first."""
        return tuple(each for each in self.abandoned_incarnations.values() if each.event.worker == name)

    def logs_of(self, name: str) -> tuple[LogRecorded, ...]:
        """Return the worker's kept log lines, oldest first."""
        return tuple(log for log in self.logs if log.worker == name)
