"""The workers of a tree: an incarnation with its owner, and all of them by name.

An incarnation is a `TreeWorker` of its own. What an old one that was left behind does later therefore never touches
the one that took its place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from asyncwatch.engine.registry import Roster
from asyncwatch.engine.spec import Outcome
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded


class Owner(Protocol):
    """Who is told of an incarnation of a worker, and asked about it."""

    @property
    def is_ready(self) -> bool:
        """Whether the worker has started."""

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Note that an attempt has run up to its first wait, or has ended before any."""

    def waits(self) -> None:
        """Note that the worker has no attempt running, and has to wait for its next."""

    def poll_ended(self) -> None:
        """Note that a poll has succeeded or failed, and that the next one is to come."""

    def announce(self, value: object) -> None:
        """Note that the worker says it is ready."""

    def ended(self, worker: TreeWorker) -> None:
        """Note that it has settled; `worker.outcome` says how."""

    def was_replaced(self) -> None:
        """Forget the worker: another incarnation takes its place, or it is removed."""

    def cancel(self) -> str:
        """Stop it for a person; return why that is not possible, or an empty text."""

    def restart(self) -> str:
        """Restart it for a person; return why that is not possible, or an empty text."""


class TreeWorker(Worker, eq=False, kw_only=True):
    """One incarnation of a worker of a tree."""

    takes_place: ClassVar[bool] = False
    owner: Owner
    patience: float | None = None
    """Seconds that it may take to end, if not what its spec says."""
    outcome: Outcome | None = None
    ended_between: WorkerEnded | None = None
    """What was reported when it was left behind, if it has ended since and the next incarnation is still to come."""

    @property
    def pays_for_retries(self) -> bool:
        """Always: its supervisor restarts it without being asked."""
        return True


class Company:
    """The workers of a tree by name, and the batch beside it."""

    def __init__(self, batch: Roster) -> None:
        self.tree: dict[str, TreeWorker] = {}
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch) + len(self.tree)

    def get(self, name: str, /) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""
        return self.tree.get(name) or self._batch.get(name)

    def unsettled(self, group: str | None = None) -> Iterator[Worker]:
        """Yield the workers (of a group) that have not settled, the batch first."""
        yield from self._batch.unsettled(group)
        for worker in list(self.tree.values()):
            if not worker.state.is_settled and (group is None or worker.spec.group == group):
                yield worker

    def under_way(self) -> list[Worker]:
        """Return the workers that have not settled, without those of the batch that never had their turn."""
        return [*self._batch.under_way(), *(worker for worker in self.tree.values() if not worker.state.is_settled)]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the latest outcome of each worker that has ended, the batch first."""
        yield from self._batch.outcomes()
        yield from (worker.outcome for worker in self.tree.values() if worker.outcome is not None)

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state, without those that none is in."""
        counts = Counter(self._batch.states())
        counts.update(worker.state.value for worker in list(self.tree.values()))
        return dict(counts)
