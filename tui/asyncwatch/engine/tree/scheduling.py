"""What a tree needs of the scheduler that runs its workers, and what it reports."""

from __future__ import annotations

import asyncio
from typing import Protocol

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.worker import StopReason, Worker, WorkerOwner
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.restart import RestartWindow


class SupervisorFacts(Protocol):
    """What an event says of a supervisor's specification."""

    @property
    def max_restarts(self) -> int:
        """How many restarts it allows."""

    @property
    def within(self) -> float:
        """In how many seconds."""

    @property
    def auto_shutdown(self) -> str:
        """Whether the end of significant children ends it."""


class RunningSupervisor(Protocol):
    """What an event says of a supervisor that starts."""

    path: str
    parent: str
    incarnation: int

    @property
    def spec(self) -> SupervisorFacts:
        """Its specification."""

    @property
    def strategy(self) -> str:
        """Which children are restarted together."""


class TreeReporter(Protocol):
    """Emits the events about supervisors, and about the children that only they know."""

    def supervisor_started(self, node: RunningSupervisor) -> None:
        """Report that a supervisor begins to start its children."""

    def supervisor_terminated(self, path: str, reason: str) -> None:
        """Report that a supervisor and all its children have ended."""

    def restart_counted(self, path: str, child: str, window: RestartWindow) -> None:
        """Report that a restart counts for the limit of `path`, a supervisor's or the child's own."""

    def restart_limit_reached(self, path: str, window: RestartWindow) -> None:
        """Report that there was one restart too many."""

    def child_removed(self, path: str, child: str) -> None:
        """Report that a supervisor forgot a child."""

    def worker_ready(self, worker: Worker, value: object) -> None:
        """Report that a worker has started."""

    def ready_too_late(self, worker: Worker) -> None:
        """Warn of a worker that says it is ready when it has been taken for that already."""

    def command_refused(self, command: str, worker: str, incarnation: int, reason: str) -> None:
        """Report why a request was not carried out."""


class ServiceScheduler(Protocol):
    """Runs incarnations of workers, each for an owner. It knows neither supervisors nor trees."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the run."""

    @property
    def luck(self) -> Luck:
        """The draws of the run."""

    @property
    def reporter(self) -> TreeReporter:
        """Emits the tree's own events."""

    @property
    def grace(self) -> float:
        """Seconds that a worker may take to end if its spec does not say."""

    def launch(self, spec: WorkerSpec, owner: WorkerOwner) -> Worker:
        """Start a new incarnation of the worker `spec.name`, which is unique in the whole run.

        If starting raises, the incarnation has failed, and `owner` knows when this returns.

        Raises:
            DuplicateName: another worker of that name runs.

        """

    def stop_service(self, worker: Worker, reason: StopReason, patience: float | None = None) -> None:
        """Request that an incarnation ends within `patience` seconds, or as its spec says; the first request counts."""

    def hasten(self, worker: Worker) -> None:
        """Give an incarnation no more time to end."""

    def cancel_again(self, worker: Worker) -> None:
        """Raise `CancelledError` once more in a worker that is cancelling."""

    def hold_restart(self, worker: Worker, delay: float, cause: str) -> None:
        """Mark a settled worker as restarting: another incarnation follows in `delay` seconds."""

    def drop_restart(self, worker: Worker) -> None:
        """Settle a restarting worker: no other incarnation follows after all."""

    def forget(self, name: str) -> None:
        """Drop a settled worker from the registry."""

    def refuse_restart(self, worker: Worker, reason: str = "") -> None:
        """Report why there is no restart: `reason`, or that this incarnation is not the latest."""
