"""What a tree needs of the scheduler that runs its workers."""

from __future__ import annotations

from typing import Protocol

from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.worker import StopReason, Worker, WorkerOwner


class ServiceScheduler(Protocol):
    """Runs incarnations of workers, each for an owner. It knows neither supervisors nor trees."""

    @property
    def reporter(self) -> Reporter:
        """Emits the events of the run."""

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

    def restart_jitter(self, path: str, restart: int) -> float:
        """Return the draw in [0, 1) for the wait before that restart of the child at `path`."""

    def refuse_restart(self, worker: Worker, reason: str = "") -> None:
        """Report why there is no restart: `reason`, or that this incarnation is not the latest."""
